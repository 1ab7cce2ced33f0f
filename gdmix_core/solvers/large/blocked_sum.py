"""Sums over many rows on all cores, the same bits on any number of them.

The rows are cut into a fixed number of blocks. Each block sums on its own, and the blocks are added in their order, so
that the result does not depend on which thread did what.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from gdmix_core.jit import njit

# Each block owns a dense sum: few blocks for many numbers, or memory and adding up would cost more than they save.
_BLOCK_BYTES = 64 << 20
_MAX_BLOCKS = 16

Fill = Callable[[int, int, NDArray[np.float64]], float]


def block_count(width: int) -> int:
    """Return the number of blocks, which depends on the length of the sum only, never on the machine."""
    return int(np.clip(_BLOCK_BYTES // (8 * max(width, 1)), 2, _MAX_BLOCKS))


class BlockedSum:
    """Sums of `width` float64 over `rows` rows. The blocks' memory is kept from sum to sum."""

    def __init__(self, rows: int, width: int, pool: ThreadPoolExecutor) -> None:
        self._blocks = block_count(width)
        self._bounds = [rows * k // self._blocks for k in range(self._blocks + 1)]
        self._parts = np.zeros((self._blocks, width))
        self._pool = pool

    def sum(self, fill: Fill) -> tuple[float, NDArray[np.float64]]:
        """fill(begin, end, out) overwrites out with the sum over the rows begin … end−1 and returns one more number of
        theirs. Returns the sum of those numbers, and that of the vectors, float64 [width]."""

        def block(k: int) -> float:
            return fill(self._bounds[k], self._bounds[k + 1], self._parts[k])

        value = 0.0
        for part in self._pool.map(block, range(self._blocks)):
            value += part
        width = self._parts.shape[1]
        cuts = np.linspace(0, width, 2 * self._blocks + 1).astype(np.int64)
        total = np.empty(width)
        list(self._pool.map(lambda c: _add(self._parts, cuts[c], cuts[c + 1], total), range(2 * self._blocks)))
        return value, total


@njit(cache=True, nogil=True)
def _add(parts: NDArray[np.float64], begin: int, end: int, total: NDArray[np.float64]) -> None:
    for j in range(begin, end):
        total[j] = parts[0, j]
    for k in range(1, parts.shape[0]):
        for j in range(begin, end):
            total[j] += parts[k, j]
