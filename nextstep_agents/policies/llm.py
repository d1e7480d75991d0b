"""A causal language model as a policy: log-probabilities for training, `predict` for acting."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from nextstep_agents.batch import Batch
from nextstep_agents.policies.attention import SharedPrefix, shared_prefix
from nextstep_agents.policies.dialogue import Dialogue
from nextstep_agents.policies.layout import Layout, lay_out
from nextstep_agents.policies.tokenizer import train_tokenizer
from nextstep_envs.errors import ConfigError


@dataclass(frozen=True)
class LLMSettings:
    """A new small language model, or an existing one.

    Attributes:
        path: a Hugging Face model folder to start from; "" builds a new model from the sizes below.
        vocab_size, hidden_size, intermediate_size, layers, heads: sizes of a new Llama architecture.
        max_positions: the longest conversation in tokens.
        max_new_tokens: the longest answer in tokens.
        share_prefix: compute what rows of a group have in common once.
        head_chunk: action tokens per slice of the output layer, which bounds memory.
    """

    path: str = ""
    vocab_size: int = 1024
    hidden_size: int = 128
    intermediate_size: int = 352
    layers: int = 2
    heads: int = 4
    max_positions: int = 2048
    max_new_tokens: int = 128
    share_prefix: bool = True
    head_chunk: int = 8192

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, int) and not isinstance(value, bool) and value <= 0:
                raise ConfigError(f"{name}={value!r} must be a whole number > 0")
        if self.hidden_size % (2 * self.heads):
            raise ConfigError(f"hidden_size={self.hidden_size} must be a multiple of twice heads={self.heads}")


class LLMPolicy:
    """A Hugging Face causal language model that answers messages with text actions.

    Attributes:
        model: the network.
        dialogue: tokens around messages, from the tokenizer's chat template.
        settings: sizes and limits.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: Any, settings: LLMSettings) -> None:
        self.model = model.eval()  # no dropout: the sampler and the trainer must see the same network
        self.tokenizer, self.settings = tokenizer, settings
        self.dialogue = Dialogue.of(tokenizer)

    @classmethod
    def new(cls, settings: LLMSettings, texts: Iterable[str], seed: int) -> LLMPolicy:
        """A model with random weights and a tokenizer trained on `texts`, or the one at `settings.path`."""
        if settings.path:
            return cls.from_folder(settings.path, settings)
        tokenizer = train_tokenizer(texts, settings.vocab_size)
        config = LlamaConfig(
            vocab_size=len(tokenizer),  # at most settings.vocab_size: the text may not have so many pieces
            hidden_size=settings.hidden_size,
            intermediate_size=settings.intermediate_size,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.heads,
            num_key_value_heads=settings.heads,
            max_position_embeddings=settings.max_positions,
            tie_word_embeddings=True,
            initializer_range=settings.hidden_size**-0.5 / 2,  # the usual 0.02 is for widths of thousands
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
        )
        with torch.random.fork_rng(devices=[]):  # transformers initialises from the global generator
            torch.manual_seed(seed)
            model = LlamaForCausalLM(config)
        return cls(model, tokenizer, settings)

    @classmethod
    def from_folder(cls, path: str | Path, settings: LLMSettings) -> LLMPolicy:
        """A model in Hugging Face format (config.json, *.safetensors, tokenizer.json)."""
        if not (Path(path) / "config.json").exists():
            raise ConfigError(f"model path {str(path)!r} has no config.json; give a Hugging Face model folder")
        model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, use_safetensors=True)
        return cls(model, AutoTokenizer.from_pretrained(path), settings)

    def save(self, path: str | Path) -> Path:
        """Write a Hugging Face model folder (safetensors) with our settings beside it."""
        folder = Path(path)
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        (folder / "policy.json").write_text(json.dumps({"policy": "llm", **asdict(self.settings)}, indent=1) + "\n")
        return folder

    @classmethod
    def load(cls, path: str | Path, device: str = "cpu") -> LLMPolicy:
        """Read what `save` wrote."""
        file = Path(path) / "policy.json"
        if not file.exists():
            raise ConfigError(f"no saved policy at {str(path)!r}: {file.name} is missing")
        stored = json.loads(file.read_text())
        kind = stored.pop("policy")
        if kind != "llm":
            raise ConfigError(f"{file} holds a policy of kind {kind!r}, not 'llm'")
        policy = cls.from_folder(path, LLMSettings(**stored))
        policy.model.to(device)
        return policy

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = next(self.model.parameters()).device
        return device

    def log_probs(
        self, batch: Batch, temperature: float = 1.0, entropy_gradient: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Log-probability and entropy (nats) of every action token under the sampling temperature, both [B, T].

        Zero where there is no action token. The output layer runs on action tokens only.
        """
        rows, columns = batch.action.nonzero(as_tuple=True)
        lengths = batch.inputs["lengths"]
        if self.settings.share_prefix:
            first = batch.action.int().argmax(1)
            layout = lay_out(batch.tokens, lengths, batch.group, first - 1)
            hidden = read(self.model, layout)[0].index_select(0, layout.offset[rows] + columns - 1)
        else:
            seen = torch.arange(batch.tokens.shape[1], device=self.device) < lengths[:, None]
            output = self.model.get_decoder()(input_ids=batch.tokens, attention_mask=seen.long(), use_cache=False)
            hidden = output.last_hidden_state[rows, columns - 1]
        picked, entropy = self._head(hidden, batch.tokens[rows, columns], temperature, entropy_gradient)
        blank = torch.zeros(batch.tokens.shape, dtype=picked.dtype, device=picked.device)
        return blank.index_put((rows, columns), picked), blank.index_put((rows, columns), entropy)

    def _head(self, hidden: Tensor, targets: Tensor, temperature: float, grad: bool) -> tuple[Tensor, Tensor]:
        head, chunk = self.model.get_output_embeddings(), self.settings.head_chunk

        def piece(h: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
            logp = F.log_softmax(head(h).float() / temperature, -1)
            with torch.set_grad_enabled(grad and torch.is_grad_enabled()):
                entropy = -(logp.exp() * logp).sum(-1)
            return logp.gather(1, target[:, None])[:, 0], entropy

        if len(targets) <= chunk:
            return piece(hidden, targets)
        # Recomputed in the backward pass: only one chunk of logits is ever alive.
        parts = [
            torch.utils.checkpoint.checkpoint(piece, h, t, use_reentrant=False)
            for h, t in zip(hidden.split(chunk), targets.split(chunk), strict=True)
        ]
        return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])


def read(model: PreTrainedModel, layout: Layout, capacity: int = 0) -> tuple[Tensor, SharedPrefix]:
    """Hidden states of the packed tokens, [M, hidden], and what generation goes on from (if it has `capacity`)."""
    shared = SharedPrefix(layout, capacity)
    with shared_prefix(model):
        output = model.get_decoder()(
            input_ids=layout.tokens[None], position_ids=layout.positions[None], use_cache=False, shared=shared
        )
    return output.last_hidden_state[0], shared
