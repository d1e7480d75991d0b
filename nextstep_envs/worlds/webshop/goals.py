"""What shoppers want: synthetic and human goals, in the published order and with the published weights."""

from __future__ import annotations

import random
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from math import prod
from typing import Any, NamedTuple, overload

from nextstep_envs.errors import DataError
from nextstep_envs.worlds.webshop.products import Goal, Product

ORDER_SEED = 233
PRICE_LADDER = tuple(10.0 * step for step in range(1, 100))
NO_LIMIT = 1000000


class _Source(NamedTuple):
    """One instruction: all that its goals share.

    Attributes:
        product: index of its product.
        text: the instruction without options and price.
        attributes, price_upper: as in `Goal`.
        options: plain values of a human instruction; None for a synthetic one, which has a goal per combination.
        weight: of each of its goals.
    """

    product: int
    text: str
    attributes: tuple[str, ...]
    price_upper: float
    options: tuple[str, ...] | None
    weight: float


class Goals(Sequence[Goal]):
    """The goals in their published order, made on demand: option grids multiply into millions of them.

    Attributes:
        skipped: human instructions without attributes, which give no goal.
    """

    def __init__(
        self, products: Sequence[Product], sources: Sequence[_Source], counts: Sequence[int], skipped: int = 0
    ) -> None:
        self.skipped = skipped
        self._products = products
        self._sources = sources
        self._starts = array("l", accumulate(counts, initial=0))
        order = array("l", range(self._starts[-1]))
        random.Random(ORDER_SEED).shuffle(order)
        self._order = order
        self._goal = lru_cache(maxsize=1 << 13)(self._make)

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, index: int) -> Goal: ...
    @overload
    def __getitem__(self, index: slice) -> list[Goal]: ...
    def __getitem__(self, index: int | slice) -> Goal | list[Goal]:
        if isinstance(index, slice):
            return [self._make(unshuffled) for unshuffled in self._order[index]]
        return self._goal(self._order[index])

    def __iter__(self) -> Iterator[Goal]:
        return map(self._make, self._order)

    def weights(self) -> array[float]:
        """The weight of every goal, in order."""
        unshuffled = array("d")
        for i, source in enumerate(self._sources):
            unshuffled.extend([source.weight] * (self._starts[i + 1] - self._starts[i]))
        return array("d", map(unshuffled.__getitem__, self._order))

    def _make(self, unshuffled: int) -> Goal:
        index = bisect_right(self._starts, unshuffled) - 1
        source = self._sources[index]
        product = self._products[source.product]
        limit = source.price_upper
        price_text = "" if limit == NO_LIMIT else f", and price lower than {limit:.2f} dollars"
        options: tuple[tuple[str, str], ...] | tuple[str, ...]
        if source.options is None:
            options = _combination(product, unshuffled - self._starts[index])
            option_text = ", and ".join(f"{name}: {value}" for name, value in options)
            option_text = f" with {option_text}" if option_text else ""
        else:
            options, option_text = source.options, ""
        if product.nouns is None:
            raise DataError(f"product {product.asin}: the nouns of its name are unknown; add a title_nouns table")
        return Goal(
            asin=product.asin,
            instruction=source.text + option_text + price_text,
            attributes=source.attributes,
            options=options,
            price_upper=limit,
            weight=source.weight,
            query=product.query,
            product_category=product.product_category,
            title=product.title,
            nouns=product.nouns,
        )


def build_goals(
    products: Sequence[Product], price_seed: int, human: Mapping[str, Sequence[Mapping[str, Any]]] | None = None
) -> tuple[Goals, tuple[float, ...]]:
    """All goals of the products, and the sampled price of each product.

    Draws come from `random.Random(price_seed)` in the reference's order: one uniform for each product with two
    prices, then one pair of price steps for each instruction. The order of the goals depends on `ORDER_SEED` only.

    Args:
        products: in file order.
        price_seed: seed of the prices and price limits.
        human: ASIN to human instructions for human goals; None for synthetic goals.
    """
    rng = random.Random(price_seed)
    prices = tuple(p.prices[0] if len(p.prices) == 1 else rng.uniform(*p.prices) for p in products)
    if human is None:
        return _synthetic(products, prices, rng), prices
    return _human(products, prices, rng, human), prices


def _synthetic(products: Sequence[Product], prices: Sequence[float], rng: random.Random) -> Goals:
    found: list[tuple[int, float, int]] = []
    holders: Counter[str] = Counter()  # attribute -> number of goals that have it
    for i, product in enumerate(products):
        if not product.instruction:
            continue
        if not product.instruction_attributes:
            raise DataError(f"product {product.asin}: its instruction has no instruction_attributes; add at least one")
        limit = _price_limit(prices[i], rng)
        count = prod(len(values) for _, values in product.options)
        if count:
            found.append((i, limit, count))
            for attribute in product.instruction_attributes:
                holders[attribute] += count
    sources = []
    for i, limit, _ in found:
        product = products[i]
        attributes = product.instruction_attributes
        weight = sum(1.0 / holders[attribute] for attribute in attributes) / len(attributes)
        sources.append(_Source(i, product.instruction, attributes, limit, None, weight))
    return Goals(products, sources, [count for _, _, count in found])


def _human(
    products: Sequence[Product],
    prices: Sequence[float],
    rng: random.Random,
    instructions: Mapping[str, Sequence[Mapping[str, Any]]],
) -> Goals:
    sources = []
    skipped = 0
    for i, product in enumerate(products):
        for entry in instructions.get(product.asin, ()):
            attributes = tuple(entry["instruction_attributes"])
            if not attributes:
                skipped += 1
                continue
            limit = _price_limit(prices[i], rng)
            options = tuple(entry["instruction_options"])
            sources.append(_Source(i, entry["instruction"].strip("."), attributes, limit, options, 1.0))
    return Goals(products, sources, [1] * len(sources), skipped)


def _price_limit(price: float, rng: random.Random) -> float:
    """The larger of two of the next four ladder prices above `price`; `NO_LIMIT` where there are fewer than two."""
    first = bisect_right(PRICE_LADDER, price)
    steps = PRICE_LADDER[first : first + 4]
    return max(rng.sample(steps, 2)) if len(steps) >= 2 else NO_LIMIT


def _combination(product: Product, index: int) -> tuple[tuple[str, str], ...]:
    """The option values of the product's goal `index`: names in alphabetic order, the last one changing fastest."""
    chosen = []
    for name, values in sorted(product.options, key=lambda option: option[0], reverse=True):
        index, position = divmod(index, len(values))
        chosen.append((name, values[position]))
    return tuple(reversed(chosen))


def cumulative_weights(weights: Sequence[float], goals: range) -> array[float]:
    """0 and the running sums of the weights of some goals."""
    return array("d", accumulate(weights[goals.start : goals.stop], initial=0.0))


def sample_index(cumulative: Sequence[float], rng: random.Random) -> int:
    """Draw a goal by weight as the reference does, off by one: goal 0 never, goal i by the weight of goal i - 1.

    Args:
        cumulative: 0 and the running sums of the weights: one entry more than there are goals.
        rng: gives one uniform draw.
    """
    position = bisect_right(cumulative, rng.uniform(0, cumulative[-1]))
    return min(position, len(cumulative) - 2)
