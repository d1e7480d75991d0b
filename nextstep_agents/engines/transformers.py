"""Batched generation with a Hugging Face model in this process: the prompt of a group is computed once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from nextstep_agents.engines.types import Completion
from nextstep_agents.policies.attention import shared_prefix
from nextstep_agents.policies.layout import Layout, lay_out
from nextstep_agents.policies.llm import read


class TransformersEngine:
    """Samples from the model's own distribution: no top-p, top-k or penalties, which would bias training.

    Args:
        model: the network, shared with the trainer, so that there is nothing to synchronise.
        stop: the token that ends an answer.
        max_rows: rows computed at once.
    """

    def __init__(self, model: PreTrainedModel, stop: int, max_rows: int = 256) -> None:
        self.model, self.stop, self.max_rows = model, stop, max_rows

    @torch.inference_mode()
    def generate(
        self, prompts: Sequence[Sequence[int]], group: Sequence[int], max_new_tokens: int, temperature: float, seed: int
    ) -> list[Completion]:
        """Continue every prompt; see `Engine`."""
        generator = torch.Generator(self.model.device).manual_seed(seed)
        result: list[Completion] = []
        for begin in range(0, len(prompts), self.max_rows):
            part = slice(begin, begin + self.max_rows)
            result += self._generate(prompts[part], group[part], max_new_tokens, temperature, generator)
        return result

    def _generate(
        self,
        prompts: Sequence[Sequence[int]],
        group: Sequence[int],
        max_new_tokens: int,
        temperature: float,
        generator: torch.Generator,
    ) -> list[Completion]:
        device = self.model.device
        lengths = torch.tensor([len(p) for p in prompts])
        tokens = torch.zeros(len(prompts), int(lengths.max()), dtype=torch.long)
        for row, prompt in enumerate(prompts):
            tokens[row, : len(prompt)] = torch.tensor(prompt)
        tokens, lengths = tokens.to(device), lengths.to(device)
        layout = lay_out(tokens, lengths, torch.tensor(group, device=device), lengths - 1)
        sampled, logprobs = self._decode(layout, max_new_tokens, temperature, generator)
        sampled, logprobs = sampled[layout.slot].cpu(), logprobs[layout.slot].cpu()

        result = []
        for row in range(len(prompts)):
            line: list[int] = sampled[row].tolist()
            ended = self.stop in line
            size = line.index(self.stop) + 1 if ended else len(line)
            result.append(Completion(line[:size], logprobs[row, :size].tolist(), "end" if ended else "length"))
        return result

    def _decode(
        self, layout: Layout, max_new_tokens: int, temperature: float, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Sampled tokens and their log-probabilities, [slots, steps]; what follows a stop token is meaningless."""
        decoder, head = self.model.get_decoder(), self.model.get_output_embeddings()
        packed, shared = read(self.model, layout, capacity=max_new_tokens)
        last = layout.rest.gather(1, layout.rest_lengths[:, None] - 1)[:, 0]
        hidden, position = packed[last], layout.start + layout.rest_lengths

        sampled, logprobs = [], []
        open_ = torch.ones(len(hidden), dtype=torch.bool, device=hidden.device)
        with shared_prefix(self.model):
            for step in range(max_new_tokens):
                logp = F.log_softmax(head(hidden).float() / (temperature or 1.0), -1)
                token = _draw(logp, generator) if temperature else logp.argmax(-1, keepdim=True)
                sampled.append(token[:, 0])
                logprobs.append(logp.gather(1, token)[:, 0])
                open_ &= token[:, 0] != self.stop
                if step + 1 == max_new_tokens or not bool(open_.any()):
                    break
                shared.grow()
                output = decoder(
                    input_ids=token, position_ids=(position + step)[:, None], use_cache=False, shared=shared
                )
                hidden = output.last_hidden_state[:, 0]
        return torch.stack(sampled, 1), torch.stack(logprobs, 1)


def _draw(logp: Tensor, generator: torch.Generator) -> Tensor:
    """One token a row, [rows, 1], by inverting the distribution function: several times faster than multinomial."""
    cumulative = logp.exp().double().cumsum(-1)
    shape = (len(logp), 1)
    uniform = torch.rand(shape, generator=generator, device=logp.device, dtype=torch.float64)
    token = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)
    return token.clamp(max=logp.shape[-1] - 1)
