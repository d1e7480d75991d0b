"""The shop below its pages: products, goals, search and the score of a purchase."""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nextstep_envs.errors import ConfigError, DataError, check_choice
from nextstep_envs.types import Outcome
from nextstep_envs.worlds.webshop import files as disk
from nextstep_envs.worlds.webshop.data import check_num_products, products_from_raw
from nextstep_envs.worlds.webshop.goals import Goals, build_goals, cumulative_weights, sample_index
from nextstep_envs.worlds.webshop.products import Goal, Product
from nextstep_envs.worlds.webshop.reward import score_purchase
from nextstep_envs.worlds.webshop.search import RESULTS, SearchIndex, indexed_text

GOAL_SETS = ("synthetic", "human")
SPLITS = ("train", "dev", "test", "all")
TEST_END, DEV_END = 500, 1500
GENERATED_PRODUCTS = 1000


class Shop:
    """A loaded shop. Nothing in it changes after construction, so it is shared, never copied.

    Attributes:
        products: ASIN to product, in file order.
        prices: ASIN to sampled price, the one that counts in the reward.
        goals: in the published order; task "7" is goals[7].
        splits: "train", "dev", "test" and "all" to their goal numbers: test 0-499, dev 500-1499, train from 1500;
            with 1,500 goals or fewer every split is all goals.
    """

    products: Mapping[str, Product]
    prices: Mapping[str, float]
    goals: Goals
    splits: Mapping[str, range]

    def __init__(
        self,
        products: Sequence[Product],
        price_seed: int = 0,
        human: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
        source: tuple[Any, ...] | None = None,
    ) -> None:
        """Build a shop from products.

        Args:
            products: in file order, nouns known.
            price_seed: seed of sampled prices and price limits.
            human: ASIN to human instructions, for human goals; None for synthetic goals.
            source: arguments of `load_shop` that give this shop again; a pickle then holds only these.
        """
        if not products:
            raise DataError("the shop has no products; the products file must hold at least one")
        unknown = [product.asin for product in products if product.nouns is None]
        if unknown:
            raise DataError(
                f"the name's nouns of {len(unknown)} products ({unknown[0]} ...) are unknown; pass a noun table"
            )
        self.goals, prices = build_goals(products, price_seed, human)
        if not self.goals:
            kind = "synthetic" if human is None else "human"
            raise DataError(f"none of the {len(products)} products has a {kind} instruction; load more products")
        self.products = MappingProxyType({product.asin: product for product in products})
        self.prices = MappingProxyType(dict(zip(self.products, prices, strict=True)))
        every = range(len(self.goals))
        parts = {"train": every[DEV_END:], "dev": every[TEST_END:DEV_END], "test": every[:TEST_END], "all": every}
        self.splits = MappingProxyType(parts if len(every) > DEV_END else dict.fromkeys(SPLITS, every))
        self._index = SearchIndex(tuple(self.products), map(indexed_text, products))
        self._weights = self.goals.weights()
        self._cumulative: dict[str, array[float]] = {}
        self._recipe: tuple[Callable[..., Shop], tuple[Any, ...]] = (
            (Shop, (tuple(products), price_seed, human)) if source is None else (load_shop, source)
        )

    def search(self, query: str, rng: random.Random | None = None) -> list[str]:
        """The ASINs of a query, best first: at most 50 by BM25.

        The reference's hidden first words are understood: "<c> garden" (all products of the category), "<q> sofas"
        (all products whose scrape query is the rest), "<r>" (50 random products, drawn from `rng`; without one, the
        same draw each time).
        """
        return list(self.ranked(query, rng))

    def ranked(self, query: str, rng: random.Random | None = None) -> tuple[str, ...]:
        """As `search`, as a shared tuple: the fast way for pages."""
        if query[:1] != "<" or query[:3] not in ("<r>", "<c>", "<q>") or query[3:4] not in ("", " "):
            return self._index.search(query)
        command, *rest = query.split(" ")
        if command == "<r>":
            asins = tuple(self.products)
            return tuple((rng or random.Random(0)).sample(asins, min(RESULTS, len(asins))))
        if command == "<c>":
            wanted = rest[0].strip() if rest else ""
            return tuple(asin for asin, product in self.products.items() if product.category == wanted)
        wanted = " ".join(rest).strip()
        return tuple(asin for asin, product in self.products.items() if product.query == wanted)

    def search_scores(self, query: str, k: int = RESULTS) -> list[tuple[str, float]]:
        """The best `k` ASINs of a plain query with their BM25 scores."""
        return self._index.scores(query, k)

    def score(self, task_id: str | int, asin: str, options: Mapping[str, str]) -> Outcome:
        """What buying a product with these options is worth for a task."""
        return score_purchase(self.product(asin), self.prices[asin], self.goal(task_id), options)

    def product(self, asin: str) -> Product:
        """The product of an ASIN; `ConfigError` if there is none."""
        try:
            return self.products[asin]
        except KeyError:
            raise ConfigError(f"asin={asin!r} is unknown; use one that shop.search returns") from None

    def goal(self, task_id: str | int) -> Goal:
        """The goal of a task; `ConfigError` if there is none."""
        return self.goals[self.goal_index(task_id)]

    def goal_index(self, task_id: str | int) -> int:
        """The position of a task in the published order: its id as a number."""
        index = -1
        if isinstance(task_id, int) and not isinstance(task_id, bool):
            index = task_id
        elif isinstance(task_id, str) and task_id.isdecimal() and len(task_id) < 20 and str(int(task_id)) == task_id:
            index = int(task_id)
        if 0 <= index < len(self.goals):
            return index
        raise ConfigError(f"task_id={task_id!r} is unknown; use '0' to '{len(self.goals) - 1}'")

    def split(self, name: str) -> range:
        """The goal numbers of a split; `ConfigError` if there is none."""
        check_choice("split", name, SPLITS)
        return self.splits[name]

    def sample(self, split: str, rng: random.Random) -> int:
        """Draw a goal number of a split by weight, with the reference's quirk (see `goals.sample_index`)."""
        numbers = self.split(split)
        cumulative = self._cumulative.get(split)
        if cumulative is None:
            cumulative = self._cumulative[split] = cumulative_weights(self._weights, numbers)
        return numbers.start + sample_index(cumulative, rng)

    def __reduce__(self) -> tuple[Callable[..., Shop], tuple[Any, ...]]:
        return self._recipe

    def __copy__(self) -> Shop:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Shop:
        return self

    def __repr__(self) -> str:
        return f"<Shop: {len(self.products)} products, {len(self.goals)} goals>"


