"""Columns to tf.train.Example records and TFRecord files, without TensorFlow or protobuf."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gdmix_core.data.ragged import Bag
from gdmix_core.data.tfrecord import layout
from gdmix_core.data.tfrecord.decoder import OK, Column, Kind
from gdmix_core.data.tfrecord.files import EncodedRecords, write_records
from gdmix_core.errors import DataError

ColumnLike: TypeAlias = NDArray[Any] | Sequence[str] | Sequence[bytes] | Bag | Column | pa.Array

# Rows encoded at a time: what they take must fit a core's cache, as every feature is a pass over it.
_BLOCK_ROWS = 8192


@dataclass(frozen=True)
class _Feature:
    """One key of n records.

    values: int64 or float32 [entries]; for bytes int64 [entries + 1], where in octets each value begins
    """

    name: str
    kind: Kind
    present: NDArray[np.bool_]
    offsets: NDArray[np.int64]
    values: NDArray[Any]
    octets: NDArray[np.uint8] | None = None


def write_tfrecord(path: str, columns: Mapping[str, ColumnLike]) -> int:
    """Write columns as a TFRecord file of tf.train.Examples; the number of rows.

    columns: as encode_examples takes them. path: local or a URL; .gz and .deflate compress. The file appears
    under its name when it is whole. Raises DataError for columns that do not fit together, and for a
    directory that cannot be written to.
    """
    rows = _row_count(columns)
    starts = range(0, rows, _BLOCK_ROWS)
    blocks = ({name: _rows(column, s, s + _BLOCK_ROWS) for name, column in columns.items()} for s in starts)
    return write_records(path, map(encode_examples, blocks))


def encode_examples(columns: Mapping[str, ColumnLike]) -> EncodedRecords:
    """One tf.train.Example a row. By type of the column (n rows, features in the order of the mapping):

    integers, booleans [n]    an int64 list of one value
    floats [n]                a float list of one value, rounded to float32
    numbers [n, d]            a list of d values
    str, bytes, pyarrow [n]   a bytes list of one value; a None (null) leaves the feature out of its record
    Bag of n rows             `<name>_indices`, an int64 list, and `<name>_values`, a float list
    Column of n rows          its values; rows that are not OK go without the feature

    Raises DataError for columns of different lengths or other types, with offsets that do not fit their
    values, or with values that int64 or float32 cannot hold.
    """
    rows = _row_count(columns)
    features = [feature for name, column in columns.items() for feature in _features(name, column)]
    names = [feature.name for feature in features]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise DataError(f"columns give the feature {', '.join(sorted(repeated))} twice; rename one of them")
    payload_sizes = [_payload_sizes(feature) for feature in features]
    features_sizes = np.zeros(rows, np.int64)
    for feature, sizes in zip(features, payload_sizes, strict=True):
        key_bytes = len(feature.name.encode())
        layout.add_entries(sizes, feature.present, feature.kind != "bytes", key_bytes, features_sizes)
    offsets = np.empty(rows + 1, np.int64)
    layout.record_offsets(features_sizes, offsets)
    out = np.empty(offsets[-1], np.uint8)
    cursors = np.empty(rows, np.int64)
    layout.put_record_heads(features_sizes, offsets, out, cursors)
    for feature, sizes in zip(features, payload_sizes, strict=True):
        _put(feature, sizes, out, cursors)
    return EncodedRecords(out, offsets)


def _payload_sizes(feature: _Feature) -> NDArray[np.int64]:
    if feature.kind == "float":
        return 4 * np.diff(feature.offsets)
    sizes = np.empty(len(feature.present), np.int64)
    if feature.kind == "int64":
        layout.int64_payload_bytes(feature.offsets, feature.values, sizes)
    else:
        layout.bytes_payload_bytes(feature.offsets, feature.values, sizes)
    return sizes


def _put(feature: _Feature, sizes: NDArray[np.int64], out: NDArray[np.uint8], cursors: NDArray[np.int64]) -> None:
    key = np.array(list(feature.name.encode()), np.uint8)
    lists = out, cursors, key, feature.present, sizes, feature.offsets
    if feature.kind == "int64":
        layout.put_int64_entries(*lists, feature.values)
    elif feature.kind == "float":
        layout.put_float_entries(*lists, feature.values.view(np.uint32))
    else:
        layout.put_bytes_entries(*lists, feature.values, feature.octets)


def _row_count(columns: Mapping[str, ColumnLike]) -> int:
    counts = {name: len(column) for name, column in columns.items()}
    if not counts:
        raise DataError("no columns to write as Examples; give at least one")
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name}: {count}" for name, count in counts.items())
        raise DataError(f"columns have different numbers of rows ({listed}); give each one value a row")
    return next(iter(counts.values()))


def _rows(column: ColumnLike, start: int, stop: int) -> ColumnLike:
    """Rows start to stop of a column, without a copy; offsets keep pointing into the values of all rows."""
    if isinstance(column, Bag):
        return Bag(column.offsets[start : stop + 1], column.indices, column.values)
    if isinstance(column, Column):
        return Column(column.offsets[start : stop + 1], column.values, column.status[start:stop])
    return column[start:stop]


def _features(name: str, column: ColumnLike) -> list[_Feature]:
    if isinstance(column, Bag):
        if len(column.indices) != len(column.values):
            raise DataError(
                f"column {name}: the bag has {len(column.indices)} indices and {len(column.values)} values; "
                "each index needs one value"
            )
        return [
            _list_feature(f"{name}_indices", column.offsets, column.indices),
            _list_feature(f"{name}_values", column.offsets, column.values),
        ]
    if isinstance(column, Column):
        return [_list_feature(name, column.offsets, column.values, column.status == OK)]
    values = column if isinstance(column, np.ndarray) else None
    if values is not None and values.dtype.kind in "biuf" and values.ndim in (1, 2):
        width = 1 if values.ndim == 1 else values.shape[1]
        offsets = np.arange(len(values) + 1, dtype=np.int64) * width
        return [_list_feature(name, offsets, values.reshape(-1))]
    strings = _binary_array(name, column)
    present = np.asarray(strings.is_valid())
    offsets = np.concatenate([[0], np.cumsum(present, dtype=np.int64)])
    return [_list_feature(name, offsets, strings.drop_null(), present)]


def _binary_array(name: str, column: Any) -> pa.LargeBinaryArray:
    try:
        array = column if isinstance(column, pa.Array) else pa.array(column)
        return array.cast(pa.large_string() if pa.types.is_null(array.type) else array.type).cast(pa.large_binary())
    except (pa.ArrowException, TypeError) as error:
        raise DataError(
            f"column {name}: {type(column).__name__} has no place in an Example ({error}); "
            "give numbers [n] or [n, d], strings, bytes, or a Bag"
        ) from error


def _list_feature(
    name: str, offsets: NDArray[np.int64], values: Any, present: NDArray[np.bool_] | None = None
) -> _Feature:
    """Check a ragged column, and bring it to the one type that each kernel is compiled for."""
    offsets = np.ascontiguousarray(offsets, np.int64)
    if offsets[0] < 0 or offsets[-1] > len(values) or (np.diff(offsets) < 0).any():
        raise DataError(
            f"column {name}: its offsets do not rise from 0 to the number of its values, {len(values)}; "
            "row i must own the values offsets[i] : offsets[i + 1]"
        )
    if present is None:
        present = np.ones(len(offsets) - 1, np.bool_)
    used = values[offsets[0] : offsets[-1]]
    offsets = offsets - offsets[0]
    if not isinstance(used, np.ndarray):
        return _Feature(name, "bytes", present, offsets, *_bytes_buffers(used))
    if used.dtype.kind == "f":
        try:
            with np.errstate(over="raise"):
                return _Feature(name, "float", present, offsets, np.ascontiguousarray(used, np.float32))
        except FloatingPointError as error:
            raise DataError(f"column {name}: a value is too large for float32; scale the column") from error
    if used.dtype == np.uint64 and len(used) and used.max() > np.iinfo(np.int64).max:
        raise DataError(f"column {name}: {used.max()} is too large for an int64 list; use a string")
    return _Feature(name, "int64", present, offsets, np.ascontiguousarray(used, np.int64))


def _bytes_buffers(array: pa.LargeBinaryArray) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """An array without nulls as the offsets of its values [entries + 1] and the bytes they point into."""
    _, offsets, octets = array.buffers()
    positions = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    return np.array(positions), np.array(np.frombuffer(octets or b"", np.uint8))
