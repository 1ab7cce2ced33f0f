"""The first pass of the tf.train.Example decoder, compiled: where the values of the wanted features are.

    message Example  { Features features = 1; }
    message Features { map<string, Feature> feature = 1; }    an entry: { string key = 1; Feature value = 2; }
    message Feature  { oneof kind { BytesList = 1; FloatList = 2; Int64List = 3; } }
    message …List    { repeated value = 1; }                   numbers mostly packed into one field

One loop and a level step through the messages, not a function for each kind of message: calls that take
arrays count references, which costs more than the parsing. The values of a wanted feature are noted as runs,
pieces of the data that hold nothing but values: a packed list is one run, other values are a run each.
runs.py makes arrays of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gdmix_core.data.tfrecord.wire_format import (
    BAD_TAG,
    BAD_WIRE_TYPE,
    BEYOND_END,
    DELIMITED_1,
    DELIMITED_2,
    DELIMITED_3,
    FIXED32,
    FIXED32_1,
    FIXED64,
    LARGEST_TAG,
    LENGTH_DELIMITED,
    RAGGED_FLOATS,
    TRUNCATED_VARINT,
    VARINT,
    VARINT_1,
    read_varint,
)
from gdmix_core.jit import njit

# Field numbers of Feature; 0 means a Feature without a list
NO_LIST, BYTES_LIST, FLOAT_LIST, INT64_LIST = 0, 1, 2, 3

# What find_values returns beside the problem codes
DONE, MORE_RUNS = 0, 1

# Levels of the messages
_EXAMPLE, _FEATURES, _ENTRY, _FEATURE, _LIST = 0, 1, 2, 3, 4

# Records mostly hold the same keys in the same order: it is remembered, for the first keys of a record, where
# the last one at this place was and which field it was found to be.
_REMEMBERED = 256


@njit(cache=True, nogil=True)
def _same_bytes(a: NDArray[np.uint8], a_start: int, b: NDArray[np.uint8], b_start: int, count: int) -> bool:
    for i in range(count):  # noqa: SIM110  (compiled: Numba has no generator expressions)
        if a[a_start + i] != b[b_start + i]:
            return False
    return True


@njit(cache=True, nogil=True)
def _field_of_key(
    data: NDArray[np.uint8], start: int, end: int, keys: NDArray[np.uint8], key_offsets: NDArray[np.int64]
) -> int:
    """Return the number of the wanted key that data[start:end] is; -1 if none."""
    for f in range(len(key_offsets) - 1):
        length = key_offsets[f + 1] - key_offsets[f]
        if length == end - start and _same_bytes(data, start, keys, key_offsets[f], length):
            return f
    return -1


@njit(cache=True, nogil=True)
def find_values(
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    keys: NDArray[np.uint8],
    key_offsets: NDArray[np.int64],
    first_record: int,
    run_count: int,
    runs: NDArray[np.int64],
    run_ranges: NDArray[np.int64],
    kinds: NDArray[np.uint8],
    counts: NDArray[np.int64],
) -> tuple[int, int, int]:
    """Find, from first_record on, where the values of each wanted feature of each record are.

    starts, lengths:   int64 [n], the records in data
    keys, key_offsets: the wanted keys' bytes, and where each begins: int64 [fields + 1]
    runs:       int64 [any, 2], start and end of each run in data; run_count of them are in use
    run_ranges: int64 [fields, n, 2], filled with the first run of a feature and the one behind its last
    kinds:      uint8 [fields, n], zero on entry, filled with the kind of list
    counts:     int64 [fields, n], zero on entry, filled with the number of values

    Returns the record where it stopped, the runs in use before that record, and why: DONE, behind the last
    record; MORE_RUNS, to be called again for that record with a longer array; or a problem code of
    wire_format.
    """
    empty_key = _field_of_key(data, 0, 0, keys, key_offsets)
    remembered_start = np.zeros(_REMEMBERED, np.int64)
    remembered_length = np.full(_REMEMBERED, -1, np.int64)
    remembered_field = np.zeros(_REMEMBERED, np.int64)
    ends = np.zeros(_LIST + 1, np.int64)
    for r in range(first_record, len(starts)):
        record_runs = run_count
        key_number = 0
        at = starts[r]
        level = _EXAMPLE
        ends[_EXAMPLE] = at + lengths[r]
        # of the current entry:
        field, entry_start, entry_runs = -1, at, run_count
        kind, count = NO_LIST, 0
        value_seen = late_key = key_final = False
        while True:
            end = ends[level]
            if at == end:
                if level == _EXAMPLE:
                    break
                if level == _ENTRY:
                    if late_key:
                        # the values were taken for another key's: read the entry again, knowing its key
                        late_key, key_final = False, True
                        at, run_count = entry_start, entry_runs
                        kind, count = NO_LIST, 0
                        continue
                    if field >= 0:
                        # a later entry of the same key replaces an earlier one
                        run_ranges[field, r, 0] = entry_runs
                        run_ranges[field, r, 1] = run_count
                        kinds[field, r] = kind
                        counts[field, r] = count
                level -= 1
                continue

            tag, payload = read_varint(data, at, end)
            if payload < 0:
                return r, record_runs, payload
            if tag <= 7 or tag > LARGEST_TAG:
                return r, record_runs, BAD_TAG
            wire_type = tag & 7
            if wire_type == LENGTH_DELIMITED:
                length, payload = read_varint(data, payload, end)
                if payload < 0:
                    return r, record_runs, payload
                if length < 0 or length > end - payload:
                    return r, record_runs, BEYOND_END
                at = payload + length
            elif wire_type == VARINT:
                _, at = read_varint(data, payload, end)
                if at < 0:
                    return r, record_runs, at
            elif wire_type in (FIXED32, FIXED64):
                at = payload + (4 if wire_type == FIXED32 else 8)
                if at > end:
                    return r, record_runs, BEYOND_END
            else:
                return r, record_runs, BAD_WIRE_TYPE

            added = 0
            descend = False
            if level == _LIST:
                if tag == DELIMITED_1 and kind == INT64_LIST:
                    if at > payload and data[at - 1] >= 0x80:
                        return r, record_runs, TRUNCATED_VARINT
                    for i in range(payload, at):
                        added += int(data[i] < 0x80)
                elif tag == DELIMITED_1 and kind == FLOAT_LIST:
                    if (at - payload) & 3:
                        return r, record_runs, RAGGED_FLOATS
                    added = (at - payload) >> 2
                elif (
                    (tag == DELIMITED_1 and kind == BYTES_LIST)
                    or (tag == VARINT_1 and kind == INT64_LIST)
                    or (tag == FIXED32_1 and kind == FLOAT_LIST)
                ):
                    added = 1
            elif level == _FEATURE:
                if tag in (DELIMITED_1, DELIMITED_2, DELIMITED_3):
                    descend = True
                    if kind != tag >> 3:
                        # of lists of different kinds the last one holds; pieces of one kind go together
                        kind = tag >> 3
                        run_count, count = entry_runs, 0
            elif level == _ENTRY:
                if tag == DELIMITED_1 and not key_final:
                    length = at - payload
                    if (
                        key_number < _REMEMBERED
                        and length == remembered_length[key_number]
                        and _same_bytes(data, payload, data, remembered_start[key_number], length)
                    ):
                        found = int(remembered_field[key_number])
                    else:
                        found = _field_of_key(data, payload, at, keys, key_offsets)
                        if key_number < _REMEMBERED:
                            remembered_start[key_number] = payload
                            remembered_length[key_number] = length
                            remembered_field[key_number] = found
                    key_number += 1
                    late_key = late_key or (value_seen and found != field)
                    field = found
                elif tag == DELIMITED_2:
                    value_seen = True
                    descend = field >= 0
            elif tag == DELIMITED_1:
                descend = True
                if level == _FEATURES:
                    field, entry_start, entry_runs = empty_key, payload, run_count
                    kind, count = NO_LIST, 0
                    value_seen = late_key = key_final = False

            if added > 0:
                if run_count == len(runs):
                    return r, record_runs, MORE_RUNS
                runs[run_count, 0] = payload
                runs[run_count, 1] = at
                run_count += 1
                count += added
            if descend:
                level += 1
                ends[level] = at
                at = payload
    return len(starts), run_count, DONE
