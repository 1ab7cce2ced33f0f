"""Sums over many rows on all cores, the same bits on any number of them.

The rows are cut into a fixed number of blocks. Each block sums on its own, and the blocks are added in their order, so
that the result does not depend on which thread did what.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gdmix_core.jit import njit
from gdmix_core.workers.threads import Threads

# Several for each of many cores, so that none waits long for the last.
_MAX_BLOCKS = 64
# Each block owns a dense sum. Clearing and adding them up must cost little beside the entries, 12 bytes each, which
# are read and scattered.
_ENTRIES_PER_NUMBER = 2
_COLUMNS_AT_A_TIME = 1 << 14

Fill = Callable[[int, int, NDArray[np.float64]], float]


def block_count(entries: int, width: int) -> int:
    """Return the number of blocks, which depends on the sum only, never on the machine."""
    return int(np.clip(entries // (_ENTRIES_PER_NUMBER * max(width, 1)), 2, _MAX_BLOCKS))


class BlockedSum:
    """Sums of vectors over rows. The blocks' memory is kept from sum to sum.

    Parameters
    ----------
    rows, entries
        How many there are; row i's entries are as many as any other's, about.
    width
        Length of the vectors.
    threads
        Who sums.
    """

    def __init__(self, rows: int, entries: int, width: int, threads: Threads) -> None:
        self._blocks = block_count(rows + entries, width)
        self._bounds = [rows * k // self._blocks for k in range(self._blocks + 1)]
        self._parts = np.empty((self._blocks, width))
        self._threads = threads

    def sum(self, fill: Fill) -> tuple[float, NDArray[np.float64]]:
        """fill(begin, end, out) overwrites out with the sum over the rows begin … end−1 and returns one more number of
        theirs. Returns the sum of those numbers, and that of the vectors, float64 [width]."""

        values = [0.0] * self._blocks
        width = self._parts.shape[1]
        total = np.empty(width)

        def block(k: int) -> None:
            values[k] = fill(self._bounds[k], self._bounds[k + 1], self._parts[k])

        self._threads.each(block, self._blocks)
        self._threads.each_span(lambda begin, end: _add(self._parts, begin, end, total), width, _COLUMNS_AT_A_TIME)
        value = 0.0
        for part in values:
            value += part
        return value, total


@njit(cache=True, nogil=True)
def _add(parts: NDArray[np.float64], begin: int, end: int, total: NDArray[np.float64]) -> None:
    for j in range(begin, end):
        total[j] = parts[0, j]
    for k in range(1, parts.shape[0]):
        for j in range(begin, end):
            total[j] += parts[k, j]
