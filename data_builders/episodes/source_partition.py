"""An exact search for a division of the sources of an episode between support and query.

A class can fill an episode if its sources can be divided so that one side has at least `k_shot` of its rows and the
other at least `n_query`. This is a subset-sum problem: is there a set of sources whose numbers of rows add up to at
least `k_shot` and at most `total - n_query`? The reachable sums are the bits of one Python integer (bit s is set if s
rows can be reached), which makes the answer exact and cheap. If classes share sources, a depth-first search assigns the
shared sources, and the subset sums decide about those that only one class has.

Without `source_disjoint` every row is its own source, and the same code applies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Int64

from .random_bits import RandomBits


def reachable_sums(sizes: Sequence[int] | Int64[np.ndarray, " sources"]) -> int:
    """Returns an integer whose bit s is set if some of the sizes add up to s."""
    sums = 1
    for size in sizes:
        sums |= sums << int(size)
    return sums


def can_fill(sizes: Sequence[int] | Int64[np.ndarray, " sources"], k_shot: int, n_query: int) -> bool:
    """Returns whether sources can be divided so that there are `k_shot` support rows and `n_query` query rows.

    Args:
        sizes: number of rows of each source.
        k_shot, n_query: numbers of rows that are needed on the two sides.
    """
    room = int(np.sum(sizes)) - n_query - k_shot
    if room < 0:
        return False
    if room >= max(sizes) - 1:  # adding one source after the other cannot skip a window this wide
        return True
    return _in_window(reachable_sums(sizes), k_shot, k_shot + room)


def nearest_settings(
    sizes: Sequence[int] | Int64[np.ndarray, " sources"], k_shot: int, n_query: int
) -> list[tuple[int, int]]:
    """Returns the feasible pairs (k_shot, n_query) that are nearest to an infeasible one.

    One pair has fewer queries, the other fewer shots, or a single pair has fewer of both. The list is empty if nothing
    is feasible.

    Args:
        sizes: number of rows of each source.
        k_shot, n_query: the infeasible setting.
    """
    total = int(np.sum(sizes))
    sums = reachable_sums(sizes)
    supports = [s for s in range(1, total) if sums >> s & 1]
    queries_left = [total - s for s in supports if s >= k_shot]
    shots_left = [s for s in supports if total - s >= n_query]
    nearest = []
    if queries_left:
        nearest.append((k_shot, min(n_query, max(queries_left))))
    if shots_left:
        nearest.append((min(k_shot, max(shots_left)), n_query))
    if not nearest and supports:
        best = max(supports, key=lambda s: (min(s, k_shot), min(total - s, n_query)))
        nearest.append((min(best, k_shot), min(total - best, n_query)))
    return list(dict.fromkeys(nearest))


def divide_sources(
    counts: Int64[np.ndarray, "sources classes"], k_shot: int, n_query: int, bits: RandomBits
) -> Bool[np.ndarray, " sources"] | None:
    """Divides sources between support and query for several classes at once.

    Args:
        counts: number of rows of every class in every source.
        k_shot, n_query: numbers of rows that every class needs on the support side and on the query side.
        bits: random numbers that choose among the possible divisions.

    Returns:
        For every source whether it is on the support side, or None if no division serves all classes. The search is
        exact.
    """
    n_sources, n_classes = counts.shape
    is_shared = (counts > 0).sum(axis=1) > 1
    shared = np.flatnonzero(is_shared)
    shared = shared[bits.permutation(len(shared))]
    own = [np.flatnonzero((counts[:, c] > 0) & ~is_shared) for c in range(n_classes)]
    own_sums = [reachable_sums(counts[own[c], c]) for c in range(n_classes)]
    own_totals = [int(counts[own[c], c].sum()) for c in range(n_classes)]

    def window(c: int, support: int, query: int) -> tuple[int, int]:
        """Returns the range of rows of class c that its own sources may give to the support side.

        `support` and `query` are the rows that the shared sources provide on the two sides.
        """
        return max(k_shot - support, 0), own_totals[c] - max(n_query - query, 0)

    def serves_all(support: Sequence[int], query: Sequence[int]) -> bool:
        return all(_in_window(own_sums[c], *window(c, support[c], query[c])) for c in range(n_classes))

    found = _search_shared(counts[shared], k_shot, n_query, own_totals, serves_all, bits)
    if found is None:
        return None
    sides = np.zeros(n_sources, dtype=bool)
    sides[shared] = found
    support, query = counts[shared[found]].sum(axis=0), counts[shared[~found]].sum(axis=0)
    for c in range(n_classes):
        order = own[c][bits.permutation(len(own[c]))]
        low, high = window(c, int(support[c]), int(query[c]))
        sides[order] = _pick_sources([int(size) for size in counts[order, c]], low, high, bits)
    return sides


def _in_window(sums: int, low: int, high: int) -> bool:
    """Returns whether one of the bits from low to high (inclusive) is set."""
    return high >= low and bool(sums >> low & ((1 << (high - low + 1)) - 1))


def _search_shared(
    counts: Int64[np.ndarray, "shared classes"],
    k_shot: int,
    n_query: int,
    own_totals: list[int],
    serves_all: Callable[[Sequence[int], Sequence[int]], bool],
    bits: RandomBits,
) -> Bool[np.ndarray, " shared"] | None:
    """Searches depth-first for the sides of the sources that several classes share, and visits no state twice."""
    n_shared, n_classes = counts.shape
    rows = [tuple(int(x) for x in row) for row in counts]
    remaining = np.vstack([counts[::-1].cumsum(axis=0)[::-1], np.zeros((1, n_classes), dtype=np.int64)])
    reserve = (remaining + np.asarray(own_totals)).tolist()
    prefers_support = [bits.below(k_shot + n_query) < k_shot for _ in range(n_shared)]
    sides = np.zeros(n_shared, dtype=bool)
    seen = set()
    stack = [(0, (0,) * n_classes, (0,) * n_classes, False)]
    while stack:
        depth, support, query, side = stack.pop()
        if depth:
            sides[depth - 1] = side
        left = reserve[depth]
        if any(s + r < k_shot or q + r < n_query for s, q, r in zip(support, query, left, strict=True)):
            continue
        if (depth, support) in seen:
            continue
        seen.add((depth, support))
        if depth == n_shared:
            if serves_all(support, query):
                return sides
            continue
        to_support = (depth + 1, tuple(map(sum, zip(support, rows[depth], strict=True))), query, True)
        to_query = (depth + 1, support, tuple(map(sum, zip(query, rows[depth], strict=True))), False)
        stack += [to_query, to_support] if prefers_support[depth] else [to_support, to_query]
    return None


def _pick_sources(sizes: list[int], low: int, high: int, bits: RandomBits) -> list[bool]:
    """Picks sources whose sizes add up to a number from low to high, by backtracking through the reachable sums."""
    prefix_sums = [1]
    for size in sizes:
        prefix_sums.append(prefix_sums[-1] | prefix_sums[-1] << size)
    targets = [s for s in range(low, high + 1) if prefix_sums[-1] >> s & 1]
    target = targets[bits.below(len(targets))]
    picked = [False] * len(sizes)
    for index in range(len(sizes) - 1, -1, -1):
        can_skip = prefix_sums[index] >> target & 1
        can_take = target >= sizes[index] and prefix_sums[index] >> (target - sizes[index]) & 1
        picked[index] = bool(can_take and (not can_skip or bits.below(2)))
        target -= sizes[index] * picked[index]
    return picked
