"""How often a text repeats others: BLEU and clusters by hand, against SciPy, and whatever the order."""

from __future__ import annotations

import math
import random
from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from selfplay import clusters
from selfplay.clusters import bleu, cluster_shares, distance, distances

BASE = "how many apples are left in the basket"


def w(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# -- BLEU --------------------------------------------------------------------------------------------------------------


def test_bleu_by_hand() -> None:
    """ "a b c d" against "a b c e": 3 of 4 words, 2 of 3 pairs, 1 of 2 triples, and no four: 0.1 of 1. The product is
    0.75 * 0.66667 * 0.5 * 0.1 = 0.025, its fourth root 0.39764; equal lengths, so no penalty."""
    assert bleu(w("a b c d"), w("a b c e")) == pytest.approx(0.025**0.25)


def test_bleu_counts_a_word_as_often_as_the_reference_has_it() -> None:
    """Three times "the" against "the cat": 1 of 3 words; pairs and triples 0.1 of 2 and of 1. Longer than the
    reference, so no penalty: (1/3 * 0.05 * 0.1) ** (1/3). The other way round: 1 of 2 words, though the reference has
    three of it, and 0.1 of 1 pair, times exp(1 - 3/2)."""
    assert bleu(w("the the the"), w("the cat")) == pytest.approx((1 / 3 * 0.05 * 0.1) ** (1 / 3))
    assert bleu(w("the cat"), w("the the the")) == pytest.approx(math.exp(-0.5) * (0.5 * 0.1) ** 0.5)


def test_bleu_punishes_what_is_short() -> None:
    """ "a b" is all there in "a b c d", precisions 1 and 1, at half the length: exp(1 - 4/2) = 0.36788. The other way
    round: 2 of 4 words, 1 of 3 pairs, 0.1 of 2 triples, 0.1 of 1 four."""
    assert bleu(w("a b"), w("a b c d")) == pytest.approx(math.exp(-1))
    assert bleu(w("a b c d"), w("a b")) == pytest.approx((0.5 * (1 / 3) * 0.05 * 0.1) ** 0.25)
    assert distance(w("a b"), w("a b c d")) == distance(w("a b c d"), w("a b"))


@pytest.mark.parametrize("text", ["one", "one two", "one two three", BASE])
def test_equal_texts_have_no_distance_however_short(text: str) -> None:
    """With a fixed order of 4 and 0.1 for what is missing, two equal texts of two words had (1 * 1 * 0.1 * 0.1) ** 0.25
    = 0.316, and would lie apart at a threshold of 0.5."""
    assert bleu(w(text), w(text)) == 1 and distance(w(text), w(text)) == 0


def test_nothing_in_common_is_as_far_as_can_be() -> None:
    assert distance(w("a b c d"), w("e f g h")) == distance(w(""), w("")) == distance(w("a"), w("")) == 1


# -- clusters ----------------------------------------------------------------------------------------------------------


def test_shares_by_hand() -> None:
    """Three wordings that differ in one of eight words, and another question: clusters {3, 1} of B = 4."""
    texts = [BASE, "what is the capital of the northern province", BASE.replace("apples", "pears"), BASE + "?"]
    assert distance(w(texts[0]), w(texts[2])) < 0.5 and distance(w(texts[0]), w(texts[3])) < 0.5
    assert cluster_shares(texts) == [0.75, 0.25, 0.75, 0.75]


def test_all_alike_and_all_different() -> None:
    assert cluster_shares(["a b c"] * 5) == [1.0] * 5
    assert cluster_shares(["a", "b", "c", "d"]) == [0.25] * 4
    assert cluster_shares([]) == []


def test_a_blank_text_is_alone() -> None:
    """Questions that could not be read are not each other's repetition: -1 - 1/B, not -1 - 2/B."""
    assert cluster_shares(["", " \n", "a b c d", "a b c d"]) == [0.25, 0.25, 0.5, 0.5]


def test_the_linkage_is_the_average() -> None:
    """a - b - c with distances ab = bc = 0.39 and ac far:"""
    a, b, c = "p q r s t u v w", "p q r s t u x y", "p q r z t u x y"
    ab, bc, ac = (distance(w(one), w(two)) for one, two in ((a, b), (b, c), (a, c)))
    merged = min(ab, bc)
    mean = (max(ab, bc) + ac) / 2
    assert merged < max(ab, bc) < mean < ac
    assert sorted(cluster_shares([a, b, c], threshold=mean - 1e-9)) == [1 / 3, 2 / 3, 2 / 3]
    assert cluster_shares([a, b, c], threshold=mean + 1e-9) == [1.0] * 3
    assert mean - 1e-9 > max(ab, bc), "single linkage would have joined all three"
    assert mean + 1e-9 < ac, "complete linkage would not have joined them"


def test_the_cut_is_below_the_threshold() -> None:
    gap = distance(w("a b c d"), w("a b c e"))
    assert cluster_shares(["a b c d", "a b c e"], threshold=gap) == [0.5, 0.5]
    assert cluster_shares(["a b c d", "a b c e"], threshold=math.nextafter(gap, 1)) == [1.0, 1.0]


def test_ties_go_by_the_texts() -> None:
    """The middle text is as near to the one as to the other, which are too far apart for a cluster of three: it goes to
    the first in the alphabet, wherever that stands."""
    middle, first, last = (f"{head} m n o p q r {tail}" for head, tail in (("x", "y"), ("x", "z"), ("z", "y")))
    assert distance(w(middle), w(first)) == distance(w(middle), w(last)) < 0.2 < distance(w(first), w(last))
    for texts in permutations([middle, first, last]):
        shares = dict(zip(texts, cluster_shares(texts, threshold=0.2), strict=True))
        assert shares == {middle: 2 / 3, first: 2 / 3, last: 1 / 3}


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), number=st.integers(0, 12))
def test_all_at_once_they_are_as_far_as_each_pair(seed: int, number: int) -> None:
    """To the last bit, or ties would fall otherwise: short and long texts, n-grams that come several times."""
    rng = random.Random(seed)
    items = [tuple(rng.choices("abc", k=rng.randint(0, 9))) for _ in range(number)]  # a blank one is far from all
    assert distances(items) == [[distance(a, b) for b in items] for a in items]


