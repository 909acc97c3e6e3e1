"""Random integers of an episode: the same on every machine, worker and resume."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64

_ORDER_WHOLE = 2_048  # rows of a class up to which all of them are put in order


class RandomBits:
    """Random numbers as a pure function of integers, the same on every machine and with every NumPy version.

    Only the parts whose streams NumPy guarantees are used: `SeedSequence` and the raw output of a bit generator.
    """

    def __init__(self, *entropy: int):
        self._bits = np.random.Philox(np.random.SeedSequence(entropy))

    def permutation(self, n: int) -> Int64[np.ndarray, " n"]:
        """A uniformly random order of 0..n-1 (64-bit keys: ties are as good as impossible)."""
        return np.argsort(self._bits.random_raw(n))

    def prefix(self, n: int, size: int) -> Int64[np.ndarray, " at_most_size"]:
        """The first entries of a uniformly random order of 0..n-1: at most `size` of them, all of a small n.

        For a large n its cost grows with `size`, not with n.
        """
        if n <= max(size, _ORDER_WHOLE):
            return self.permutation(n)
        drawn = (self._bits.random_raw(size) % np.uint64(n)).astype(np.int64)
        _, first = np.unique(drawn, return_index=True)
        return drawn[np.sort(first)]

    def below(self, bound: int) -> int:
        """An integer in [0, bound)."""
        return int(self._bits.random_raw()) % bound
