"""Ragged columns: a variable number of values per row, stored flat. The shape every feature bag has in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Bag:
    """A sparse feature matrix by rows (the arrays of a CSR matrix).

    offsets: int64 [n + 1], offsets[0] == 0; row i owns the entries offsets[i] : offsets[i + 1]
    indices: int32 [entries], feature indices, from 0
    values:  float32 or float64 [entries]
    """

    offsets: NDArray[np.int64]
    indices: NDArray[np.int32]
    values: NDArray[np.floating]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def entry_rows(self) -> NDArray[np.int32]:
        """int32 [entries]: the row of each entry."""
        return np.repeat(np.arange(len(self), dtype=np.int32), np.diff(self.offsets))

    @classmethod
    def empty(cls, rows: int) -> Bag:
        """Rows without features, as those of an intercept-only model."""
        return cls(np.zeros(rows + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))

    def between(self, first: int, last: int) -> Bag:
        """The rows first … last − 1; indices and values are views."""
        offsets = self.offsets[first : last + 1]
        entries = slice(int(offsets[0]), int(offsets[-1]))
        return Bag(offsets - offsets[0], self.indices[entries], self.values[entries])
