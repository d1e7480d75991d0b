#!/bin/sh
# Makes .venv-omnisafe (1.5 GB), in which benchmarks/omnisafe trains omnisafe on our problems; once.
#
# omnisafe 0.5.0 pins pandas 2.0.3 and needs safety-gymnasium, which does not install on Python 3.11. So first comes
# what it imports, with any pandas and without safety-gymnasium, then omnisafe by itself. The benchmark puts an empty
# module in the place of safety-gymnasium: our problems need none of its environments. torch, numpy, scipy and Gymnasium
# are those of constraints.txt, so that both sides of a comparison run on the same ones.
# PYTHON: the interpreter to make it with, 3.11 or newer.
set -eu

ROOT=$(cd "$(dirname "$0")/.." && pwd)
VENV=$ROOT/.venv-omnisafe
[ ! -e "$VENV/.installed" ] || exit 0

[ -x "$VENV/bin/python" ] || "${PYTHON:-python3.11}" -m venv "$VENV"
pip="$VENV/bin/python -m pip install --disable-pip-version-check -q -c $ROOT/constraints.txt"
$pip "$(grep '^torch==' "$ROOT/constraints.txt")" # first and alone: a CPU build stays
$pip numpy scipy gymnasium pettingzoo tensorboard wandb pyyaml moviepy typer rich seaborn pandas matplotlib gdown
$pip --no-deps omnisafe==0.5.0
touch "$VENV/.installed"
