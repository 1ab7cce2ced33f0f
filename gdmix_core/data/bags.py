"""Feature bags: put into canonical form, checked, packed for the shuffle and unpacked after it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gdmix_core.data.mapped_arrays import Empty
from gdmix_core.data.ragged import Bag
from gdmix_core.errors import DataError
from gdmix_core.jit import njit

OUT_OF_RANGE = 1
NOT_FINITE = 2
DUPLICATE = 4  # an index twice in a record: the values are summed


@njit(cache=True, nogil=True)
def _canonical(
    offsets: NDArray[np.int64],
    indices: NDArray[np.int64],
    values: NDArray[np.floating],
    features: int,
    out_offsets: NDArray[np.int64],
    out_indices: NDArray[np.int32],
    out_values: NDArray[np.floating],
    faults: NDArray[np.uint8],
) -> int:
    used = 0
    out_offsets[0] = 0
    for i in range(len(offsets) - 1):
        first = used
        fault = 0
        ascending = True
        for s in range(offsets[i], offsets[i + 1]):
            j = indices[s]
            if j < 0 or j >= features:
                fault |= OUT_OF_RANGE
                continue
            if not np.isfinite(values[s]):
                fault |= NOT_FINITE
            if used > first and out_indices[used - 1] >= j:
                ascending = False
            out_indices[used] = j
            out_values[used] = values[s]
            used += 1
        if not ascending:
            order = np.argsort(out_indices[first:used], kind="mergesort")
            sorted_indices = out_indices[first:used][order]
            sorted_values = out_values[first:used][order]
            kept = first
            total = 0.0
            for k in range(len(order)):
                total += sorted_values[k]
                if k + 1 < len(order) and sorted_indices[k + 1] == sorted_indices[k]:
                    fault |= DUPLICATE
                    continue
                out_indices[kept] = sorted_indices[k]
                out_values[kept] = total
                if not np.isfinite(out_values[kept]):  # a sum of finite values may exceed the type
                    fault |= NOT_FINITE
                kept += 1
                total = 0.0
            used = kept
        out_offsets[i + 1] = used
        faults[i] = fault
    return used


def canonical(
    offsets: NDArray[np.int64], indices: NDArray[np.int64], values: NDArray[np.floating], features: int
) -> tuple[Bag, NDArray[np.uint8]]:
    """Return rows with ascending indices, duplicates summed, out-of-range entries left out; and their faults (bits)."""
    out_offsets = np.empty(len(offsets), np.int64)
    out_indices = np.empty(len(indices), np.int32)
    out_values = np.empty(len(indices), values.dtype)
    faults = np.zeros(len(offsets) - 1, np.uint8)
    used = _canonical(offsets, indices, values, features, out_offsets, out_indices, out_values, faults)
    return Bag(out_offsets, out_indices[:used], out_values[:used]), faults


@njit(cache=True, nogil=True)
def _sparse_of_dense(
    offsets: NDArray[np.int64],
    values: NDArray[np.floating],
    indices: NDArray[np.int64],
    kept: NDArray[np.int64],
) -> None:
    used = 0
    kept[0] = 0
    for i in range(len(offsets) - 1):
        for s in range(offsets[i], offsets[i + 1]):
            if values[s] != 0.0:
                indices[used] = s - offsets[i]
                values[used] = values[s]
                used += 1
        kept[i + 1] = used


def sparse_of_dense(
    offsets: NDArray[np.int64], values: NDArray[np.floating]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.floating]]:
    """Return (offsets, indices, values) of dense rows without their zeros; NaN is kept, to be found by the checks."""
    values = values.copy()
    indices = np.empty(len(values), np.int64)
    kept = np.empty(len(offsets), np.int64)
    _sparse_of_dense(offsets, values, indices, kept)
    used = kept[-1]
    return kept, indices[:used], values[:used]


@njit(cache=True, nogil=True)
def _pack(
    offsets: NDArray[np.int64],
    indices: NDArray[np.uint8],
    values: NDArray[np.uint8],
    value_bytes: int,
    ends: NDArray[np.int32],
    out: NDArray[np.uint8],
) -> None:
    at = 0
    ends[0] = 0
    for i in range(len(offsets) - 1):
        begin, end = offsets[i], offsets[i + 1]
        for s in range(4 * begin, 4 * end):
            out[at] = indices[s]
            at += 1
        for s in range(value_bytes * begin, value_bytes * end):
            out[at] = values[s]
            at += 1
        ends[i + 1] = at


def pack(bag: Bag) -> pa.BinaryArray:
    """Return one binary value a row: its int32 indices, then its values. A shuffle moves it as one block of bytes."""
    value_bytes = bag.values.dtype.itemsize
    ends = np.empty(len(bag.offsets), np.int32)
    out = np.empty(len(bag.indices) * (4 + value_bytes), np.uint8)
    _pack(bag.offsets, bag.indices.view(np.uint8), bag.values.view(np.uint8), value_bytes, ends, out)
    return pa.Array.from_buffers(pa.binary(), len(bag), [None, pa.py_buffer(ends), pa.py_buffer(out)])


@njit(cache=True, nogil=True)
def _unpack(
    data: NDArray[np.uint8],
    begins: NDArray[np.int64],
    value_bytes: int,
    offsets: NDArray[np.int64],
    indices: NDArray[np.uint8],
    values: NDArray[np.uint8],
) -> None:
    for i in range(len(begins) - 1):
        begin, end = offsets[i], offsets[i + 1]
        at = begins[i]
        for s in range(4 * begin, 4 * end):
            indices[s] = data[at]
            at += 1
        for s in range(value_bytes * begin, value_bytes * end):
            values[s] = data[at]
            at += 1


def unpack(packed: pa.BinaryArray, dtype: np.dtype) -> Bag:
    """Return the inverse of pack. dtype: float32 or float64, that of the values. A null row has no features."""
    _, ends, data = packed.buffers()
    begins = np.frombuffer(ends, np.int32)[packed.offset : packed.offset + len(packed) + 1].astype(np.int64)
    sizes = np.diff(begins) // (4 + dtype.itemsize)
    offsets = np.zeros(len(begins), np.int64)
    np.cumsum(sizes, out=offsets[1:])
    indices = np.empty(offsets[-1], np.int32)
    values = np.empty(offsets[-1], dtype)
    # Read-only in either case: a writable one would be another type, and compiled for itself.
    source = np.frombuffer(data if data is not None and data.size else b"", np.uint8)
    _unpack(source, begins, dtype.itemsize, offsets, indices.view(np.uint8), values.view(np.uint8))
    return Bag(offsets, indices, values)


@njit(cache=True, nogil=True)
def _take(
    offsets: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.floating],
    rows: NDArray[np.int64],
    out_offsets: NDArray[np.int64],
    out_indices: NDArray[np.int32],
    out_values: NDArray[np.floating],
) -> None:
    at = 0
    for k in range(len(rows)):
        out_offsets[k] = at
        for s in range(offsets[rows[k]], offsets[rows[k] + 1]):
            out_indices[at] = indices[s]
            out_values[at] = values[s]
            at += 1
    out_offsets[len(rows)] = at


def take(bag: Bag, rows: NDArray[np.int64], empty: Empty = np.empty) -> Bag:
    """Return the rows at the given positions, in order; empty: makes the arrays.

    Raises IndexError for a position that is not one of a row.
    """
    if len(rows) and rows.min() < 0:
        raise IndexError(f"row {rows.min()} of a bag")
    entries = int(np.sum(bag.offsets[rows + 1] - bag.offsets[rows]))
    out = Bag(empty(len(rows) + 1, np.int64), empty(entries, np.int32), empty(entries, bag.values.dtype))
    _take(bag.offsets, bag.indices, bag.values, rows, out.offsets, out.indices, out.values)
    return out


def concatenate(bags: list[Bag], dtype: np.dtype) -> Bag:
    """Return the rows of all of them, one after another."""
    sizes = [np.diff(bag.offsets) for bag in bags]
    lengths = np.concatenate([np.zeros(1, np.int64), *sizes])
    return Bag(
        np.cumsum(lengths, dtype=np.int64),
        np.concatenate([np.empty(0, np.int32), *(bag.indices for bag in bags)]),
        np.concatenate([np.empty(0, dtype), *(bag.values for bag in bags)]),
    )


def to_arrow(bag: Bag) -> tuple[pa.LargeListArray, pa.LargeListArray]:
    """Return (indices, values) as list columns."""
    offsets = pa.array(bag.offsets, pa.int64())
    return (
        pa.LargeListArray.from_arrays(offsets, pa.array(bag.indices)),
        pa.LargeListArray.from_arrays(offsets, pa.array(bag.values)),
    )


def from_arrow(indices: pa.ChunkedArray, values: pa.ChunkedArray) -> Bag:
    """Return the inverse of to_arrow; also of plain list columns. A null row has no features.

    Raises DataError where a row has not as many values as indices: a file is damaged.
    """
    index_offsets, flat_indices = flatten_lists(indices)
    value_offsets, flat_values = flatten_lists(values)
    if not np.array_equal(index_offsets, value_offsets):
        row = int(np.argmax(np.diff(index_offsets) != np.diff(value_offsets)))
        raise DataError(f"damaged: row {row} of a bag has not as many values as indices; write the file again")
    return Bag(index_offsets, flat_indices.astype(np.int32, copy=False), flat_values)


def flatten_lists(column: pa.ChunkedArray | pa.Array) -> tuple[NDArray[np.int64], NDArray]:
    """Return (offsets [n + 1], values) of a list column; nulls are empty lists. No list may hold a null."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    lengths, flat = [np.zeros(1, np.int64)], []
    for chunk in chunks:
        lengths.append(np.nan_to_num(chunk.value_lengths().to_numpy(zero_copy_only=False)).astype(np.int64))
        flat.append(chunk.flatten().to_numpy(zero_copy_only=False))
    if not flat:
        return np.zeros(1, np.int64), np.empty(0, np.float32)
    return np.cumsum(np.concatenate(lengths), dtype=np.int64), np.concatenate(flat)
