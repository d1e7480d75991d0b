"""BM25 over the products: the reference's Lucene ranking, ties included, from an index in four arrays."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from nextstep_envs.worlds.webshop.analysis import STOP_WORDS, analyze, normalize, tokens
from nextstep_envs.worlds.webshop.products import Product
from nextstep_envs.worlds.webshop.stemmer import stem

RESULTS = 50
K1, B = 0.9, 0.4

_STOPPED = -1


def indexed_text(product: Product) -> str:
    """What the search engine knows of a product: title, description, first bullet and options, lower-cased."""
    options = ", and ".join(f"{name}: {', '.join(values)}" for name, values in product.options)
    first_bullet = product.bullets[0] if product.bullets else ""
    return " ".join((product.title, product.description, first_bullet, options)).lower()


class SearchIndex:
    """An inverted index whose postings already hold what each adds to a score.

    Documents are numbered by ASIN in ascending order, so that equal scores come out in the right order by themselves.
    """

    def __init__(self, asins: Sequence[str], texts: Iterable[str]) -> None:
        """Index `texts`, the text of each ASIN (distinct, any order)."""
        by_asin = sorted(range(len(asins)), key=asins.__getitem__)
        self._asins = tuple(asins[i] for i in by_asin)
        rank = np.empty(len(asins), np.int32)
        rank[by_asin] = np.arange(len(asins), dtype=np.int32)
        self._terms, term_ids, counts, distinct, lengths = _count_terms(texts)
        documents = np.repeat(rank, distinct)
        frequency = np.bincount(term_ids, minlength=len(self._terms))  # documents that hold each term
        order = np.argsort(term_ids, kind="stable")
        self._documents = documents[order]
        self._starts = array("l", [0, *np.cumsum(frequency).tolist()])
        n = np.count_nonzero(lengths)  # a document without terms counts neither here nor in the average
        average = max(lengths.sum(), 1) / max(n, 1)
        weight = np.log(1 + (n - frequency + 0.5) / (frequency + 0.5))
        norm = np.empty(len(asins))
        norm[rank] = K1 * (1 - B + B * stored_length(lengths) / average)
        f = counts[order]
        del order, documents
        self._impacts = np.repeat(weight, frequency)
        self._impacts *= f / (f + norm[self._documents])
        self.search = lru_cache(maxsize=1 << 12)(self._search)

    def _search(self, query: str) -> tuple[str, ...]:
        """Up to `RESULTS` ASINs, best first; only those that share a term with the query. Remembers recent queries."""
        total = self._total(query)
        return () if total is None else tuple(map(self._asins.__getitem__, _best(total, RESULTS).tolist()))

    def scores(self, query: str, k: int = RESULTS) -> list[tuple[str, float]]:
        """The best `k` ASINs with their scores, best first, ties by ascending ASIN."""
        total = self._total(query)
        return [] if total is None else [(self._asins[i], float(total[i])) for i in _best(total, k).tolist()]

    def _total(self, query: str) -> NDArray[np.float32] | None:
        """The score of every document; None where no term of the query is known."""
        documents, impacts = [], []
        for term, count in Counter(analyze(query)).items():
            i = self._terms.get(term)
            if i is not None:
                part = slice(self._starts[i], self._starts[i + 1])
                documents.append(self._documents[part])
                impacts.append(self._impacts[part] if count == 1 else count * self._impacts[part])
        if not documents:
            return None
        # Summed in double precision, then rounded to single: what decides ties in Lucene.
        return np.bincount(np.concatenate(documents), np.concatenate(impacts)).astype(np.float32)


def _best(total: NDArray[np.float32], k: int) -> NDArray[np.intp]:
    """The positions of the `k` largest positive entries, ties by position."""
    found = total.nonzero()[0]
    values = total[found]
    if len(found) > k:
        threshold = np.partition(values, len(values) - k)[len(values) - k]
        kept = (values >= threshold).nonzero()[0]
        found, values = found[kept], values[kept]
    order: NDArray[np.intp] = (-values).argsort(kind="stable")[:k]
    return found[order]


def stored_length(length: NDArray[np.int64]) -> NDArray[np.int64]:
    """Document lengths as Lucene keeps them, in one byte: exact to 39, then 4 leading bits of what exceeds 24."""
    excess = np.maximum(length - 24, 0)
    bits = np.frexp(excess)[1]  # number of bits of the excess
    shift = np.maximum(bits - 4, 0)
    return np.where(length < 24, length, 24 + ((excess >> shift) << shift))


def _count_terms(
    texts: Iterable[str],
) -> tuple[dict[str, int], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
    """Terms by number; term and count of every posting, document by document; postings and tokens of each document."""
    terms: dict[str, int] = {}
    known: dict[str, int] = {}  # token, as in the text, to its term
    term_ids, counts, distinct, lengths = array("i"), array("i"), array("i"), array("q")
    for text in texts:
        found = []
        for token in tokens(text):
            term = known.get(token)
            if term is None:
                word = normalize(token)
                term = _STOPPED if word in STOP_WORDS else terms.setdefault(stem(word), len(terms))
                known[token] = term
            found.append(term)
        counter = Counter(found)
        counter.pop(_STOPPED, None)
        term_ids.extend(counter.keys())
        counts.extend(counter.values())
        distinct.append(len(counter))
        lengths.append(sum(counter.values()))
    return (
        terms,
        np.frombuffer(term_ids, np.int32),
        np.frombuffer(counts, np.int32),
        np.frombuffer(distinct, np.int32),
        np.frombuffer(lengths, np.int64),
    )
