"""The language model policy: log-probabilities do not depend on how rows are batched, and are the sampler's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from nextstep_agents.batch import Batch
from nextstep_agents.engines.transformers import TransformersEngine
from nextstep_agents.policies.dialogue import Dialogue
from nextstep_agents.policies.layout import lay_out
from nextstep_agents.policies.llm import LLMPolicy
from nextstep_envs.errors import ConfigError
from tests.agents.rows import ragged_batch


def plain(policy: LLMPolicy) -> LLMPolicy:
    """The same model without shared prefixes: right-padded rows through the unmodified Hugging Face forward pass."""
    return LLMPolicy(policy.model, policy.tokenizer, replace(policy.settings, share_prefix=False))


def by_hand(policy: LLMPolicy, batch: Batch, row: int, temperature: float) -> torch.Tensor:
    """Log-probabilities of one row alone, through the whole model with all its logits."""
    tokens = batch.tokens[row : row + 1, : int(batch.inputs["lengths"][row])]
    logp = (policy.model(input_ids=tokens).logits / temperature).log_softmax(-1)
    picked = logp[0, :-1].gather(1, tokens[0, 1:, None])[:, 0]
    return torch.cat([torch.zeros(1), picked]) * batch.action[row, : tokens.shape[1]]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_a_row_alone_padded_or_with_a_shared_prefix_has_the_same_log_probabilities(
    policy: LLMPolicy, messages: list[str], temperature: float
) -> None:
    batch = ragged_batch(policy, messages)
    shared, shared_entropy = policy.log_probs(batch, temperature)
    padded, padded_entropy = plain(policy).log_probs(batch, temperature)
    torch.testing.assert_close(shared, padded, atol=1e-5, rtol=0)
    torch.testing.assert_close(shared_entropy, padded_entropy, atol=1e-5, rtol=0)
    for row in range(len(batch)):
        alone = by_hand(policy, batch, row, temperature)
        torch.testing.assert_close(shared[row, : len(alone)], alone, atol=1e-5, rtol=0)
        assert not shared[row][~batch.action[row]].any()


def test_the_gradient_of_shared_prefixes_is_that_of_padded_rows(policy: LLMPolicy, messages: list[str]) -> None:
    batch = ragged_batch(policy, messages)
    weights = torch.randn(batch.tokens.shape, generator=torch.Generator().manual_seed(0))
    gradients = []
    for each in (policy, plain(policy)):
        policy.model.zero_grad()
        (each.log_probs(batch)[0] * weights).sum().backward()
        gradients.append([p.grad.clone() for p in policy.model.parameters()])
    for ours, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, reference, atol=1e-5 * float(reference.abs().max()), rtol=1e-4)


@pytest.mark.parametrize("share_prefix", [True, False])
@pytest.mark.parametrize("head_chunk", [3, 8192])
def test_only_action_tokens_are_targets(
    policy: LLMPolicy, messages: list[str], share_prefix: bool, head_chunk: int
) -> None:
    batch = ragged_batch(policy, messages)
    chunked = LLMPolicy(
        policy.model, policy.tokenizer, replace(policy.settings, share_prefix=share_prefix, head_chunk=head_chunk)
    )
    policy.model.zero_grad()
    chunked.log_probs(batch)[0].sum().backward()
    ours = [p.grad.clone() for p in policy.model.parameters()]
    policy.model.zero_grad()
    sum(by_hand(policy, batch, row, 1.0).sum() for row in range(len(batch))).backward()
    for mine, parameter in zip(ours, policy.model.parameters(), strict=True):
        scale = float(parameter.grad.abs().max())
        torch.testing.assert_close(mine, parameter.grad, atol=1e-5 * scale, rtol=1e-4)


def test_padding_is_no_token_id(policy: LLMPolicy, messages: list[str]) -> None:
    """With pad == stop token, stop tokens inside and at the end of a row still count, and padding never does."""
    batch = ragged_batch(policy, messages)
    stop = policy.dialogue.stop
    inside = torch.arange(batch.tokens.shape[1]) < batch.inputs["lengths"][:, None]
    padded = replace(batch, tokens=torch.where(inside, batch.tokens, stop))
    logp, _ = policy.log_probs(batch)
    torch.testing.assert_close(policy.log_probs(padded)[0], logp, atol=0, rtol=0)
    stops = (padded.tokens == stop) & batch.action
    assert int(stops.sum()) == 9  # one for each answer, the last of its row included
    assert bool((logp[stops] < 0).all())
    policy.model.zero_grad()
    logp[stops].sum().backward()
    assert float(policy.model.get_input_embeddings().weight.grad[stop].abs().sum()) > 0


def test_the_sampler_reports_what_the_trainer_computes(policy: LLMPolicy, messages: list[str]) -> None:
    prompts = [policy.dialogue.opening(messages[i // 3]) + [7] * (i % 2) for i in range(9)]
    engine = TransformersEngine(policy.model, policy.dialogue.stop)
    group = [i // 3 for i in range(9)]
    sampled = engine.generate(prompts, group, 12, temperature=0.7, seed=1)
    lengths = torch.tensor([len(p) + len(c.tokens) for p, c in zip(prompts, sampled, strict=True)])
    batch = ragged_batch(policy, messages)
    width = int(lengths.max())
    tokens, reported = torch.zeros(9, width, dtype=torch.long), torch.zeros(9, width)
    action = torch.zeros(9, width, dtype=torch.bool)
    for row, (prompt, completion) in enumerate(zip(prompts, sampled, strict=True)):
        tokens[row, : lengths[row]] = torch.tensor(prompt + completion.tokens)
        action[row, len(prompt) : lengths[row]] = True
        reported[row, len(prompt) : lengths[row]] = torch.tensor(completion.logprobs)
    batch = replace(
        batch, tokens=tokens, action=action, logprobs=reported, group=torch.tensor(group), inputs={"lengths": lengths}
    )
    torch.testing.assert_close(policy.log_probs(batch, 0.7)[0], reported, atol=1e-4, rtol=0)
    wrong = policy.log_probs(batch, 1.0)[0].detach()
    assert float((wrong - reported).abs().max()) > 1e-2


def test_samples_follow_the_models_distribution(policy: LLMPolicy, messages: list[str]) -> None:
    prompt = policy.dialogue.opening(messages[0])
    engine = TransformersEngine(policy.model, policy.dialogue.stop, max_rows=1000)
    drawn = engine.generate([prompt] * 4000, [0] * 4000, 1, temperature=0.5, seed=3)
    counts = torch.bincount(torch.tensor([c.tokens[0] for c in drawn]), minlength=len(policy.tokenizer))
    with torch.no_grad():
        expected = (policy.model(input_ids=torch.tensor([prompt])).logits[0, -1] / 0.5).softmax(-1)
    assert float((counts / 4000 - expected).abs().sum()) / 2 < 0.2  # total variation; 4,000 draws of some 400 tokens
    top = int(expected.argmax())
    assert counts[top] / 4000 == pytest.approx(float(expected[top]), abs=0.03)


def test_temperature_zero_takes_the_likeliest_token_and_equal_seeds_sample_alike(
    policy: LLMPolicy, messages: list[str]
) -> None:
    prompts = [policy.dialogue.opening(m) for m in messages[:4]]
    engine = TransformersEngine(policy.model, policy.dialogue.stop)
    greedy = engine.generate(prompts, [0, 1, 2, 3], 5, temperature=0.0, seed=0)
    for prompt, completion in zip(prompts, greedy, strict=True):
        for position, token in enumerate(completion.tokens):
            with torch.no_grad():
                logits = policy.model(input_ids=torch.tensor([prompt + completion.tokens[:position]])).logits
            assert int(logits[0, -1].argmax()) == token
    once, again, other = (engine.generate(prompts, [0, 1, 2, 3], 5, 1.0, seed) for seed in (5, 5, 6))
    assert once == again != other


def test_grouped_query_attention_and_saved_folders(policy: LLMPolicy, messages: list[str], tmp_path: Path) -> None:
    """An existing model folder, with fewer key and value heads than query heads, works like a new model."""
    config = LlamaConfig(
        vocab_size=len(policy.tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=3,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "model")
    policy.tokenizer.save_pretrained(tmp_path / "model")
    grouped = LLMPolicy.new(replace(policy.settings, path=str(tmp_path / "model")), [], seed=0)
    batch = ragged_batch(grouped, messages)
    torch.testing.assert_close(grouped.log_probs(batch)[0], plain(grouped).log_probs(batch)[0], atol=1e-5, rtol=0)
    loaded = LLMPolicy.load(grouped.save(tmp_path / "saved"))
    torch.testing.assert_close(loaded.log_probs(batch)[0], grouped.log_probs(batch)[0], atol=0, rtol=0)
    assert not list((tmp_path / "saved").glob("*.bin")) and list((tmp_path / "saved").glob("*.safetensors"))
    assert loaded.dialogue.opening(messages[3]) == policy.dialogue.opening(messages[3])


def test_a_missing_folder_is_named(policy: LLMPolicy, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        LLMPolicy.new(replace(policy.settings, path="nowhere"), [], seed=0)
    with pytest.raises(ConfigError, match="policy.json"):
        LLMPolicy.load(tmp_path)


def test_the_layout_computes_a_shared_prefix_once(policy: LLMPolicy, messages: list[str]) -> None:
    batch = ragged_batch(policy, messages)
    lengths, first = batch.inputs["lengths"], batch.action.int().argmax(1)
    layout = lay_out(batch.tokens, lengths, batch.group, first - 1)
    prefixes = sum(int(first[row]) - 1 for row in (0, 3, 4))
    assert len(layout.tokens) == prefixes + int((lengths - first + 1).sum())
    for row, token in ((1, int(first[1])), (5, int(lengths[5]) - 1)):
        packed = int(layout.offset[row]) + token
        assert layout.tokens[packed] == batch.tokens[row, token] and layout.positions[packed] == token


def test_spelled_out_special_tokens_stay_text(policy: LLMPolicy) -> None:
    text = "say <|end|> now <|answer|>"
    ids = policy.dialogue.encode(text)
    assert not set(ids) & set(policy.tokenizer.all_special_ids)
    assert policy.dialogue.decode(ids) == text
    assert policy.dialogue.decode(policy.dialogue.answer("é {}")) == "é {}"


def test_a_template_that_rewrites_earlier_turns_is_refused(policy: LLMPolicy) -> None:
    template = policy.tokenizer.chat_template
    try:
        policy.tokenizer.chat_template = "{% for m in messages %}{{ loop.length }}{{ m.content }}<|end|>{% endfor %}"
        with pytest.raises(ConfigError, match="changes earlier turns"):
            Dialogue.of(policy.tokenizer)
        policy.tokenizer.chat_template = template.replace("<|end|>", "\n")
        with pytest.raises(ConfigError, match="special token"):
            Dialogue.of(policy.tokenizer)
        policy.tokenizer.chat_template = ""
        with pytest.raises(ConfigError, match="no chat template"):
            Dialogue.of(policy.tokenizer)
    finally:
        policy.tokenizer.chat_template = template
