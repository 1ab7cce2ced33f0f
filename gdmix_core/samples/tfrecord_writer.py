"""Columns to TFRecord files of tf.train.Examples, without TensorFlow or protobuf.

A record is written in two compiled passes: first the sizes of all its parts (protobuf puts a message's length before
it), then the bytes. data/tfrecord/scan.py shows the messages, data/tfrecord/frames.py the frame around a record.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gdmix_core import storage
from gdmix_core.data.byte_streams import WINDOW_BITS, compression_of
from gdmix_core.data.ragged import Bag
from gdmix_core.data.tfrecord.crc32c import masked_crc32c_of_range
from gdmix_core.data.tfrecord.frames import FOOTER_BYTES, FRAME_BYTES, HEADER_BYTES
from gdmix_core.data.tfrecord.scan import BYTES_LIST, FLOAT_LIST, INT64_LIST
from gdmix_core.data.tfrecord.wire_format import DELIMITED_1, DELIMITED_2
from gdmix_core.errors import DataError
from gdmix_core.jit import njit

ColumnLike: TypeAlias = NDArray[Any] | Sequence[str | None] | Sequence[bytes | None] | Bag | pa.Array

# Rows encoded at a time: what they take must fit a core's cache.
_BLOCK_ROWS = 8192
# The size of a feature that a record does not have
_ABSENT = -1


class _Feature(NamedTuple):
    """One key of n records: record r has the payload octets[offsets[r] : offsets[r + 1]], or no such feature.

    octets: the bytes of a list's numbers, or of its one string; kind: the number of the list in a Feature message
    """

    name: str
    kind: int
    octets: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    present: NDArray[np.bool_]


def write_tfrecord(path: str, columns: Mapping[str, ColumnLike]) -> int:
    """Write columns as a TFRecord file of tf.train.Examples; return the number of rows.

    columns: as encode_examples takes them. path: local or a URL; .gz and .deflate compress. The file appears
    under its name when it is whole. Raises DataError for columns that do not fit together.
    """
    rows = _row_count(columns)
    compression = compression_of(path)
    # Neither form has a time stamp: the same columns give the same file.
    deflater = zlib.compressobj(wbits=WINDOW_BITS[compression]) if compression else None
    with storage.open_for_write(path) as file:
        for start in range(0, rows, _BLOCK_ROWS):
            block = {name: slice_rows(column, start, start + _BLOCK_ROWS) for name, column in columns.items()}
            records = encode_examples(block).data
            file.write(deflater.compress(records) if deflater else records)
        if deflater:
            file.write(deflater.flush())
    return rows


def encode_examples(columns: Mapping[str, ColumnLike]) -> NDArray[np.uint8]:
    """Encode one framed tf.train.Example a row. By type of the column (n rows, features in the order of the mapping):

    integers, booleans [n]    an int64 list of one value
    floats [n]                a float list of one value, rounded to float32
    numbers [n, d]            a list of d values
    str, bytes, pyarrow [n]   a bytes list of one value; a None (null) leaves the feature out of its record
    Bag of n rows             `<name>_indices`, an int64 list, and `<name>_values`, a float list

    Raises DataError for columns of different lengths or other types, with offsets that do not fit their
    values, or with values that int64 or float32 cannot hold.
    """
    _row_count(columns)
    features = [feature for name, column in columns.items() for feature in _features(name, column)]
    names = [feature.name for feature in features]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise DataError(f"columns give the feature {', '.join(sorted(repeated))} twice; rename one of them")
    # All payloads end to end, so that the kernel takes arrays of one type whatever the number of features.
    first = np.cumsum([0, *(len(feature.octets) for feature in features)])
    sizes = np.stack([np.where(feature.present, np.diff(feature.offsets), _ABSENT) for feature in features])
    begins = np.stack([start + feature.offsets[:-1] for start, feature in zip(first, features, strict=False)])
    keys = [name.encode() for name in names]
    return _encode(
        np.concatenate([feature.octets for feature in features]),
        begins,
        sizes,
        np.array([feature.kind for feature in features]),
        np.array(list(b"".join(keys)), np.uint8),
        np.cumsum([0, *map(len, keys)]),
    )


def _row_count(columns: Mapping[str, ColumnLike]) -> int:
    counts = {name: len(column) for name, column in columns.items()}
    if not counts:
        raise DataError("no columns to write as Examples; give at least one")
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name}: {count}" for name, count in counts.items())
        raise DataError(f"columns have different numbers of rows ({listed}); give each one value a row")
    return next(iter(counts.values()))


def slice_rows(column: Any, start: int, stop: int) -> Any:
    """Take the rows start to stop of a column, without a copy; offsets keep pointing into the values of all rows."""
    if isinstance(column, Bag):
        return Bag(column.offsets[start : stop + 1], column.indices, column.values)
    return column[start:stop]


def _features(name: str, column: ColumnLike) -> list[_Feature]:
    if isinstance(column, Bag):
        if len(column.indices) != len(column.values):
            raise DataError(
                f"column {name}: the bag has {len(column.indices)} indices and {len(column.values)} values; "
                "each index needs one value"
            )
        return [
            _numbers(f"{name}_indices", column.offsets, column.indices),
            _numbers(f"{name}_values", column.offsets, column.values),
        ]
    if isinstance(column, np.ndarray) and column.dtype.kind in "biuf" and column.ndim in (1, 2):
        width = 1 if column.ndim == 1 else column.shape[1]
        return [_numbers(name, np.arange(len(column) + 1) * width, column.reshape(-1))]
    return [_strings(name, column)]


def _numbers(name: str, offsets: NDArray[np.int64], values: NDArray[Any]) -> _Feature:
    """Check lists of numbers, and bring them to the payload of their kind."""
    if offsets[0] < 0 or offsets[-1] > len(values) or (np.diff(offsets) < 0).any():
        raise DataError(
            f"column {name}: its offsets do not rise from 0 to the number of its values, {len(values)}; "
            "row i must own the values offsets[i] : offsets[i + 1]"
        )
    used, offsets = values[offsets[0] : offsets[-1]], offsets - offsets[0]
    present = np.ones(len(offsets) - 1, np.bool_)
    if used.dtype.kind == "f":
        try:
            with np.errstate(over="raise"):
                octets = np.ascontiguousarray(used, np.dtype("<f4")).view(np.uint8)
        except FloatingPointError as error:
            raise DataError(f"column {name}: a value is too large for float32; scale the column") from error
        return _Feature(name, FLOAT_LIST, octets, 4 * offsets, present)
    if used.dtype == np.uint64 and len(used) and used.max() > np.iinfo(np.int64).max:
        raise DataError(f"column {name}: {used.max()} is too large for an int64 list; use a string")
    octets, ends = _varints(np.ascontiguousarray(used, np.int64))
    return _Feature(name, INT64_LIST, octets, ends[offsets], present)


def _strings(name: str, column: Any) -> _Feature:
    try:
        array = column if isinstance(column, pa.Array) else pa.array(column)
        array = array.cast(pa.large_string() if pa.types.is_null(array.type) else array.type).cast(pa.large_binary())
    except (pa.ArrowException, TypeError) as error:
        raise DataError(
            f"column {name}: {type(column).__name__} has no place in an Example ({error}); "
            "give numbers [n] or [n, d], strings, bytes, or a Bag"
        ) from error
    _, offsets, octets = array.buffers()
    ends = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    payload = np.frombuffer(octets or b"", np.uint8)[ends[0] : ends[-1]]
    return _Feature(name, BYTES_LIST, payload, ends - ends[0], np.asarray(array.is_valid()))


@njit(cache=True, nogil=True)
def _varint_bytes(value: int) -> int:
    """Count the bytes that an int64 takes as a varint: 1 to 10 (10 for every negative number)."""
    rest = np.uint64(value)
    count = 1
    while rest >= np.uint64(0x80):
        rest >>= np.uint64(7)
        count += 1
    return count


@njit(cache=True, nogil=True, forceinline=True)
def _put_varint(out: NDArray[np.uint8], at: int, value: int) -> int:
    """Put an int64 as a varint at out[at:]; the position behind it."""
    rest = np.uint64(value)
    while rest >= np.uint64(0x80):
        out[at] = np.uint8((rest & np.uint64(0x7F)) | np.uint64(0x80))
        rest >>= np.uint64(7)
        at += 1
    out[at] = np.uint8(rest)
    return at + 1


@njit(cache=True, nogil=True)
def _varints(values: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Write all values as varints; return them, and int64 [n + 1], where each begins."""
    out = np.empty(10 * len(values), np.uint8)
    begins = np.zeros(len(values) + 1, np.int64)
    for i in range(len(values)):
        begins[i + 1] = _put_varint(out, begins[i], values[i])
    return out[: begins[-1]], begins


