"""TRL's GRPO trains on our tools as they are: every protocol, outages left out, and it learns what can be learned."""

from __future__ import annotations

import inspect
import math
import random
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest

import registry
from tests.compat import tier_routing
from tests.compat.support import ORCHESTRATION, STEPS, library

library("trl", "trl")

import torch  # noqa: E402  (these come with TRL)
from datasets import Dataset  # noqa: E402
from transformers import TrainerCallback  # noqa: E402
from trl import GRPOConfig, GRPOTrainer  # noqa: E402
from trl.chat_template_utils import add_response_schema, parse_response, qwen3_chat_template  # noqa: E402

from tests.compat import tiny_chat  # noqa: E402
from tests.wrappers.interfaces.calls import CALLS  # noqa: E402
from wrappers.interfaces.trl import TOOLS, TabularTools, Tools, task_rows, trl_environment  # noqa: E402

GENERATIONS = 4
VALUES: dict[Any, Any] = {
    str: "7",
    int: 7,
    list[str]: ["0", "last"],
    str | None: "{task}",
    float | None: 0.5,
    list[str] | None: [],
}


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, one thread, and no word on what is experimental."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    torch.set_num_threads(1)


def settings(folder: Path, **changes: Any) -> GRPOConfig:
    usual: dict[str, Any] = {
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "num_generations": GENERATIONS,
        "per_device_train_batch_size": 4 * GENERATIONS,
        "max_completion_length": 400,
        "max_tool_calling_iterations": 6,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    return GRPOConfig(str(folder), **(usual | changes))


def talker(env_id: str) -> tuple[Any, Any]:
    """A model that makes one of eight calls at random, and its tokenizer."""
    protocol = next(entry.protocol for entry in registry.entries() if entry.id == env_id)
    environment, rng, talks = trl_environment(env_id)(), random.Random(0), []
    made = [CALLS[protocol](rng) for _ in range(60)]
    calls = [call for call in made if "finish" not in call[2]][:7] + [call for call in made if "finish" in call[2]][:1]
    for seed in range(12):
        messages = [{"role": "user", "content": environment.reset(seed=seed)}]
        while not environment.episode.over and len(messages) < 7:
            name, arguments, _ = rng.choice(calls)
            said = getattr(environment, name)(**arguments)
            messages += [tiny_chat.call(name, arguments), {"role": "tool", "name": name, "content": said}]
            talks.append(messages[:-1])
    tokenizer = tiny_chat.make_tokenizer(map(tiny_chat.text, talks), 2000)
    model = tiny_chat.make_model(tokenizer, 4096, layers=2, seed=0)
    answers = [(tiny_chat.tokens(tokenizer, t), len(tiny_chat.tokens(tokenizer, t[:-1], ask=True))) for t in talks]
    # What it says does not hang on what was said long before.
    drawn = [(ids[max(start - 50, 0) :], min(start, 50)) for ids, start in answers]
    tiny_chat.warm_up(model, lambda: rng.choice(drawn), steps=200, lr=5e-3, batch=16)
    return model, tokenizer


class Enough(TrainerCallback):
    """Counts decisions, and stops the trainer when there are enough."""

    __name__ = "enough"

    def __init__(self) -> None:
        self.decisions, self.cost = 0, 0.0

    def __call__(self, environments: list[Tools], **_: Any) -> list[float]:
        """As a reward function it sees every rollout, and gives nothing."""
        self.decisions += sum(environment.episode.steps for environment in environments)
        self.cost += sum(environment.episode.cost for environment in environments)
        return [0.0] * len(environments)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_training_stop = self.decisions >= STEPS


@pytest.mark.parametrize("env_id", ORCHESTRATION)
def test_grpo_trains_on_every_protocol(env_id: str, tmp_path: Path) -> None:
    (model, tokenizer), enough = talker(env_id), Enough()
    trainer = GRPOTrainer(
        model,
        reward_funcs=enough,
        args=settings(tmp_path, max_steps=40, temperature=0.6),
        train_dataset=Dataset.from_list(task_rows(env_id, 100)),
        processing_class=tokenizer,
        environment_factory=trl_environment(env_id, cost_weight=0.2),
        callbacks=[enough],
    )
    before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    print(f"{env_id}: {enough.decisions} decisions, {len(logs)} steps, reward {[round(e['reward'], 3) for e in logs]}")
    assert len(logs) >= 2 and enough.decisions >= STEPS and enough.cost > 0
    assert all(math.isfinite(entry["loss"]) and math.isfinite(entry["reward"]) for entry in logs)
    assert any(not torch.equal(old, new) for old, new in zip(before, trainer.model.parameters(), strict=True))


def test_a_rollout_that_an_outage_spoiled_teaches_nothing(tmp_path: Path) -> None:
    env_id = "NextStep/WebShop-Routing-v0"
    model, tokenizer = talker(env_id)
    trainer = GRPOTrainer(
        model,
        args=settings(tmp_path, max_steps=2),
        train_dataset=Dataset.from_list(task_rows(env_id, 8)),
        processing_class=tokenizer,
        environment_factory=trl_environment(env_id, workers={"kind": "fake", "failure_rate": 0.1}, cost_weight=0.2),
    )
    trainer.train()
    rewards = np.array(trainer._logs["rewards"]["RoutingTools"]).reshape(-1, GENERATIONS)
    advantages = np.array(trainer._logs["advantages"]).reshape(-1, GENERATIONS)
    spoiled = np.isnan(rewards)
    assert spoiled.any() and not spoiled.all()
    assert not advantages[spoiled].any()
    for group in np.flatnonzero((~spoiled).sum(axis=1) > 1):  # the others are compared with one another
        rest = rewards[group][~spoiled[group]]
        expected = (rest - rest.mean()) / (rest.std(ddof=1) + 1e-4)
        np.testing.assert_allclose(advantages[group][~spoiled[group]], expected, atol=1e-3)


@pytest.mark.parametrize("kind", [*TOOLS.values(), TabularTools])
def test_schemas_fit_a_published_template_and_its_parser(kind: type[Tools]) -> None:
    tokenizer = tiny_chat.make_tokenizer(["{}"], 400)
    tokenizer.chat_template, tokenizer.response_template = qwen3_chat_template, None
    add_response_schema(tokenizer)
    members = inspect.getmembers(kind, predicate=inspect.isfunction)
    tools = {name: f for name, f in members if name not in ("reset", "get_reward") and not name.startswith("_")}
    first = {"role": "user", "content": "hello"}
    rendered = tokenizer.apply_chat_template([first], tools=list(tools.values()), tokenize=False)
    for name, function in tools.items():
        assert f'"name": "{name}"' in rendered
        hints = get_type_hints(function)
        arguments = {argument: VALUES[hint] for argument, hint in hints.items() if argument != "return"}
        asked = tiny_chat.tokens(tokenizer, [first], ask=True)
        whole = tiny_chat.tokens(tokenizer, [first, tiny_chat.call(name, arguments)])
        parsed = parse_response(tokenizer, whole[len(asked) :], prefix=asked, tools=list(tools.values()))
        assert parsed["tool_calls"][0]["function"] == {"name": name, "arguments": arguments}


def test_grpo_learns_tier_routing(tmp_path: Path) -> None:
    """A model that calls the tool, but badly, learns by GRPO what to choose in which state.

    The warm-up teaches the form of a call. Its actions are random, with a leaning to a bad one in each state, so that
    the state is looked at from the beginning.
    """
    steps, generations, bad, rng = 140, 48, (3, 0, 1), random.Random(0)
    rows = task_rows(tier_routing.ID, 4 * steps)
    environment = trl_environment(tier_routing.ID)()
    openings = [environment.reset(seed=0, task_id=str(state)) for state in range(tier_routing.N_STATES)]
    firsts = [{"role": "user", "content": opening} for opening in openings]
    choices = [tiny_chat.call("choose", {"action": action}) for action in range(tier_routing.N_ACTIONS)]
    rest = [{"role": "tool", "name": "choose", "content": environment.choose(0)}, {"role": "assistant", "content": ""}]
    tokenizer = tiny_chat.make_tokenizer([tiny_chat.text([f, c, *rest]) for f in firsts for c in choices], 400)
    model = tiny_chat.make_model(tokenizer, 256, layers=1, seed=0)

    def draw() -> tuple[list[int], int]:
        state = int(rng.choice(rows)["task_id"])
        action = bad[state] if rng.random() < 0.3 else rng.randrange(tier_routing.N_ACTIONS)
        return tiny_chat.tokens(tokenizer, [firsts[state], choices[action], *rest]), 0

    def table(policy: Any) -> Any:
        """The probability of each call in each state; a rollout without a call is worth as much as skip."""
        chances = np.zeros((tier_routing.N_STATES, tier_routing.N_ACTIONS))
        for state, action in np.ndindex(*chances.shape):
            start = len(tiny_chat.tokens(tokenizer, [firsts[state]], ask=True))
            ids = torch.tensor([tiny_chat.tokens(tokenizer, [firsts[state], choices[action]])])
            with torch.no_grad():
                logs = policy(input_ids=ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])
            chances[state, action] = logs[start - 1 : -1].sum().exp()  # up to the end of the call
        chances[:, 0] += 1 - chances.sum(axis=1)
        return chances

    tiny_chat.warm_up(model, draw, steps=320, lr=3e-3, batch=32)
    before = tier_routing.share(table(model))
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "warm")  # where TRL finds its reference model
    args = settings(
        tmp_path / "run",
        num_generations=generations,
        per_device_train_batch_size=4 * generations,
        max_steps=steps,
        max_completion_length=16,
        max_tool_calling_iterations=1,
        learning_rate=3e-3,
        beta=0.02,
        scale_rewards="none",
        loss_type="dr_grpo",
        logging_steps=steps,
        seed=0,
    )
    trainer = GRPOTrainer(
        str(tmp_path / "warm"),
        args=args,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        environment_factory=trl_environment(tier_routing.ID, cost_weight=tier_routing.WEIGHT),
    )
    trainer.train()
    learned = table(trainer.model)
    sampled = tier_routing.share(learned)
    print(f"TRL GRPO: {before:.1%} of the optimum after the warm-up, {sampled:.1%} when sampling")
    assert before < 0.5 and sampled > 0.95  # the KL penalty keeps some of the chance
    tier_routing.assert_learned(tier_routing.one_hot(learned.argmax(axis=1)), "TRL GRPO, greedy")
