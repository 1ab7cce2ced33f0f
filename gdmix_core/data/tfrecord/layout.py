"""The compiled passes of the tf.train.Example encoder; scan.py shows the messages.

A record is written feature by feature: first the sizes of all its parts (protobuf puts a message's length
before it), then the bytes. `payload` is what a list holds: for numbers the packed values without tag and
length, for bytes the values each with tag and length.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gdmix_core.data.tfrecord.wire_format import DELIMITED_1, DELIMITED_2, varint_bytes, write_varint
from gdmix_core.jit import njit


@njit(cache=True, nogil=True)
def _field_bytes(payload_bytes: int) -> int:
    """Size of a length-delimited field numbered 1 to 15."""
    return 1 + varint_bytes(payload_bytes) + payload_bytes


@njit(cache=True, nogil=True)
def int64_payload_bytes(offsets: NDArray[np.int64], values: NDArray[np.int64], sizes: NDArray[np.int64]) -> None:
    """sizes[r]: payload of the int64 list values[offsets[r] : offsets[r + 1]]."""
    for r in range(len(sizes)):
        size = 0
        for i in range(offsets[r], offsets[r + 1]):
            size += varint_bytes(values[i])
        sizes[r] = size


@njit(cache=True, nogil=True)
def bytes_payload_bytes(offsets: NDArray[np.int64], value_offsets: NDArray[np.int64], sizes: NDArray[np.int64]) -> None:
    """sizes[r]: payload of the list of the values numbered offsets[r] to offsets[r + 1] - 1."""
    for r in range(len(sizes)):
        size = 0
        for i in range(offsets[r], offsets[r + 1]):
            size += _field_bytes(value_offsets[i + 1] - value_offsets[i])
        sizes[r] = size


@njit(cache=True, nogil=True)
def _list_bytes(payload_bytes: int, packed: bool) -> int:
    return _field_bytes(payload_bytes) if packed and payload_bytes > 0 else payload_bytes


@njit(cache=True, nogil=True)
def _entry_bytes(payload_bytes: int, packed: bool, key_bytes: int) -> int:
    """Size of a map entry's payload."""
    feature_bytes = _field_bytes(_list_bytes(payload_bytes, packed))
    return _field_bytes(key_bytes) + _field_bytes(feature_bytes)


@njit(cache=True, nogil=True)
def add_entries(
    payload_sizes: NDArray[np.int64],
    present: NDArray[np.bool_],
    packed: bool,
    key_bytes: int,
    features_sizes: NDArray[np.int64],
) -> None:
    """Add one feature's map entries to the sizes of the records' Features messages; all arrays [n]."""
    for r in range(len(payload_sizes)):
        if present[r]:
            features_sizes[r] += _field_bytes(_entry_bytes(payload_sizes[r], packed, key_bytes))


@njit(cache=True, nogil=True)
def record_offsets(features_sizes: NDArray[np.int64], offsets: NDArray[np.int64]) -> None:
    """offsets: int64 [n + 1], filled with where each record begins when they lie back to back."""
    offsets[0] = 0
    for r in range(len(features_sizes)):
        offsets[r + 1] = offsets[r] + _field_bytes(features_sizes[r])


@njit(cache=True, nogil=True)
def put_record_heads(
    features_sizes: NDArray[np.int64],
    offsets: NDArray[np.int64],
    out: NDArray[np.uint8],
    cursors: NDArray[np.int64],
) -> None:
    """Write what comes before the first feature; cursors: int64 [n], filled with where that feature goes."""
    for r in range(len(features_sizes)):
        out[offsets[r]] = DELIMITED_1
        cursors[r] = write_varint(out, offsets[r] + 1, features_sizes[r])


@njit(cache=True, nogil=True)
def _put_entry_head(
    out: NDArray[np.uint8],
    at: int,
    key: NDArray[np.uint8],
    list_number: int,
    payload_bytes: int,
    packed: bool,
) -> int:
    """Write all of a map entry that comes before the payload; the position behind it."""
    list_bytes = _list_bytes(payload_bytes, packed)
    out[at] = DELIMITED_1
    at = write_varint(out, at + 1, _entry_bytes(payload_bytes, packed, len(key)))
    out[at] = DELIMITED_1
    at = write_varint(out, at + 1, len(key))
    for octet in key:
        out[at] = octet
        at += 1
    out[at] = DELIMITED_2
    at = write_varint(out, at + 1, _field_bytes(list_bytes))
    out[at] = (list_number << 3) | 2
    at = write_varint(out, at + 1, list_bytes)
    if packed and payload_bytes > 0:
        out[at] = DELIMITED_1
        at = write_varint(out, at + 1, payload_bytes)
    return at


@njit(cache=True, nogil=True)
def put_int64_entries(
    out: NDArray[np.uint8],
    cursors: NDArray[np.int64],
    key: NDArray[np.uint8],
    present: NDArray[np.bool_],
    payload_sizes: NDArray[np.int64],
    offsets: NDArray[np.int64],
    values: NDArray[np.int64],
) -> None:
    """Write one feature of int64 lists into all records; cursors move behind it."""
    for r in range(len(cursors)):
        if present[r]:
            at = _put_entry_head(out, cursors[r], key, 3, payload_sizes[r], True)
            for i in range(offsets[r], offsets[r + 1]):
                at = write_varint(out, at, values[i])
            cursors[r] = at


@njit(cache=True, nogil=True)
def put_float_entries(
    out: NDArray[np.uint8],
    cursors: NDArray[np.int64],
    key: NDArray[np.uint8],
    present: NDArray[np.bool_],
    payload_sizes: NDArray[np.int64],
    offsets: NDArray[np.int64],
    value_bits: NDArray[np.uint32],
) -> None:
    """Write one feature of float lists into all records; value_bits: the float32 values seen as uint32."""
    for r in range(len(cursors)):
        if present[r]:
            at = _put_entry_head(out, cursors[r], key, 2, payload_sizes[r], True)
            for i in range(offsets[r], offsets[r + 1]):
                bits = value_bits[i]
                for k in range(4):
                    out[at + k] = np.uint8((bits >> np.uint32(8 * k)) & np.uint32(0xFF))
                at += 4
            cursors[r] = at


@njit(cache=True, nogil=True)
def put_bytes_entries(
    out: NDArray[np.uint8],
    cursors: NDArray[np.int64],
    key: NDArray[np.uint8],
    present: NDArray[np.bool_],
    payload_sizes: NDArray[np.int64],
    offsets: NDArray[np.int64],
    value_offsets: NDArray[np.int64],
    value_bytes: NDArray[np.uint8],
) -> None:
    """Write one feature of bytes lists; value i is value_bytes[value_offsets[i] : value_offsets[i + 1]]."""
    for r in range(len(cursors)):
        if present[r]:
            at = _put_entry_head(out, cursors[r], key, 1, payload_sizes[r], False)
            for i in range(offsets[r], offsets[r + 1]):
                out[at] = DELIMITED_1
                at = write_varint(out, at + 1, value_offsets[i + 1] - value_offsets[i])
                for k in range(value_offsets[i], value_offsets[i + 1]):
                    out[at] = value_bytes[k]
                    at += 1
            cursors[r] = at
