"""The second pass of the tf.train.Example decoder, compiled: runs of stored values to arrays.

A run is a piece of the data that holds nothing but values of one feature: see scan.py.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gdmix_core.data.tfrecord.crc32c import load_uint32
from gdmix_core.data.tfrecord.wire_format import read_varint
from gdmix_core.jit import njit


@njit(cache=True, nogil=True)
def fill_int64(
    data: NDArray[np.uint8],
    runs: NDArray[np.int64],
    run_ranges: NDArray[np.int64],
    offsets: NDArray[np.int64],
    values: NDArray[np.int64],
) -> tuple[int, int]:
    """Fill the values of a field of int64 lists, stored as varints one after the other.

    runs:       int64 [any, 2], start and end of each run in data
    run_ranges: int64 [n, 2], a row's first run and the one behind its last
    offsets:    int64 [n + 1], by the first pass's counts; a row without values is not looked at
    values:     int64 [offsets[n]], filled

    Returns the row where it stopped and a problem code of wire_format, or n and 0.
    """
    for r in range(len(run_ranges)):
        out = offsets[r]
        if out == offsets[r + 1]:
            continue
        for run in range(run_ranges[r, 0], run_ranges[r, 1]):
            at, end = runs[run, 0], runs[run, 1]
            while at < end:
                value, at = read_varint(data, at, end)
                if at < 0:
                    return r, at
                values[out] = value
                out += 1
    return len(run_ranges), 0


@njit(cache=True, nogil=True)
def fill_float(
    data: NDArray[np.uint8],
    runs: NDArray[np.int64],
    run_ranges: NDArray[np.int64],
    offsets: NDArray[np.int64],
    value_bits: NDArray[np.uint32],
) -> None:
    """Fill the values of a field of float lists, as fill_int64. value_bits: the float32 array seen as uint32."""
    for r in range(len(run_ranges)):
        out = offsets[r]
        if out == offsets[r + 1]:
            continue
        for run in range(run_ranges[r, 0], run_ranges[r, 1]):
            for at in range(runs[run, 0], runs[run, 1], 4):
                value_bits[out] = load_uint32(data, at)
                out += 1


@njit(cache=True, nogil=True)
def fill_bytes_offsets(
    runs: NDArray[np.int64],
    run_ranges: NDArray[np.int64],
    offsets: NDArray[np.int64],
    value_offsets: NDArray[np.int64],
) -> None:
    """Fill value_offsets, int64 [offsets[n] + 1], with where each value of a field of bytes lists begins."""
    value_offsets[0] = 0
    for r in range(len(run_ranges)):
        out = offsets[r]
        if out == offsets[r + 1]:
            continue
        for run in range(run_ranges[r, 0], run_ranges[r, 1]):
            value_offsets[out + 1] = value_offsets[out] + runs[run, 1] - runs[run, 0]
            out += 1


@njit(cache=True, nogil=True)
def fill_bytes(
    data: NDArray[np.uint8],
    runs: NDArray[np.int64],
    run_ranges: NDArray[np.int64],
    offsets: NDArray[np.int64],
    value_bytes: NDArray[np.uint8],
) -> None:
    """Fill the values of a field of bytes lists, back to back; value_bytes: uint8 [value_offsets[-1]], filled."""
    to = 0
    for r in range(len(run_ranges)):
        if offsets[r] == offsets[r + 1]:
            continue
        for run in range(run_ranges[r, 0], run_ranges[r, 1]):
            for at in range(runs[run, 0], runs[run, 1]):
                value_bytes[to] = data[at]
                to += 1
