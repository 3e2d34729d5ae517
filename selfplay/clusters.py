"""How often a text repeats others: the share of its cluster, where the distance of two texts is 1 - BLEU.

R-Zero (arXiv 2508.05004) takes from a question's reward the share of the batch's questions that lie in its cluster:
agglomerative clustering with average linkage, cut where the distance reaches 0.5.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

MAX_ORDER = 4
SMOOTHING = 0.1
"""What an order of n-grams without a match counts as (method 1 of Chen and Cherry, 2014)."""

Words = tuple[str, ...]


def cluster_shares(texts: Sequence[str], threshold: float = 0.5) -> list[float]:
    """Per text, the size of its cluster divided by the number of texts: from 1 / len(texts) to 1.

    Blank texts are a cluster each, for they have no n-gram in common. The order of the texts changes nothing.
    """
    sizes = Counter(words for text in texts if (words := tuple(text.split())))
    size_of = dict.fromkeys(sizes, 0)
    for cluster in _merged(sizes, threshold):
        for words in cluster:
            size_of[words] = sum(sizes[other] for other in cluster)
    return [size_of.get(tuple(text.split()), 1) / len(texts) for text in texts]


def bleu(candidate: Words, reference: Words) -> float:
    """Sentence BLEU of up to 4-grams, between 0 and 1: brevity penalty times the geometric mean of the precisions.

    An order that the candidate is too short for is left out, so that equal texts have 1 however short they are (with a
    fixed order of 4, two equal texts of two words would be far apart). No common word: 0.
    """
    if not candidate or not reference:
        return 0.0
    logs: list[float] = []
    for order in range(1, min(MAX_ORDER, len(candidate)) + 1):
        said, known = _ngrams(candidate, order), _ngrams(reference, order)
        matches = sum(min(count, known[gram]) for gram, count in said.items())
        if order == 1 and not matches:
            return 0.0
        logs.append(math.log((matches or SMOOTHING) / (len(candidate) - order + 1)))
    brevity = min(0.0, 1 - len(reference) / len(candidate))
    return math.exp(brevity + math.fsum(logs) / len(logs))


def distance(a: Words, b: Words) -> float:
    """1 minus the mean of BLEU in both directions: BLEU itself is not symmetric, and the distance must not depend on
    which text came first."""
    return 1 - (bleu(a, b) + bleu(b, a)) / 2


def distances(items: Sequence[Words]) -> list[list[float]]:
    """The ``distance`` of every two texts, row by row and to the last bit the same.

    n-grams are counted for all texts at once: one that k texts have adds to k x k numbers in one operation, and the
    logarithms of the precisions are looked up. What is left for a pair is one sum and one exponential.
    """
    count = len(items)
    lengths = [len(words) for words in items]
    exponents: list[list[list[float]]] = []  # order, candidate, reference
    matches = [_matches(items, order) for order in range(1, MAX_ORDER + 1)]
    for order, found in enumerate(matches, 1):
        rows: list[list[float]] = []
        for a, size in enumerate(lengths):
            grams = size - order + 1
            known = [math.log((number or SMOOTHING) / grams) for number in range(grams + 1)] if grams > 0 else []
            rows.append([known[number] for number in found[a]] if known else [])
        exponents.append(rows)
    score = [[0.0] * count for _ in items]
    for a, size in enumerate(lengths):
        orders = [exponents[order][a] for order in range(min(MAX_ORDER, size))]
        if not orders:
            continue  # a blank text has nothing in common with any
        for b, (logs, common) in enumerate(zip(zip(*orders, strict=True), matches[0][a], strict=True)):
            if common:
                score[a][b] = math.exp(min(0.0, 1 - lengths[b] / size) + math.fsum(logs) / len(logs))
    return [[1 - (score[a][b] + score[b][a]) / 2 for b in range(count)] for a in range(count)]


def _matches(items: Sequence[Words], order: int) -> list[list[int]]:
    """How many n-grams each text has in common with each, one as often as both have it."""
    holders: dict[Words, dict[int, int]] = {}
    for number, words in enumerate(items):
        for gram, times in _ngrams(words, order).items():
            holders.setdefault(gram, {})[number] = times
    found = np.zeros((len(items), len(items)), np.int64)
    for held in holders.values():
        if len(held) == 1:
            continue
        who, times = np.array(list(held)), np.array(list(held.values()))
        found[who[:, None], who] += np.minimum.outer(times, times)
    np.fill_diagonal(found, [max(0, len(words) - order + 1) for words in items])
    return found.tolist()


def _merged(sizes: Counter[Words], threshold: float) -> list[list[Words]]:
    """Clusters of distinct texts, ``sizes`` of each: the nearest two are merged while they are nearer than the
    threshold, and a merged cluster's distance to others is the mean over its texts.

    Equal texts are one item with a weight, for they would be merged first in any case. Ties go to the first in
    alphabetical order of the clusters' first texts.
    """
    items = sorted(sizes)
    members = {number: [words] for number, words in enumerate(items)}
    weight = {number: sizes[words] for number, words in enumerate(items)}
    far: dict[int, dict[int, float]] = {}
    for a, row in enumerate(distances(items)):
        far[a] = {b: gap for b, gap in enumerate(row) if b != a}
    # What lies at the threshold or beyond it is never merged, so it need not queue.
    queue = [(gap, a, b) for a, row in far.items() for b, gap in row.items() if a < b and gap < threshold]
    heapq.heapify(queue)
    while queue and queue[0][0] < threshold:
        gap, a, b = heapq.heappop(queue)
        if a not in members or b not in members or far[a][b] != gap:
            continue  # an entry from before a merger
        row, other = far[a], far.pop(b)
        members[a] += members.pop(b)
        for c in members:
            if c != a:
                row[c] = far[c][a] = (weight[a] * row[c] + weight[b] * other[c]) / (weight[a] + weight[b])
                if row[c] < threshold:
                    heapq.heappush(queue, (row[c], min(a, c), max(a, c)))
        weight[a] += weight.pop(b)
    return list(members.values())


@lru_cache(maxsize=8192)
def _ngrams(words: Words, order: int) -> Counter[Words]:
    return Counter(words[at : at + order] for at in range(len(words) - order + 1))
