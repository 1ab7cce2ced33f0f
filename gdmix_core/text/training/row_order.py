"""The order of rows in batches. It depends on the seed and the epoch, never on the number of workers.

Every worker computes the order of all rows alike (4 bytes a row) and takes, of each batch, those rows it holds.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gdmix_core.jit import njit


class RowOrder(Protocol):
    """steps: batches of an epoch, the last and smaller one too"""

    steps: int

    def begin(self, epoch: int) -> None:
        """Draw the order of an epoch, from 0."""

    def own(self, step: int) -> NDArray[np.int64]:
        """Return int64: positions among this worker's rows of those in a batch of the epoch, from 0; perhaps none."""

    def size(self, step: int) -> int:
        """Return how many rows a batch has, of all workers together."""


class OrderOfRows:
    """Every row by itself. start, stop: this worker's rows, consecutive ones."""

    def __init__(self, rows: int, start: int, stop: int, batch: int, seed: int) -> None:
        self.steps = -(-rows // batch)
        self._rows, self._start, self._stop, self._batch, self._seed = rows, start, stop, batch, seed
        self._order = np.empty(0, np.int32)

    def begin(self, epoch: int) -> None:
        self._order = permutation(self._rows, self._seed, epoch)

    def own(self, step: int) -> NDArray[np.int64]:
        batch = self._order[step * self._batch : (step + 1) * self._batch].astype(np.int64)
        return batch[(batch >= self._start) & (batch < self._stop)] - self._start

    def size(self, step: int) -> int:
        return min(self._batch, self._rows - step * self._batch)


class OrderOfGroups:
    """Whole groups, each held by one worker; a batch has as many as make about `batch` rows.

    codes int64 [rows]: the number of each row's group, 0 … G − 1. rows int64: the rows of this worker, ascending.
    """

    def __init__(self, codes: NDArray[np.int64], rank: int, workers: int, batch: int, seed: int) -> None:
        total = len(codes)
        self._seed = seed
        self._sizes = np.bincount(codes)
        # No more than there are groups: where these are larger than a batch, most batches would have none.
        self.steps = min(-(-total // batch), len(self._sizes))
        before = np.cumsum(self._sizes) - self._sizes
        self._is_own = before * workers // max(1, total) == rank
        self.rows = np.flatnonzero(self._is_own[codes])
        of_rows = codes[self.rows]
        self._positions = np.argsort(of_rows, kind="stable")
        own_sizes = np.where(self._is_own, self._sizes, 0)
        self._begin = np.cumsum(own_sizes) - own_sizes
        self._order = np.empty(0, np.int32)
        self._batch_of = np.empty(0, np.int64)

    def begin(self, epoch: int) -> None:
        self._order = permutation(len(self._sizes), self._seed, epoch)
        sizes = self._sizes[self._order]
        # By the rows before it, so that every epoch has as many batches.
        self._batch_of = (np.cumsum(sizes) - sizes) * self.steps // max(1, int(np.sum(sizes)))

    def own(self, step: int) -> NDArray[np.int64]:
        groups = self._groups(step)
        groups = groups[self._is_own[groups]]
        return _spans(self._begin[groups], self._sizes[groups], self._positions)

    def size(self, step: int) -> int:
        return int(np.sum(self._sizes[self._groups(step)]))

    def _groups(self, step: int) -> NDArray[np.int32]:
        low, high = np.searchsorted(self._batch_of, [step, step + 1])
        return self._order[low:high]


def permutation(rows: int, seed: int, epoch: int) -> NDArray[np.int32]:
    """Return int32 [rows], the same on every machine. rows: below 2³¹"""
    random = np.random.Generator(np.random.PCG64([seed, epoch]))
    return random.permutation(np.arange(rows, dtype=np.int32))


@njit(cache=True, nogil=True)
def _spans(begin: NDArray[np.int64], size: NDArray[np.int64], positions: NDArray[np.int64]) -> NDArray[np.int64]:
    out = np.empty(np.sum(size), np.int64)
    at = 0
    for k in range(len(begin)):
        for s in range(begin[k], begin[k] + size[k]):
            out[at] = positions[s]
            at += 1
    return out
