"""`RandomBits`, the random integers of an episode, which are the same on every machine, in every worker and run."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64

_ORDER_WHOLE = 2_048  # largest number of rows for which `prefix` orders all of them


class RandomBits:
    """Random numbers that are a pure function of integers, on every machine and with every version of NumPy.

    Only those parts of NumPy are used whose streams it guarantees: `SeedSequence` and the raw output of a bit
    generator.

    Args:
        *entropy: non-negative integers, such as a seed and an index, that determine all the numbers.
    """

    def __init__(self, *entropy: int):
        self._bits = np.random.Philox(np.random.SeedSequence(entropy))

    def permutation(self, n: int) -> Int64[np.ndarray, " n"]:
        """Returns a uniformly random order of 0 to n - 1. Ties are practically impossible with keys of 64 bits."""
        return np.argsort(self._bits.random_raw(n))

    def prefix(self, n: int, size: int) -> Int64[np.ndarray, " at_most_size"]:
        """Returns the first entries of a uniformly random order of 0 to n - 1.

        It returns at most `size` entries for a large n, and all n entries for a small one. For a large n, the cost
        grows with `size` and not with n.
        """
        if n <= max(size, _ORDER_WHOLE):
            return self.permutation(n)
        drawn = (self._bits.random_raw(size) % np.uint64(n)).astype(np.int64)
        _, first = np.unique(drawn, return_index=True)
        return drawn[np.sort(first)]

    def below(self, bound: int) -> int:
        """Returns a random integer in [0, bound)."""
        return int(self._bits.random_raw()) % bound
