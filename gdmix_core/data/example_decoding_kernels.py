"""The compiled passes of the tf.train.Example decoder.

    message Example  { Features features = 1; }
    message Features { map<string, Feature> feature = 1; }     an entry: { string key = 1; Feature value = 2; }
    message Feature  { oneof kind { BytesList = 1; FloatList = 2; Int64List = 3; } }    each: { repeated value = 1; }

A kernel returns the record it stopped at and a problem code of protobuf_wire; (n, 0) when there is none.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from gdmix_core.data.crc32c import load_uint32
from gdmix_core.data.protobuf_wire import (
    BYTES_1,
    BYTES_2,
    BYTES_3,
    FIXED32_1,
    RAGGED_FLOATS,
    TRUNCATED_VARINT,
    VARINT_1,
    next_field,
    next_inner_field,
    read_varint,
)

# Field numbers of Feature; 0 stands for a Feature without a list
NO_LIST, BYTES_LIST, FLOAT_LIST, INT64_LIST = 0, 1, 2, 3

# Records mostly hold the same keys in the same order: for each of their first entries it is remembered which key the
# record before had there, and what it was found to be.
_REMEMBERED = 256


@numba.njit(cache=True, nogil=True, forceinline=True)
def _same_bytes(a: NDArray[np.uint8], a_start: int, b: NDArray[np.uint8], b_start: int, count: int) -> bool:
    for i in range(count):
        if a[a_start + i] != b[b_start + i]:
            return False
    return True


@numba.njit(cache=True, nogil=True, forceinline=True)
def _field_of_key(
    data: NDArray[np.uint8],
    start: int,
    end: int,
    keys: NDArray[np.uint8],
    key_offsets: NDArray[np.int64],
) -> int:
    """Which of the wanted keys data[start:end] is; -1 if none."""
    for f in range(len(key_offsets) - 1):
        length = key_offsets[f + 1] - key_offsets[f]
        if length == end - start and _same_bytes(data, start, keys, key_offsets[f], length):
            return f
    return -1


@numba.njit(cache=True, nogil=True, forceinline=True)
def _entry_key(data: NDArray[np.uint8], start: int, end: int) -> tuple[int, int]:
    """Where the key of the map entry data[start:end] is; an empty key if it has none."""
    key_start = start
    key_end = start
    at = start
    while at < end:
        tag, payload, at = next_field(data, at, end)
        if at < 0:
            return payload, at
        if tag == BYTES_1:
            key_start = payload
            key_end = at
    return key_start, key_end


@numba.njit(cache=True, nogil=True, forceinline=True)
def _next_list(data: NDArray[np.uint8], at: int, value_end: int, entry_end: int) -> tuple[int, int, int, int]:
    """The next list of an entry's Feature: NO_LIST after the last, its start and end, and the Feature's end."""
    while True:
        tag, start, at, value_end = next_inner_field(data, at, value_end, entry_end, BYTES_2)
        if at < 0 or tag == 0:
            return NO_LIST, start, at, value_end
        if tag == BYTES_1 or tag == BYTES_2 or tag == BYTES_3:
            return tag >> 3, start, at, value_end


@numba.njit(cache=True, nogil=True, forceinline=True)
def _count_values(data: NDArray[np.uint8], kind: int, start: int, end: int) -> int:
    """How many values the list data[start:end] holds, or a problem code."""
    count = 0
    at = start
    while at < end:
        tag, payload, at = next_field(data, at, end)
        if at < 0:
            return at
        if tag == BYTES_1:
            if kind == BYTES_LIST:
                count += 1
            elif kind == FLOAT_LIST:
                if (at - payload) & 3:
                    return RAGGED_FLOATS
                count += (at - payload) >> 2
            elif at > payload:
                if data[at - 1] >= 0x80:
                    return TRUNCATED_VARINT
                for i in range(payload, at):
                    count += np.int64(data[i] < 0x80)
        elif (tag == VARINT_1 and kind == INT64_LIST) or (tag == FIXED32_1 and kind == FLOAT_LIST):
            count += 1
    return count


@numba.njit(cache=True, nogil=True, forceinline=True)
def _measure_entry(data: NDArray[np.uint8], start: int, end: int) -> tuple[int, int]:
    """The kind of an entry's list, and how many values it has, or a problem code.

    Of lists of different kinds the last holds; pieces of one kind count together.
    """
    kind = NO_LIST
    count = 0
    at = start
    value_end = start
    while True:
        piece, piece_start, at, value_end = _next_list(data, at, value_end, end)
        if at < 0:
            return kind, at
        if piece == NO_LIST:
            return kind, count
        if piece != kind:
            kind = piece
            count = 0
        more = _count_values(data, kind, piece_start, at)
        if more < 0:
            return kind, more
        count += more


@numba.njit(cache=True, nogil=True)
def find_features(
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    keys: NDArray[np.uint8],
    key_offsets: NDArray[np.int64],
    entry_starts: NDArray[np.int64],
    entry_ends: NDArray[np.int64],
    kinds: NDArray[np.uint8],
    counts: NDArray[np.int64],
) -> tuple[int, int]:
    """First pass: where record r holds wanted key f, as what kind of list, with how many values.

    starts, lengths: int64 [n], the records in data. keys, key_offsets: the wanted keys' bytes, and int64 [fields + 1].
    entry_starts, entry_ends, kinds, counts: [fields, n], zero on entry, filled at [f, r] where there is an entry.
    """
    remembered_start = np.zeros(_REMEMBERED, np.int64)
    remembered_length = np.full(_REMEMBERED, -1, np.int64)
    remembered_field = np.zeros(_REMEMBERED, np.int64)
    for r in range(len(starts)):
        at = starts[r]
        features_end = at
        record_end = at + lengths[r]
        slot = 0
        while True:
            tag, start, at, features_end = next_inner_field(data, at, features_end, record_end, BYTES_1)
            if at < 0:
                return r, at
            if tag == 0:
                break
            if tag != BYTES_1:
                continue
            key_start, key_end = _entry_key(data, start, at)
            if key_end < 0:
                return r, key_end
            length = key_end - key_start
            if (
                slot < _REMEMBERED
                and length == remembered_length[slot]
                and _same_bytes(data, key_start, data, remembered_start[slot], length)
            ):
                f = remembered_field[slot]
            else:
                f = _field_of_key(data, key_start, key_end, keys, key_offsets)
                if slot < _REMEMBERED:
                    remembered_start[slot] = key_start
                    remembered_length[slot] = length
                    remembered_field[slot] = f
            slot += 1
            if f >= 0:
                kind, count = _measure_entry(data, start, at)
                if count < 0:
                    return r, count
                entry_starts[f, r] = start
                entry_ends[f, r] = at
                kinds[f, r] = kind
                counts[f, r] = count
    return len(starts), 0


@numba.njit(cache=True, nogil=True)
def fill_int64(
    data: NDArray[np.uint8],
    entry_starts: NDArray[np.int64],
    entry_ends: NDArray[np.int64],
    offsets: NDArray[np.int64],
    values: NDArray[np.int64],
) -> tuple[int, int]:
    """Second pass for a field of int64 lists.

    entry_starts, entry_ends: int64 [n], of the first pass. offsets: int64 [n + 1], by its counts; a row that has none
    is not looked at. values: int64 [offsets[n]], filled.
    """
    for r in range(len(entry_starts)):
        out, stop = offsets[r], offsets[r + 1]
        if out == stop:
            continue
        at = entry_starts[r]
        value_end = at
        while True:
            kind, start, at, value_end = _next_list(data, at, value_end, entry_ends[r])
            if kind == NO_LIST:
                break
            if kind != INT64_LIST:
                out = offsets[r]  # what came before a list of another kind does not count
                continue
            inside = start
            while inside < at:
                tag, payload, inside = next_field(data, inside, at)
                if tag == VARINT_1 or tag == BYTES_1:
                    while payload < inside:
                        value, payload = read_varint(data, payload, inside)
                        if payload < 0:
                            return r, payload
                        if out < stop:  # more may come only before a list of another kind
                            values[out] = value
                        out += 1
    return len(entry_starts), 0


@numba.njit(cache=True, nogil=True)
def fill_float(
    data: NDArray[np.uint8],
    entry_starts: NDArray[np.int64],
    entry_ends: NDArray[np.int64],
    offsets: NDArray[np.int64],
    value_bits: NDArray[np.uint32],
) -> tuple[int, int]:
    """Second pass for a field of float lists, as fill_int64. value_bits: the float32 array seen as uint32."""
    for r in range(len(entry_starts)):
        out, stop = offsets[r], offsets[r + 1]
        if out == stop:
            continue
        at = entry_starts[r]
        value_end = at
        while True:
            kind, start, at, value_end = _next_list(data, at, value_end, entry_ends[r])
            if kind == NO_LIST:
                break
            if kind != FLOAT_LIST:
                out = offsets[r]
                continue
            inside = start
            while inside < at:
                tag, payload, inside = next_field(data, inside, at)
                if tag == FIXED32_1 or tag == BYTES_1:
                    for four_bytes in range(payload, inside, 4):
                        if out < stop:
                            value_bits[out] = load_uint32(data, four_bytes)
                        out += 1
    return len(entry_starts), 0


@numba.njit(cache=True, nogil=True)
def fill_bytes(
    data: NDArray[np.uint8],
    entry_starts: NDArray[np.int64],
    entry_ends: NDArray[np.int64],
    offsets: NDArray[np.int64],
    value_offsets: NDArray[np.int64],
    value_bytes: NDArray[np.uint8],
) -> tuple[int, int]:
    """Second pass for a field of bytes lists, as fill_int64.

    value_offsets: int64 [offsets[n] + 1], the first one zero, the others filled. value_bytes: uint8, at least as long
    as the entries together; filled up to value_offsets[-1].
    """
    for r in range(len(entry_starts)):
        out, stop = offsets[r], offsets[r + 1]
        if out == stop:
            continue
        at = entry_starts[r]
        value_end = at
        while True:
            kind, start, at, value_end = _next_list(data, at, value_end, entry_ends[r])
            if kind == NO_LIST:
                break
            if kind != BYTES_LIST:
                out = offsets[r]
                continue
            inside = start
            while inside < at:
                tag, payload, inside = next_field(data, inside, at)
                if tag == BYTES_1:
                    if out < stop:
                        to = value_offsets[out]
                        for i in range(payload, inside):
                            value_bytes[to + i - payload] = data[i]
                        value_offsets[out + 1] = to + inside - payload
                    out += 1
    return len(entry_starts), 0