@njit(cache=True, nogil=True)
def _field_bytes(size: int) -> int:
    """Size of a length-delimited field numbered 1 to 15."""
    return 1 + _varint_bytes(size) + size


@njit(cache=True, nogil=True, forceinline=True)
def _put_head(out: NDArray[np.uint8], at: int, tag: int, size: int) -> int:
    """Put a length-delimited field's tag and length; the position behind them."""
    out[at] = tag
    return _put_varint(out, at + 1, size)


@njit(cache=True, nogil=True)
def _list_bytes(kind: int, size: int) -> int:
    """Size of a list message with a payload of `size` bytes; without numbers it is empty, without text it is not."""
    return _field_bytes(size) if size > 0 or kind == BYTES_LIST else 0


@njit(cache=True, nogil=True)
def _entry_bytes(key_bytes: int, list_bytes: int) -> int:
    """Size of a map entry: the key, and a Feature that holds the list."""
    return _field_bytes(key_bytes) + _field_bytes(_field_bytes(list_bytes))


@njit(cache=True, nogil=True)
def _put_little_endian(out: NDArray[np.uint8], at: int, value: int, octets: int) -> None:
    for i in range(octets):
        out[at + i] = np.uint8((np.int64(value) >> np.int64(8 * i)) & 0xFF)


