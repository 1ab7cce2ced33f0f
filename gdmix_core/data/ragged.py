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