def test_no_pair_is_a_call_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """512 questions have 130,816 pairs, each of them with two BLEUs of four orders; and n-grams are counted once a
    text."""

    def refused(*_: object) -> float:
        raise AssertionError("pair by pair")

    counted: list[object] = []
    ngrams = clusters._ngrams.__wrapped__
    monkeypatch.setattr(clusters, "distance", refused)
    monkeypatch.setattr(clusters, "bleu", refused)
    monkeypatch.setattr(clusters, "_ngrams", lambda words, order: counted.append(words) or ngrams(words, order))
    texts = [f"{text} {number}" for number, text in enumerate(sentences(3, 512))]
    assert len(set(texts)) == len(cluster_shares(texts)) == 512
    assert len(counted) == 4 * 512


def sentences(seed: int, number: int) -> list[str]:
    """Questions of a small vocabulary: some equal, many alike."""
    rng = random.Random(seed)
    stems = [[rng.choice("abcdefgh") for _ in range(8)] for _ in range(4)]
    return [" ".join([*rng.choice(stems)[: rng.randint(3, 8)], rng.choice("xyz")]) for _ in range(number)]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), number=st.integers(2, 24), threshold=st.sampled_from([0.2, 0.5, 0.8]))
def test_clusters_are_scipys(seed: int, number: int, threshold: float) -> None:
    """Its average linkage over all pairs, equal texts and all, cut at the same height. Where two mergers have nearly
    the same height it is anybody's choice which comes first: then the next seed is tried."""
    for attempt in range(50):
        texts = sentences(seed + attempt, number)
        far = np.array([[distance(w(a), w(b)) for b in texts] for a in texts])
        mergers = linkage(squareform(far, checks=False), "average")
        heights = np.append(mergers[mergers[:, 2] > 1e-12, 2], threshold)
        if len(heights) == 1 or np.diff(np.sort(heights)).min() > 1e-9:
            break
    else:
        raise AssertionError("no seed without ties")
    labels = fcluster(mergers, threshold, "distance")
    sizes = Counter(labels)
    assert cluster_shares(texts, threshold) == [sizes[label] / number for label in labels]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), number=st.integers(1, 24))
def test_the_order_changes_nothing(seed: int, number: int) -> None:
    """Ties among the distances, too, are broken by the texts and not by their places."""
    texts = sentences(seed, number)
    order = random.Random(seed).sample(range(number), number)
    shares = cluster_shares(texts)
    assert cluster_shares([texts[i] for i in order]) == [shares[i] for i in order]
