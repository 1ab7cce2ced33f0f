"""Ragged columns: a variable number of values per row, stored flat. The shape every feature bag has in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gdmix_core.data.checked_arrays import NOT_FINITE, first_fault, integers, is_sound, reals, refuse, row_ends
from gdmix_core.errors import DataError
from gdmix_core.workers.threads import Threads

ROWS_OF_A_PIECE = 1 << 16  # that a thread takes at a time


@dataclass(frozen=True)
class Bag:
    """A sparse feature matrix by rows (the arrays of a CSR matrix).

    Parameters
    ----------
    offsets
        int64 [n + 1], offsets[0] == 0; row i owns the entries offsets[i] : offsets[i + 1].
    indices
        int32 [entries], feature indices, from 0.
    values
        float32 or float64 [entries].
    """

    offsets: NDArray[np.int64]
    indices: NDArray[np.int32]
    values: NDArray[np.floating]

    def __len__(self) -> int:
        return max(len(self.offsets) - 1, 0)

    def checked(
        self, features: int | None, what: str = "bag", *, ascending: bool = False, threads: Threads | None = None
    ) -> Bag:
        """Return the bag as kernels may take it: in their types, indices within 0 … features − 1, values finite.

        Parameters
        ----------
        features
            How many features there are; None for any number.
        what
            What errors call the bag.
        ascending
            Whether a row's indices have to ascend without repeats, as training needs them.
        threads
            Who checks; None for the caller alone.

        Raises
        ------
        DataError
            For the first fault, with the row it is in.
        """
        limit = 2**31 - 1 if features is None else features
        threads = threads or Threads(1)
        if self._has_kernels_types() and self._is_sound(limit, ascending, threads):
            return self
        indices: NDArray = np.asarray(self.indices)
        if indices.dtype != np.int32 or indices.ndim != 1:
            indices = integers(indices, f"{what}.indices")
        if len(indices) and (indices.min() < 0 or indices.max() >= limit):
            within = f"a feature index 0 … {limit - 1}" if limit else "empty, as there are no features"
            refuse((indices < 0) | (indices >= limit), indices, f"{what}.indices", within, self._row_of)
        indices = np.ascontiguousarray(indices, np.int32)
        values = np.asarray(self.values)
        if values.ndim != 1 or len(values) != len(indices):
            raise DataError(f"{what}: {len(indices)} indices need as many values, not {values.shape}")
        if values.dtype not in (np.float32, np.float64):
            values = reals(values, f"{what}.values")
        values = np.ascontiguousarray(values)
        offsets = row_ends(self.offsets, len(indices), f"{what}.offsets")
        bag = Bag(offsets, indices, values)
        if bag._is_sound(limit, ascending, threads):
            return bag
        fault, row, entry = first_fault(offsets, indices, values, ascending)
        if fault == NOT_FINITE:
            raise DataError(f"{what}: row {row} has {values[entry]} as the value of feature index {indices[entry]}")
        raise DataError(
            f"{what}: row {row} lists feature index {indices[entry]} after {indices[entry - 1]}; a row's indices must "
            "ascend, each once (of a SciPy CSR matrix: sum_duplicates())"
        )

    def _has_kernels_types(self) -> bool:
        types = {"offsets": (np.int64,), "indices": (np.int32,), "values": (np.float32, np.float64)}
        arrays = ((getattr(self, name), allowed) for name, allowed in types.items())
        return all(
            type(array) is np.ndarray and array.ndim == 1 and array.dtype in allowed and array.flags.c_contiguous
            for array, allowed in arrays
        )

    def _is_sound(self, limit: int, ascending: bool, threads: Threads) -> bool:
        """Check the content of arrays of the right types."""
        offsets, entries = self.offsets, len(self.indices)
        if len(self.values) != entries or len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != entries:
            return False
        faults: list[int] = []

        def check(begin: int, end: int) -> None:
            if not is_sound(offsets, self.indices, self.values, begin, end, limit, ascending):
                faults.append(begin)

        threads.each_span(check, len(self), ROWS_OF_A_PIECE)
        return not faults

    def _row_of(self, entry: int) -> str:
        return f", of row {int(np.searchsorted(self.offsets, entry, side='right')) - 1},"

    @property
    def entry_rows(self) -> NDArray[np.int32]:
        """Return the row of each entry, int32 [entries]."""
        return np.repeat(np.arange(len(self), dtype=np.int32), np.diff(self.offsets))

    @classmethod
    def empty(cls, rows: int) -> Bag:
        """Make rows without features, as those of an intercept-only model."""
        return cls(np.zeros(rows + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))

    def between(self, first: int, last: int) -> Bag:
        """Return the rows first … last − 1; indices and values are views."""
        offsets = self.offsets[first : last + 1]
        entries = slice(int(offsets[0]), int(offsets[-1]))
        return Bag(offsets - offsets[0], self.indices[entries], self.values[entries])
