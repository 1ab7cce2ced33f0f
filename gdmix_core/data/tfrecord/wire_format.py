"""The protobuf wire format, compiled: varints, tags, and what can be wrong with a message.

Source: https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gdmix_core.jit import njit

# Wire types: how a field's payload is stored
VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5

# Tags (number << 3 | wire type) of the fields numbered 1 to 3
VARINT_1, FIXED32_1 = 0x08, 0x0D
DELIMITED_1, DELIMITED_2, DELIMITED_3 = 0x0A, 0x12, 0x1A

LARGEST_TAG = 0xFFFFFFFF

# A position below zero is one of these
TRUNCATED_VARINT, OVERLONG_VARINT, BEYOND_END, BAD_TAG, BAD_WIRE_TYPE, RAGGED_FLOATS = -1, -2, -3, -4, -5, -6
PROBLEMS = {
    TRUNCATED_VARINT: "a number is cut off by the end of its message",
    OVERLONG_VARINT: "a number is longer than ten bytes",
    BEYOND_END: "a field reaches beyond the end of its message",
    BAD_TAG: "a field has a number that protobuf does not allow",
    BAD_WIRE_TYPE: "a field has wire type 3, 4, 6 or 7 (groups, or nothing that exists)",
    RAGGED_FLOATS: "a list of floats has a length that is no multiple of four bytes",
}


# Inlined: a call with an array costs more than most varints do
@njit(cache=True, nogil=True, forceinline=True)
def read_varint(data: NDArray[np.uint8], at: int, end: int) -> tuple[np.int64, int]:
    """Return the number at data[at:end], as int64 in two's complement, and the position behind it (or a problem)."""
    value = np.int64(0)
    shift = np.int64(0)
    while at < end:
        byte = np.int64(data[at])
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            return value, OVERLONG_VARINT
    return value, TRUNCATED_VARINT
