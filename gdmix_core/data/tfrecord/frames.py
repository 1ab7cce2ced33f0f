"""The frames around the records of a TFRecord file, compiled: found, checked, walked over.

A frame is the record's length (uint64), the masked CRC-32C of these eight bytes (uint32), the payload, and
the masked CRC-32C of the payload (uint32); all little-endian.
Source: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gdmix_core.data.tfrecord.crc32c import load_uint32, masked_crc32c_of_range
from gdmix_core.jit import njit

HEADER_BYTES = 12
FOOTER_BYTES = 4
FRAME_BYTES = HEADER_BYTES + FOOTER_BYTES
# protobuf allows no larger message, so a larger record cannot hold a tf.train.Example
MAX_RECORD_BYTES = (1 << 31) - 1

NO_PROBLEM, BAD_LENGTH_CRC, BAD_PAYLOAD_CRC, ABSURD_LENGTH = 0, 1, 2, 3


@njit(cache=True, nogil=True)
def record_length(data: NDArray[np.uint8], at: int) -> np.int64:
    """Return the length that the header at data[at : at + 12] states; below zero if it takes all 64 bits."""
    return np.int64(load_uint32(data, at)) | (np.int64(load_uint32(data, at + 4)) << np.int64(32))


@njit(cache=True, nogil=True)
def find_records(
    data: NDArray[np.uint8],
    end: int,
    verify: bool,
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
) -> tuple[int, int, int]:
    """Find the whole records in data[:end], up to the first one that is damaged or cut off by the end.

    verify: compare both CRCs. starts, lengths: int64 [end // FRAME_BYTES or more], filled with where payloads
    are. Returns how many records were found, the position behind the last one, and the next one's problem.
    """
    at = 0
    count = 0
    while end - at >= HEADER_BYTES:
        if verify and load_uint32(data, at + 8) != masked_crc32c_of_range(data, at, at + 8):
            return count, at, BAD_LENGTH_CRC
        length = record_length(data, at)
        if length < 0 or length > MAX_RECORD_BYTES:
            return count, at, ABSURD_LENGTH
        start = at + HEADER_BYTES
        if length > end - start - FOOTER_BYTES:
            break
        footer = start + length
        if verify and load_uint32(data, footer) != masked_crc32c_of_range(data, start, footer):
            return count, at, BAD_PAYLOAD_CRC
        starts[count] = start
        lengths[count] = length
        count += 1
        at = footer + FOOTER_BYTES
    return count, at, NO_PROBLEM


@njit(cache=True, nogil=True)
def walk_records(data: NDArray[np.uint8], target_bytes: int, cuts: NDArray[np.int64]) -> tuple[int, int, int]:
    """Step from header to header, noting a cut at the first record that is target_bytes behind the last cut.

    cuts: int64 [len(data) // target_bytes + 1 or more], filled with positions. Returns how many cuts were
    made, how many records were passed, and the position behind them: len(data), unless the next length leads
    beyond it.
    """
    end = len(data)
    at = 0
    count = 0
    last_cut = 0
    cut_count = 0
    while end - at >= HEADER_BYTES:
        length = record_length(data, at)
        if length < 0 or length > end - at - FRAME_BYTES:
            break
        if at - last_cut >= target_bytes:
            cuts[cut_count] = at
            cut_count += 1
            last_cut = at
        count += 1
        at += FRAME_BYTES + length
    return cut_count, count, at
