"""The protobuf wire format, compiled: stepping over the fields of a message, and varints.

Source: https://protobuf.dev/programming-guides/encoding/. Every reader takes the end of what it may read and never
looks past it. A position below zero is a problem code: PROBLEMS says it in words.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

# Tags of the fields numbered 1 to 3 with a length-delimited payload: number << 3 | wire type 2
BYTES_1, BYTES_2, BYTES_3 = 0x0A, 0x12, 0x1A
VARINT_1 = 0x08  # field 1, one varint
FIXED32_1 = 0x0D  # field 1, four bytes

TRUNCATED_VARINT, OVERLONG_VARINT, BEYOND_END, BAD_TAG, BAD_WIRE_TYPE, RAGGED_FLOATS = -1, -2, -3, -4, -5, -6
PROBLEMS = {
    TRUNCATED_VARINT: "a number is cut off by the end of its message",
    OVERLONG_VARINT: "a number is longer than ten bytes",
    BEYOND_END: "a field reaches beyond the end of its message",
    BAD_TAG: "a field has a number that protobuf does not allow",
    BAD_WIRE_TYPE: "a field has wire type 3, 4, 6 or 7 (groups, or nothing that exists)",
    RAGGED_FLOATS: "a list of floats has a length that is no multiple of four bytes",
}


@numba.njit(cache=True, nogil=True, forceinline=True)
def _read_long_varint(data: NDArray[np.uint8], at: int, end: int) -> tuple[int, int]:
    value = np.int64(0)
    shift = np.int64(0)
    problem = TRUNCATED_VARINT
    while at < end:
        byte = np.int64(data[at])
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            problem = 0
            break
        if shift > 63:
            problem = OVERLONG_VARINT
            break
    return value, at if problem == 0 else problem


@numba.njit(cache=True, nogil=True, forceinline=True)
def read_varint(data: NDArray[np.uint8], at: int, end: int) -> tuple[int, int]:
    """The 64-bit number at data[at:end], as int64 in two's complement, and the position behind it."""
    # tags and most lengths take one byte; so short a function is inlined
    if at < end and data[at] < 0x80:
        value, behind = np.int64(data[at]), at + 1
    else:
        value, behind = _read_long_varint(data, at, end)
    return value, behind


@numba.njit(cache=True, nogil=True, forceinline=True)
def next_field(data: NDArray[np.uint8], at: int, end: int) -> tuple[int, int, int]:
    """The field at data[at:end], at < end: its tag, and the start and end of its payload.

    The payload of a length-delimited field is what its length counts. The next field starts where it ends.
    """
    tag, start = read_varint(data, at, end)
    behind = start
    if start >= 0:
        wire_type = tag & 7
        if tag < 8 or tag > 0xFFFFFFFF:
            behind = BAD_TAG
        elif wire_type == 2:
            length, start = read_varint(data, start, end)
            if start < 0:
                behind = start
            elif length < 0 or length > end - start:
                behind = BEYOND_END
            else:
                behind = start + length
        elif wire_type == 0:
            behind = read_varint(data, start, end)[1]
        elif wire_type == 1:
            behind = start + 8
        elif wire_type == 5:
            behind = start + 4
        else:
            behind = BAD_WIRE_TYPE
        if behind > end:
            behind = BEYOND_END
    return tag, start, behind


@numba.njit(cache=True, nogil=True, forceinline=True)
def next_inner_field(
    data: NDArray[np.uint8], at: int, inner_end: int, outer_end: int, outer_tag: int
) -> tuple[int, int, int, int]:
    """The next field inside the sub-messages with tag `outer_tag` of the message that ends at outer_end.

    A message may hold such a sub-message in several pieces, which count as one. Start with inner_end = at = the
    start of the message; go on with the third and fourth result. Returns the field's tag (0: there is no
    further one), the start and the end of its payload, and the end of the sub-message that holds it.
    """
    while at >= inner_end and at >= 0 and at < outer_end:
        tag, start, at = next_field(data, at, outer_end)
        inner_end = at
        if tag == outer_tag and at >= 0:
            at = start
    tag = 0
    start = at
    if at < inner_end and at >= 0:
        tag, start, at = next_field(data, at, inner_end)
    return tag, start, at, inner_end


@numba.njit(cache=True, nogil=True)
def varint_bytes(value: int) -> int:
    """How many bytes an int64 takes as a varint: 1 to 10 (10 for every negative number)."""
    rest = np.uint64(value)
    count = 1
    while rest >= np.uint64(0x80):
        rest >>= np.uint64(7)
        count += 1
    return count


@numba.njit(cache=True, nogil=True)
def write_varint(out: NDArray[np.uint8], at: int, value: int) -> int:
    """Put an int64 as a varint at out[at:]; the position behind it."""
    rest = np.uint64(value)
    while rest >= np.uint64(0x80):
        out[at] = np.uint8((rest & np.uint64(0x7F)) | np.uint64(0x80))
        rest >>= np.uint64(7)
        at += 1
    out[at] = np.uint8(rest)
    return at + 1
