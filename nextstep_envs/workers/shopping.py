"""How a scripted worker shops: a pure state machine from page to next action."""

from __future__ import annotations

import random
from typing import NamedTuple

from nextstep_envs.workers import pages
from nextstep_envs.workers.requirements import Requirements

PREV, BUY = "click[< prev]", "click[buy now]"
CERTAIN, GUESS = 3.0, 1.0  # what it counts that a title has the product's trade name, or only the shopper's word for it
RANK = 0.12  # what a rank further down counts against a candidate
FEATURES, DESCRIPTION = "click[features]", "click[description]"


class Style(NamedTuple):
    """How careful a worker is.

    Attributes:
        breadth: how many candidates it opens at most.
        features, description: which sub pages it reads; the description only where something is still missing.
        options: how many wanted options it sets at most.
        minds_price: whether it heeds the price limit.
        slip: chance to take the wrong candidate first, or to forget an option.
        weighs: whether it weighs the titles of a results page, or takes them as they come.
        patience: tokens it reads before it takes the best candidate so far.
    """

    breadth: int
    features: bool
    description: bool
    options: int
    minds_price: bool
    slip: float
    weighs: bool = True
    patience: int = 2500


class Seen(NamedTuple):
    """A candidate that was examined."""

    asin: str
    title: str
    price: float
    score: float
    missing: tuple[str, ...]


class Trip(NamedTuple):
    """Where a worker stands. Immutable, so it can be kept in snapshots.

    Attributes:
        wanted, style, buys: what it looks for, how, and whether it buys or only opens.
        phase: what the next page is: "results", "item", "features", "item again", "description", "done" (bought).
        chosen: the decision has fallen; what is left is to open that product, set its options and buy it.
        tries: searches that found nothing.
        queue: candidates still to open; seen: those examined.
        asin, page, text: the open product, its item page and what was read of it. asin "" is the one that was open
            at the start, whose number no page has shown.
        clicked: option values set on the way to buying.
        read: tokens read so far.
    """

    wanted: Requirements
    style: Style
    buys: bool
    phase: str = "results"
    chosen: bool = False
    tries: int = 0
    queue: tuple[str, ...] = ()
    seen: tuple[Seen, ...] = ()
    asin: str = ""
    page: pages.Item | None = None
    text: str = ""
    clicked: tuple[str, ...] = ()
    read: int = 0


class Move(NamedTuple):
    """What to do next: a call of the world, or the end of the trip (call "") with a report."""

    trip: Trip
    call: str
    report: str = ""


def start(trip: Trip, view: str, rng: random.Random) -> Move:
    """The first move; `view` is the open page. A product that is open already is the first candidate."""
    if pages.is_item(view):
        return _at_item(trip, view, rng)
    return _search(trip)


def move(trip: Trip, page: str, rng: random.Random) -> Move:
    """The next move, given the page that the last one led to."""
    if trip.phase == "results":
        return _at_results(trip, page, rng)
    if trip.phase == "item":
        return _at_item(trip, page, rng)
    if trip.phase == "item again":
        return Move(trip._replace(phase="description"), DESCRIPTION)
    if trip.phase == "done":
        return Move(trip, "", f"Bought: {report(trip)}")
    return _judge(trip._replace(text=trip.text + "\n" + pages.body(page)), rng)


def report(trip: Trip) -> str:
    """What was found out about the product that was taken."""
    best = next(seen for seen in trip.seen if seen.asin == trip.asin)
    misses = ", ".join(best.missing) or "nothing"
    return f"{best.title}, ${best.price:.2f}; lacks {misses}; {len(trip.seen)} compared."


def confidence(trip: Trip) -> float | None:
    """The share of what is wanted that the product that was taken has; None where none was taken."""
    taken = next((seen for seen in trip.seen if seen.asin == trip.asin and trip.chosen), None)
    if taken is None:
        return None
    wanted = trip.wanted
    total = 1 + len(wanted.features) + len(wanted.options) + (wanted.price is not None)
    return 1 - min(len(taken.missing) / total, 1.0)


def _search(trip: Trip) -> Move:
    """Search for the product, its features and the wanted option values, in the best words known."""
    wanted = trip.wanted
    words = [wanted.product.best]
    if not trip.tries:
        words += [term.best for term in wanted.features] + [value for _, value in wanted.options]
    query = " ".join(words).replace("[", " ").replace("]", " ")
    return Move(trip._replace(phase="results"), f"search[{query}]")


