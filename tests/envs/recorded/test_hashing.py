"""A text's vector depends on its words and on nothing around it."""

from __future__ import annotations

import numpy as np

from nextstep_envs.recorded.hashing import hash_texts

TEXTS = ["The answer is (B).", "", "Ünïcode straße, a1 b2", "answer the", "....", "x" * 300, "is the\nanswer b"]


def test_a_vector_does_not_depend_on_the_other_texts() -> None:
    for pairs in (False, True):
        together = hash_texts(TEXTS, 32, pairs)
        alone = np.concatenate([hash_texts([text], 32, pairs) for text in TEXTS])
        assert together.tobytes() == alone.tobytes() and together.dtype == np.float32


def test_words_count_in_any_case_and_order_only_in_pairs() -> None:
    words = hash_texts(["THE answer", "answer, the!"], 64)
    assert (words[0] == words[1]).all()
    ordered = hash_texts(["the answer", "answer the"], 64, pairs=True)
    assert (ordered[0] != ordered[1]).any()


def test_vectors_have_unit_length_or_are_zero() -> None:
    np.testing.assert_allclose(np.linalg.norm(hash_texts(TEXTS, 64), axis=1), [1, 0, 1, 1, 0, 1, 1], rtol=1e-6)


def test_different_words_fall_into_many_buckets() -> None:
    words = [f"word{i}" for i in range(2000)]
    table = hash_texts(words, 64)
    counts = np.abs(table).sum(0)
    assert counts.min() > 10 and abs(table.sum()) < 200  # spread, with signs in balance
