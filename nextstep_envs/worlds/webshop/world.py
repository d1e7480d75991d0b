"""WebShop as a `World`: a shop, sessions in it, and the reward of a purchase."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from nextstep_envs.types import Outcome, Task
from nextstep_envs.worlds.webshop.pages import Pages
from nextstep_envs.worlds.webshop.session import Session, clickables, step
from nextstep_envs.worlds.webshop.shop import load_shop


class WebShopWorld:
    """An online shop; calls are `search[words]` and `click[label]`.

    Args:
        data_dir: folder of the published files; None: the generated catalogue.
        num_products: how many products; None: all of the files, or 1,000 generated ones.
        goals: "synthetic" or "human" instructions.
        price_seed: of the price draws.
        observation_mode: "text_rich", "text" or "url".
        reveal_score: print the score on the page after a purchase, as the reference does.
        show_instruction: head every page with the task.
    """

    name = "webshop"

    def __init__(
        self,
        data_dir: str | None = None,
        num_products: int | None = None,
        goals: str = "synthetic",
        price_seed: int = 0,
        observation_mode: str = "text_rich",
        reveal_score: bool = False,
        show_instruction: bool = True,
    ) -> None:
        self.shop = load_shop(data_dir, goals, price_seed, num_products)
        self.view = Pages(self.shop, observation_mode, show_instruction, reveal_score)

    def ids(self, split: str) -> Sequence[str]:
        """Task ids of a split."""
        return [str(number) for number in self.shop.split(split)]

    def sample_id(self, split: str, rng: random.Random) -> str:
        """Draw a task of the split by the goals' weights."""
        return str(self.shop.sample(split, rng))

    def task(self, task_id: str) -> Task:
        """Goal `task_id` of the shuffled order, whatever its split."""
        return Task(str(task_id), self.shop.goal(task_id).instruction)

    def begin(self, task: Task, rng: random.Random) -> Session:
        """A session on the search page."""
        return Session(task.task_id, rng.getrandbits(63))

    def act(self, state: Session, call: str) -> tuple[Session, str]:
        """Do one search or click; what cannot be done shows the same page again."""
        after = step(self.shop, state, call)
        return after, self.view(after)

    def available(self, state: Session) -> dict[str, Any]:
        """`has_search_bar` and `clickables`, as the reference lists them."""
        return {"has_search_bar": state.page == "search", "clickables": clickables(self.shop, state)}

    def done(self, state: Session) -> bool:
        """Whether something was bought."""
        return state.page == "done"

    def outcome(self, task: Task, state: Session) -> Outcome:
        """The reward of the purchase; zeros where nothing was bought."""
        if state.page != "done":
            return Outcome(0.0, False, {"r_type": 0.0, "r_att": 0.0, "r_option": 0.0, "r_price": False})
        return self.shop.score(task.task_id, state.asin, dict(state.options))
