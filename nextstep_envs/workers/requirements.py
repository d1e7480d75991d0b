"""What a shopper wants, as scripted workers understand it: read from a request or a list, written as a list."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from nextstep_envs.worlds.webshop.vocabulary import DOMAINS


class Term(NamedTuple):
    """A wanted thing in the shopper's words and, where known, in the trade's ("" where not)."""

    lay: str
    trade: str = ""

    @property
    def best(self) -> str:
        """The trade's word if known."""
        return self.trade or self.lay

    def found_in(self, text: str) -> bool:
        """Whether a lower-cased text says it, in either words."""
        return self.lay in text or bool(self.trade and self.trade in text)


class Requirements(NamedTuple):
    """Everything a request asks for. `listed`: it came as a list, not as a raw request."""

    product: Term
    features: tuple[Term, ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    price: float | None = None
    listed: bool = False


HEADER = "Requirements"
_TRADE = {k.lay: k.trade for d in DOMAINS for k in d.kinds} | {a: b for d in DOMAINS for a, b in d.attributes}


def _alternatives(words: list[str]) -> re.Pattern[str]:
    return re.compile(r"\b(?:" + "|".join(map(re.escape, sorted(words, key=len, reverse=True))) + r")\b")


_PRODUCT = _alternatives([kind.lay for domain in DOMAINS for kind in domain.kinds])
_FEATURE = _alternatives([lay for domain in DOMAINS for lay, _ in domain.attributes])
_PRICE = re.compile(r",?(?: and)? ?price lower than (\d+(?:\.\d+)?) dollars")
_OPTIONS = re.compile(r" with ((?:(?! with )[^:,\n])+: .*)$")
_OPENING = re.compile(r"\b(?:find me|show me|i need|i want|(?:i am |i'm )?looking for)\b(?! you)", re.IGNORECASE)
_INSTRUCTION = re.compile(
    r"\b(?:plan|list|analy[sz]e|requirements?|check|verify|review|buy|purchase|order|shop|search|find|open|request|task)\b"
)
_PIECES = re.compile(r",| and | with | for ")
_PROSE = re.compile(r"^(?:to (?:buy|find|get) )?(?:an?|some|the) (.+?)(?= which | that | with | for | in | of |,|$)")
_NOUN_END = re.compile(r" with | for ")
_WORD = re.compile(r"[a-z]+")
_TERM = re.compile(r"(.*?)(?: \(([^()]*)\))?$")

# Everyday words of the five categories, for requests about products that the vocabulary does not have.
_MORE_WORDS = {
    "beauty": "skin hair makeup shampoo lotion lipstick oil brush dental teeth nail body eyelash beard soap lips",
    "electronics": "camera bluetooth speaker cable tv headphones phone laptop computer tablet case battery usb hdmi",
    "garden": "table bed sofa furniture room lamp curtain rug pillow storage kitchen wall light mattress decor wood",
    "fashion": "shirt shirts shoes dress pants sleeve jeans women men sandals boots jacket shorts sweater underwear",
    "grocery": "snack chocolate food sauce organic sugar cookies candy drink oz flavor gluten cheese seeds fruit",
}


def _word_domains() -> dict[str, str]:
    counts: dict[str, Counter[str]] = {}
    for domain in DOMAINS:
        texts = [*(f"{k.lay} {k.trade}" for k in domain.kinds), *(f"{a} {b}" for a, b in domain.attributes)]
        texts += [value for _, values in domain.options for value in values]
        for word in _WORD.findall(" ".join([*texts, _MORE_WORDS[domain.name]]).lower()):
            counts.setdefault(word, Counter())[domain.name] += 1
    return {word: found.most_common(1)[0][0] for word, found in counts.items() if len(found) == 1}


_DOMAIN_OF = _word_domains()


@lru_cache(maxsize=4096)
def guess_domain(text: str) -> str:
    """The category most of the telling words of a text belong to; "" where there is none."""
    votes = Counter(_DOMAIN_OF[word] for word in _WORD.findall(text.lower()) if word in _DOMAIN_OF)
    return max(votes, key=lambda d: (votes[d], d)) if votes else ""


def split_subtask(text: str) -> tuple[str, str]:
    """The instruction in a subtask and the shopper's request in it, either possibly "".

    The request begins at its usual opening ("find me" ...), or after the colon that ends an instruction; a text
    without either is a request if it names a price limit.
    """
    opening = _OPENING.search(text)
    head, colon, rest = text.partition(": ")
    if colon and _INSTRUCTION.search(head.lower()) and not (opening and opening.start() < len(head)):
        return head, rest
    if opening:
        return text[: opening.start()], text[opening.start() :]
    return ("", text) if _PRICE.search(text.lower()) else (text, "")


@lru_cache(maxsize=4096)
def parse_request(text: str) -> Requirements | None:
    """Understand a raw request as far as plain English goes (no trade words); None where nothing is asked for."""
    body = split_subtask(text)[1].lower().strip(" .\n")
    if not body:
        return None
    price = _PRICE.search(body)
    if price:
        body = body[: price.start()]
    options: tuple[tuple[str, str], ...] = ()
    tail = _OPTIONS.search(body)
    if tail:
        pairs = (part.split(": ", 1) for part in tail[1].split(", and ") if ": " in part)
        options = tuple((name.strip(), value.strip()) for name, value in pairs)
        body = body[: tail.start()]
    body = _OPENING.sub("", body, count=1).strip()
    product = _PRODUCT.search(_FEATURE.sub(lambda m: "_" * len(m[0]), body))
    if product:
        noun = product[0]
        features = _FEATURE.findall(body)
    else:
        pieces = [p.strip() for p in _PIECES.split(body) if p.strip()]
        prose = _PROSE.match(body)  # people write sentences; generated requests put the product before "with" or "for"
        noun = prose[1] if prose else _NOUN_END.split(body)[0].split(",")[-1].strip() or body
        features = [p for p in pieces if p != noun]
    limit = float(price[1]) if price else None
    return Requirements(Term(noun), tuple(Term(f) for f in dict.fromkeys(features)), options, limit)


def translate(wanted: Requirements, knows: Callable[[str], bool]) -> Requirements:
    """Add the trade's word to each term whose word the worker knows."""

    def term(old: Term) -> Term:
        return Term(old.lay, _TRADE[old.lay]) if old.lay in _TRADE and knows(old.lay) else old

    return wanted._replace(product=term(wanted.product), features=tuple(map(term, wanted.features)))


def write_list(wanted: Requirements) -> str:
    """A requirement list that `parse_list` reads."""

    def show(term: Term) -> str:
        return f"{term.trade} ({term.lay})" if term.trade else term.lay

    lines = [HEADER, f"product: {show(wanted.product)}"]
    lines += [f"feature: {show(term)}" for term in wanted.features]
    lines += [f"option: {name} = {value}" for name, value in wanted.options]
    if wanted.price is not None:
        lines.append(f"price below: {wanted.price:.2f}")
    return "\n".join(lines)


@lru_cache(maxsize=4096)
def parse_list(text: str) -> Requirements | None:
    """The requirement list in a text; None where there is none."""
    if HEADER not in text:
        return None
    product, features, options, price = Term(""), [], [], None
    for line in text[text.rindex(HEADER) :].splitlines()[1:]:
        key, _, value = line.partition(": ")
        if key == "product":
            product = _term(value)
        elif key == "feature":
            features.append(_term(value))
        elif key == "option" and " = " in value:
            name, _, choice = value.partition(" = ")
            options.append((name, choice))
        elif key == "price below":
            price = _number(value)
    return Requirements(product, tuple(features), tuple(options), price, listed=True) if product.lay else None


def _term(text: str) -> Term:
    match = _TERM.match(text.lower().strip())
    assert match is not None  # the pattern matches every line
    return Term(match[2], match[1]) if match[2] else Term(match[1])


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
