"""Arrays that come from outside (notebooks, files), checked before a compiled kernel, which checks nothing, takes them.

What is found is told by where it is, or the arrays are returned in the types that kernels are compiled for.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gdmix_core.errors import DataError
from gdmix_core.jit import njit

NOT_FINITE = 1
NOT_ASCENDING = 2


def integers(values: ArrayLike, what: str, length: int | None = None) -> NDArray[np.int64]:
    """Return int64 [length], contiguous. Raises DataError for other shapes, and for numbers that are not integers."""
    array = _vector(values, what, length)
    if array.dtype.kind not in "iu" and len(array):
        raise DataError(f"{what}: must be integers, not {array.dtype}")
    if array.dtype == np.uint64 and len(array) and array.max() > np.iinfo(np.int64).max:
        raise DataError(f"{what}: {array.max()} is above what int64 holds")
    return np.ascontiguousarray(array, np.int64)


def reals(values: ArrayLike, what: str, length: int | None = None) -> NDArray[np.float64]:
    """Return float64 [length], contiguous and finite. Raises DataError for anything else but integers and booleans."""
    array = _vector(values, what, length)
    if array.dtype.kind not in "fiub" and len(array):
        raise DataError(f"{what}: must be numbers, not {array.dtype}")
    array = np.ascontiguousarray(array, np.float64)
    # NaN and infinity survive a sum; a sum of finite numbers that overflows is looked at more closely.
    if not np.isfinite(np.sum(array)):
        refuse(~np.isfinite(array), array, what, "finite")
    return array


def refuse(
    wrong: NDArray[np.bool_], values: NDArray, what: str, rule: str, of: Callable[[int], str] | None = None
) -> None:
    """Raise DataError for the first of the wrong values, if any; of: what else the message says of its position."""
    if wrong.any():
        first = int(np.argmax(wrong))
        more = int(np.count_nonzero(wrong)) - 1
        raise DataError(
            f"{what}: must be {rule}, but at position {first}{'' if of is None else of(first)} stands {values[first]}"
            + (f" ({more} more are wrong)" if more else "")
        )


def _vector(values: ArrayLike, what: str, length: int | None) -> NDArray:
    array = np.asarray(values)
    if array.ndim != 1:
        raise DataError(f"{what}: must be an array of one dimension, not of shape {array.shape}")
    if length is not None and len(array) != length:
        raise DataError(f"{what}: {len(array)} values, but {length} are needed")
    return array


def row_ends(offsets: ArrayLike, entries: int, what: str) -> NDArray[np.int64]:
    """Return the offsets [n + 1] of rows that own `entries` entries: from 0 to entries, never falling."""
    array = integers(offsets, what)
    if len(array) == 0 or array[0] != 0 or array[-1] != entries:
        span = f"from {array[0]} to {array[-1]}" if len(array) else "not at all"
        raise DataError(f"{what}: must go from 0 to the {entries} entries that there are, but go {span}")
    falls = np.flatnonzero(array[1:] < array[:-1])
    if len(falls):
        row = int(falls[0])
        raise DataError(f"{what}: row {row} ends ({array[row + 1]}) before it begins ({array[row]})")
    return array


# reassoc: the sum is 0 or NaN in any order.
@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def is_sound(
    offsets: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.floating],
    begin: int,
    end: int,
    limit: int,
    ascending: bool,
) -> bool:
    """Check the rows begin … end−1: they own entries that there are, with finite values and indices within
    0 … limit−1 which, if `ascending`, ascend in each row without repeats.

    No branch is in the loops over the entries, so that the processor takes several at a time: first_fault, which has
    them, is six times slower.
    """
    first, last = offsets[begin], offsets[end]
    if first < 0 or last > len(indices):
        return False
    for i in range(begin, end):
        if offsets[i + 1] < offsets[i]:
            return False
    # Views, as the processor takes several entries at a time only where positions count from 0.
    indices, values = indices[first:last], values[first:last]
    zero = values.dtype.type(0)
    total = zero
    for s in range(len(values)):
        total += values[s] * zero
    lowest, highest = np.int32(0), np.int32(-1)
    for s in range(len(indices)):
        lowest = min(lowest, indices[s])
        highest = max(highest, indices[s])
    falls = 0
    if ascending:
        for s in range(1, len(indices)):
            falls += indices[s] <= indices[s - 1]
        for i in range(begin, end):
            s = offsets[i] - first
            if 0 < s < offsets[i + 1] - first:  # from one row to the next, indices may fall
                falls -= indices[s] <= indices[s - 1]
    return bool(total == zero and lowest == 0 and highest < limit and falls == 0)


@njit(cache=True, nogil=True)
def first_fault(
    offsets: NDArray[np.int64], indices: NDArray[np.int32], values: NDArray[np.floating], ascending: bool
) -> tuple[int, int, int]:
    """Return (fault, row, entry) of the first entry that is not finite, or not above the one before it in its row."""
    for i in range(len(offsets) - 1):
        for s in range(offsets[i], offsets[i + 1]):
            if not np.isfinite(values[s]):
                return NOT_FINITE, i, s
            if ascending and s > offsets[i] and indices[s] <= indices[s - 1]:
                return NOT_ASCENDING, i, s
    return 0, 0, 0
