"""Everything a rollout can be told: the schema of `nextstep rollout`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nextstep_envs.errors import ConfigError, check_choice

ON_INTERRUPT = ("finish", "discard")


@dataclass(frozen=True)
class Model:
    """How a language model is asked that acts as the policy.

    Attributes:
        max_tokens: bounds one answer, thinking included.
        temperature: of sampling; 0 is greedy.
        usd_per_mtok_in, usd_per_mtok_out: price in US dollars of a million prompt / completion tokens; null for the
            list price of a known model.
        provider: settings of its provider (`nextstep_envs.providers.building.build_provider`): base_url, timeout_s,
            retries, requests_per_minute ... They are its own, also where workers ask the same service.
        store: path of a file that keeps every call and answers those that it knows.
        replay: path of such a file: answer from it and nothing else.
    """

    max_tokens: int = 1024
    temperature: float = 0.0
    usd_per_mtok_in: float | None = None
    usd_per_mtok_out: float | None = None
    provider: dict[str, Any] = field(default_factory=dict)
    store: str | None = None
    replay: str | None = None

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ConfigError(f"llm.max_tokens={self.max_tokens} must be at least 1")
        if not self.temperature >= 0:
            raise ConfigError(f"llm.temperature={self.temperature} must be >= 0")
        for name in ("usd_per_mtok_in", "usd_per_mtok_out"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ConfigError(f"llm.{name}={value} must be >= 0")
        if (self.usd_per_mtok_in is None) != (self.usd_per_mtok_out is None):
            raise ConfigError("llm.usd_per_mtok_in and llm.usd_per_mtok_out go together; give both or none")
        if self.store and self.replay:
            raise ConfigError(f"llm.store={self.store!r} and llm.replay={self.replay!r}: give one of them")


@dataclass(frozen=True)
class RolloutSettings:
    """Settings of a rollout.

    Attributes:
        env: environment id; env_kwargs: its further arguments.
        policy: "random", the name of a fixed plan such as "general.shop" (Workflow only), or "<provider>:<model>".
        episodes: how many.
        concurrency: episodes that go on at the same time, and requests that are under way at the same time.
        split: of the tasks: "train", "dev", "test" or "all"; null for the environment's own default.
        seed: of everything that is random: the order of the tasks, the episodes, the policy.
        samples: attempts at each task, one after the other in the order of the episodes.
        out: the folder of the run; "" for runs/<time>.
        resume: go on with the run in that folder.
        usd_ceiling: no episode begins once so much has been spent, in US dollars; null for no ceiling.
        on_interrupt: what the first Ctrl-C does with the episodes that have begun: "finish" or "discard" them. The
            second one discards them.
        llm: for a policy that is a language model.
    """

    env: str = "NextStep/WebShop-Workflow-v0"
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    policy: str = "random"
    episodes: int = 100
    concurrency: int = 64
    split: str | None = None
    seed: int = 0
    samples: int = 1
    out: str = ""
    resume: bool = False
    usd_ceiling: float | None = None
    on_interrupt: str = "finish"
    llm: Model = field(default_factory=Model)

    def __post_init__(self) -> None:
        for name in ("episodes", "concurrency", "samples"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be at least 1")
        if self.usd_ceiling is not None and not self.usd_ceiling > 0:
            raise ConfigError(f"usd_ceiling={self.usd_ceiling} must be > 0, or null for no ceiling")
        check_choice("on_interrupt", self.on_interrupt, ON_INTERRUPT)
        if self.resume and not self.out:
            raise ConfigError("resume=true needs out=<the folder of the run to go on with>")