def _at_results(trip: Trip, page: str, rng: random.Random) -> Move:
    if trip.chosen and not trip.queue:
        trip = _recover(trip, pages.rows(page))
    elif not trip.queue:
        found = _rank(trip, pages.rows(page))
        known = {seen.asin for seen in trip.seen}
        found = [asin for asin in found if asin not in known]
        if len(found) > 1 and rng.random() < trip.style.slip:
            found[0], found[1] = found[1], found[0]
        trip = trip._replace(queue=tuple(found[: max(trip.style.breadth - len(trip.seen), 1)]))
    if trip.queue:
        asin, *others = trip.queue
        return Move(
            trip._replace(asin=asin, queue=tuple(others), page=None, text="", phase="item"),
            f"click[{asin}]",
        )
    if trip.seen and not trip.chosen:
        return _decide(trip, rng)
    if not trip.tries and not trip.chosen:
        return _search(trip._replace(tries=1))
    return Move(trip, "", "Nothing was found.")


def _recover(trip: Trip, listed: tuple[pages.Row, ...]) -> Trip:
    """Give the product that was open at the start its number; where it is not listed, take the next best."""
    number = {row.title: row.asin for row in listed}
    seen = tuple(s._replace(asin=number[s.title]) if not s.asin and s.title in number else s for s in trip.seen)
    known = [s for s in seen if s.asin]
    queue = (max(known, key=lambda s: s.score).asin,) if known else ()
    return trip._replace(seen=seen, queue=queue)


def _rank(trip: Trip, listed: tuple[pages.Row, ...]) -> list[str]:
    """Candidates by how much of the requirements their titles show, and by rank."""
    wanted, style = trip.wanted, trip.style
    if not style.weighs:
        return [row.asin for row in listed]
    kind = CERTAIN if wanted.product.trade else GUESS

    def score(entry: tuple[int, pages.Row]) -> float:
        rank, row = entry
        shown = sum(term.found_in(row.title) for term in wanted.features)
        dear = style.minds_price and wanted.price is not None and row.price > wanted.price
        return kind * _likeness(wanted, row.title) + 0.5 * shown - 2.0 * dear - RANK * rank

    return [row.asin for _, row in sorted(enumerate(listed), key=score, reverse=True)]


def _likeness(wanted: Requirements, title: str) -> float:
    """The share of the wanted product's words that a title has."""
    words = wanted.product.best.split()
    return sum(word in title for word in words) / len(words)


def _at_item(trip: Trip, page: str, rng: random.Random) -> Move:
    trip = trip._replace(page=pages.item(page))
    if trip.chosen:
        return _finish(trip, rng)
    if trip.style.features:
        return Move(trip._replace(phase="features"), FEATURES)
    return _judge(trip._replace(phase="item"), rng)


def _judge(trip: Trip, rng: random.Random) -> Move:
    """Score the open product; read on, go on to the next candidate, or decide."""
    wanted, style, page = trip.wanted, trip.style, trip.page
    assert page is not None  # an item page always comes first
    told = f"{page.title}\n{trip.text}"
    missing = [term.best for term in wanted.features if not term.found_in(told)]
    if missing and style.description and trip.phase == "features":
        return Move(trip._replace(phase="item again"), PREV)
    missing += [value for _, value in wanted.options if value not in page.values]
    if style.minds_price and wanted.price is not None and page.price > wanted.price:
        missing.append(f"price below {wanted.price:.2f}")
    likeness = _likeness(wanted, page.title)
    kind = CERTAIN if wanted.product.trade else GUESS
    seen = Seen(trip.asin, page.title, page.price, kind * likeness - len(missing), tuple(missing))
    trip = trip._replace(seen=(*trip.seen, seen))
    perfect = likeness == 1.0 and not missing
    enough = len(trip.seen) >= style.breadth or trip.read > style.patience
    # The product that was open at the start (asin "") came without others to compare it with.
    if perfect or enough or (not trip.queue and trip.asin):
        return _decide(trip, rng)
    return _search(trip)


def _decide(trip: Trip, rng: random.Random) -> Move:
    """Take the best candidate seen; of equals, the one that is open, else the earliest."""
    best = max(trip.seen, key=lambda seen: (seen.score, seen.asin == trip.asin))
    trip = trip._replace(chosen=True)
    if best.asin == trip.asin:
        return _finish(trip, rng) if trip.phase == "item" else Move(trip._replace(phase="item"), PREV)
    if not best.asin:  # its number was never shown: find it by its title
        title = best.title.replace("[", " ").replace("]", " ")
        return Move(trip._replace(phase="results", queue=()), f"search[{title}]")
    return _search(trip._replace(queue=(best.asin,)))


def _finish(trip: Trip, rng: random.Random) -> Move:
    """On the item page of the chosen product: set what options are wanted, then buy."""
    if not trip.buys:
        return Move(trip, "", f"Opened: {report(trip)}")
    page = trip.page
    assert page is not None  # an item page always comes first
    wanted = [value for _, value in trip.wanted.options if value in page.values][: trip.style.options]
    unset = [value for value in wanted if value not in page.chosen and value not in trip.clicked]
    if unset and rng.random() >= trip.style.slip:
        return Move(trip._replace(phase="item", clicked=(*trip.clicked, unset[0])), f"click[{unset[0]}]")
    return Move(trip._replace(phase="done"), BUY)
