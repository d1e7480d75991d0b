"""The web shop as a `World`: tasks are instructions, calls are searches and clicks."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from nextstep_envs.errors import check_choice
from nextstep_envs.requests import ToolSpec, WorldTool
from nextstep_envs.types import Outcome, Task
from nextstep_envs.worlds.webshop.pages import OBSERVATION_MODES, Pages
from nextstep_envs.worlds.webshop.session import Session, step
from nextstep_envs.worlds.webshop.shop import Shop, load_shop

TOOLS = (
    WorldTool(
        ToolSpec(
            "search",
            "Search the shop; shows a page of products.",
            '{"type": "object", "properties": {"words": {"type": "string"}}, "required": ["words"]}',
        ),
        "search[{words}]",
    ),
    WorldTool(
        ToolSpec(
            "click",
            "Click a button, a product number or an option value that the page shows.",
            '{"type": "object", "properties": {"label": {"type": "string"}}, "required": ["label"]}',
        ),
        "click[{label}]",
    ),
)


class WebShopWorld:
    """Buy what an instruction asks for, in a shop with a search engine.

    Calls are `search[words]` and `click[label]`; anything else, and what cannot be clicked, changes nothing. The
    session ends with a purchase, whose outcome is the published reward in [0, 1].

    Args:
        data_dir: folder with the published files; None for the generated catalogue.
        num_products: how many products to load or generate; None for all there are (generated: 1,000).
        goals: "synthetic" or "human".
        price_seed: of sampled prices and price limits.
        observation_mode: "text_rich" (what can be clicked is marked), "text" or "url".
        reveal_score: whether the page after a purchase shows the score, as in the reference.
        show_instruction: whether pages show the instruction.
    """

    name = "webshop"

    def __init__(
        self,
        data_dir: str | Path | None = None,
        num_products: int | None = None,
        goals: str = "synthetic",
        price_seed: int = 0,
        observation_mode: str = "text_rich",
        reveal_score: bool = False,
        show_instruction: bool = True,
    ) -> None:
        check_choice("observation_mode", observation_mode, OBSERVATION_MODES)
        self.shop = load_shop(data_dir, goals=goals, price_seed=price_seed, num_products=num_products)
        self._pages = _shared_pages(self.shop, observation_mode, show_instruction, reveal_score)
        folder = None if data_dir is None else str(Path(data_dir).expanduser().resolve())
        self._arguments = (folder, num_products, goals, price_seed, observation_mode, reveal_score, show_instruction)

    def ids(self, split: str) -> Sequence[str]:
        """Positions in the published order of goals, as text."""
        return tuple(map(str, self.shop.split(split)))

    def sample_id(self, split: str, rng: random.Random) -> str:
        """Draw a task of the split, by the goals' weights."""
        return str(self.shop.sample(split, rng))

    def task(self, task_id: str) -> Task:
        """The task, with the instruction as its prompt."""
        return Task(task_id, self.shop.goal(task_id).instruction)

    def begin(self, task: Task, rng: random.Random) -> Session:
        """A session on the search page; nothing is drawn."""
        return Session(task.task_id)

    def act(self, state: Session, call: str) -> tuple[Session, str]:
        """The session after a search or a click, and the page it shows."""
        after = step(self.shop, state, call)
        return after, self._pages.view(after)

    def view(self, state: Session) -> str:
        """The open page."""
        return self._pages.view(state)

    def available(self, state: Session) -> Mapping[str, Any]:
        """`has_search_bar`, and `clickables`: lower-cased labels in the page's order."""
        return self._pages.available(state)

    def tools(self) -> tuple[WorldTool, ...]:
        """Search and click."""
        return TOOLS

    def done(self, state: Session) -> bool:
        """Whether something was bought."""
        return state.page == "done"

    def outcome(self, task: Task, state: Session) -> Outcome:
        """The reward of the purchase with its parts (see `reward.score_purchase`); all 0 where nothing was bought."""
        if state.page == "done":
            return self.shop.score(task.task_id, state.asin, dict(state.options))
        goal = self.shop.goal(task.task_id)
        parts = self.shop.score(task.task_id, goal.asin, {}).details  # which parts there are depends on the goal
        return Outcome(0.0, False, dict.fromkeys(parts, 0.0))

    # The shop follows from the arguments and is shared: pickles and copies carry only these.
    def __reduce__(self) -> tuple[Any, ...]:
        return WebShopWorld, self._arguments


@lru_cache(maxsize=4)
def _shared_pages(shop: Shop, mode: str, show_instruction: bool, reveal_score: bool) -> Pages:
    """Worlds that show the same shop in the same way share what is rendered."""
    return Pages(shop, mode, show_instruction, reveal_score)