@njit(cache=True, nogil=True)
def _encode(
    payloads: NDArray[np.uint8],
    begins: NDArray[np.int64],
    sizes: NDArray[np.int64],
    kinds: NDArray[np.int64],
    keys: NDArray[np.uint8],
    key_offsets: NDArray[np.int64],
) -> NDArray[np.uint8]:
    """Frame n records of F features: record r's feature f is payloads[begins[f, r] :][: sizes[f, r]]."""
    features, rows = sizes.shape
    example = np.zeros(rows, np.int64)  # bytes of each record's Features message
    for f in range(features):
        key_bytes = key_offsets[f + 1] - key_offsets[f]
        for r in range(rows):
            if sizes[f, r] != _ABSENT:
                example[r] += _field_bytes(_entry_bytes(key_bytes, _list_bytes(kinds[f], sizes[f, r])))
    total = 0
    for r in range(rows):
        total += FRAME_BYTES + _field_bytes(example[r])
    out = np.empty(total, np.uint8)
    at = 0
    for r in range(rows):
        _put_little_endian(out, at, _field_bytes(example[r]), 8)
        _put_little_endian(out, at + 8, np.int64(masked_crc32c_of_range(out, at, at + 8)), 4)
        begin = at + HEADER_BYTES
        at = _put_head(out, begin, DELIMITED_1, example[r])
        for f in range(features):
            size = sizes[f, r]
            if size == _ABSENT:
                continue
            key = keys[key_offsets[f] : key_offsets[f + 1]]
            list_bytes = _list_bytes(kinds[f], size)
            at = _put_head(out, at, DELIMITED_1, _entry_bytes(len(key), list_bytes))
            at = _put_head(out, at, DELIMITED_1, len(key))
            out[at : at + len(key)] = key
            at = _put_head(out, at + len(key), DELIMITED_2, _field_bytes(list_bytes))
            at = _put_head(out, at, (kinds[f] << 3) | 2, list_bytes)
            if list_bytes:
                at = _put_head(out, at, DELIMITED_1, size)
                out[at : at + size] = payloads[begins[f, r] : begins[f, r] + size]
                at += size
        _put_little_endian(out, at, np.int64(masked_crc32c_of_range(out, begin, at)), 4)
        at += FOOTER_BYTES
    return out