def load_shop(
    data_dir: str | Path | None = None,
    goals: str = "synthetic",
    price_seed: int = 0,
    num_products: int | None = None,
) -> Shop:
    """Load a shop, or return the one already loaded with the same arguments from the same files.

    Args:
        data_dir: folder with the published files (see `files.find_files`); None for the generated catalogue.
        goals: "synthetic" or "human" (needs items_human_ins.json[.gz]).
        price_seed: seed of sampled prices and price limits, drawn in the reference's order.
        num_products: read the first so many; None for all (1,000 generated ones).

    Raises:
        ConfigError: an argument is wrong.
        DataError: a file is missing or malformed.
        MissingExtraError: a name's nouns are not in a title_nouns table and spaCy is not installed.
    """
    check_choice("goals", goals, GOAL_SETS)
    check_num_products(num_products)
    if isinstance(price_seed, bool) or not isinstance(price_seed, int):
        raise ConfigError(f"price_seed={price_seed!r} must be a whole number")
    if data_dir is None:
        if goals == "human":
            raise ConfigError("goals='human' needs data_dir with items_human_ins.json; the catalogue has none")
        return _generated(price_seed, num_products or GENERATED_PRODUCTS)
    files = disk.find_files(Path(data_dir).expanduser().resolve())
    if goals == "human" and files.human is None:
        raise DataError(f"{files.items.parent}: no items_human_ins*.json[.gz]; goals='human' needs it")
    states = tuple(path and path.stat() for path in files)
    version = tuple(state and (state.st_mtime_ns, state.st_size) for state in states)
    return _loaded(files, version, goals, price_seed, num_products)


@lru_cache(maxsize=4)
def _loaded(files: disk.DataFiles, version: object, goals: str, price_seed: int, num_products: int | None) -> Shop:
    """`version` changes when a file does, so that a new file is not answered with an old shop."""
    human = disk.load_human_instructions(files.human) if goals == "human" and files.human else None
    products = disk.load_products(files, num_products)
    return Shop(products, price_seed, human, (str(files.items), goals, price_seed, num_products))


@lru_cache(maxsize=4)
def _generated(price_seed: int, num_products: int) -> Shop:
    from nextstep_envs.worlds.webshop import catalogue

    items, instructions, nouns = catalogue.generate(num_products)
    products = products_from_raw(items, instructions, nouns)
    del items, instructions, nouns
    return Shop(products, price_seed, source=(None, "synthetic", price_seed, num_products))
