"""tf.train.Example records to columns, without TensorFlow or protobuf.

Two passes over a chunk, both compiled. The first finds the values of each wanted feature of each record (the
last feature, if a record holds it twice, as in every protobuf map). The second fills arrays of just the right
size. Source of the format: example.proto and feature.proto in tensorflow/core/example of TensorFlow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gdmix_core.data.tfrecord import runs, scan
from gdmix_core.data.tfrecord.files import Chunk
from gdmix_core.data.tfrecord.wire_format import PROBLEMS
from gdmix_core.errors import ConfigError, DataError

Kind = Literal["int64", "float", "bytes"]
# status of a row's feature: absent (or without a list), with a list of another kind, fine
MISSING, WRONG_KIND, OK = np.uint8(0), np.uint8(1), np.uint8(2)

_LIST_OF_KIND: dict[Kind, int] = {
    "bytes": scan.BYTES_LIST,
    "float": scan.FLOAT_LIST,
    "int64": scan.INT64_LIST,
}


@dataclass(frozen=True)
class Field:
    """A feature to read: its key in the record, and the kind of list it must have.

    other: the key that it may have instead, for readers to try; decode looks for name alone
    """

    name: str
    kind: Kind
    other: str | None = None


@dataclass(frozen=True)
class Column:
    """One feature of n records: row i has values[offsets[i] : offsets[i + 1]], nothing unless it is OK.

    offsets: int64 [n + 1]
    values:  int64 or float32 [entries], or a pyarrow.LargeBinaryArray
    status:  uint8 [n], MISSING, WRONG_KIND or OK
    """

    offsets: NDArray[np.int64]
    values: Any
    status: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.status)


def decode(chunk: Chunk, fields: Sequence[Field]) -> dict[str, Column]:
    """Return the wanted features of a chunk's records, by name.

    Lists may be packed or not, and come in any order and number of pieces, as protobuf allows. Other features
    are skipped unread. Raises DataError for a record that is not a tf.train.Example (or has protobuf groups,
    which Examples do not), ConfigError for a field named twice.
    """
    names = [field.name for field in fields]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise ConfigError(f"field asked for twice: {', '.join(sorted(repeated))}; name each field once")
    found, run_ranges, kinds, counts = _find_values(chunk, [name.encode() for name in names])
    columns = {}
    for f, field in enumerate(fields):
        status_of_kind = np.full(4, WRONG_KIND)
        status_of_kind[scan.NO_LIST] = MISSING
        status_of_kind[_LIST_OF_KIND[field.kind]] = OK
        status = status_of_kind[kinds[f]]
        offsets = np.zeros(len(chunk) + 1, np.int64)
        np.cumsum(np.where(status == OK, counts[f], 0), out=offsets[1:])
        columns[field.name] = Column(offsets, _FILL[field.kind](chunk, found, run_ranges[f], offsets), status)
    return columns


def _find_values(chunk: Chunk, keys: list[bytes]) -> tuple[NDArray[Any], ...]:
    """Run the first pass, with results as scan.find_values describes them."""
    key_offsets = np.cumsum([0, *map(len, keys)], dtype=np.int64)
    key_bytes = np.array(list(b"".join(keys)), np.uint8)
    records = chunk.data, chunk.starts, chunk.lengths
    shape = (len(keys), len(chunk))
    run_ranges = np.empty((*shape, 2), np.int64)
    kinds, counts = np.zeros(shape, np.uint8), np.zeros(shape, np.int64)
    # enough for packed lists and single values
    found = np.empty((len(keys) * len(chunk), 2), np.int64)
    record = run_count = 0
    while True:
        record, run_count, outcome = scan.find_values(
            *records, key_bytes, key_offsets, record, run_count, found, run_ranges, kinds, counts
        )
        if outcome != scan.MORE_RUNS:
            break
        found = np.concatenate([found, np.empty((len(found) + 1024, 2), np.int64)])
    _raise_problem(chunk, record, outcome)
    return found, run_ranges, kinds, counts


def _int64_values(chunk: Chunk, *found: NDArray[np.int64]) -> NDArray[np.int64]:
    values = np.empty(found[-1][-1], np.int64)
    _raise_problem(chunk, *runs.fill_int64(chunk.data, *found, values))
    return values


def _float_values(chunk: Chunk, *found: NDArray[np.int64]) -> NDArray[np.float32]:
    values = np.empty(found[-1][-1], np.float32)
    runs.fill_float(chunk.data, *found, values.view(np.uint32))
    return values


def _bytes_values(chunk: Chunk, *found: NDArray[np.int64]) -> pa.LargeBinaryArray:
    value_offsets = np.empty(found[-1][-1] + 1, np.int64)
    runs.fill_bytes_offsets(*found, value_offsets)
    value_bytes = np.empty(value_offsets[-1], np.uint8)
    runs.fill_bytes(chunk.data, *found, value_bytes)
    buffers = [None, pa.py_buffer(value_offsets), pa.py_buffer(value_bytes)]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(value_offsets) - 1, buffers)


_FILL: dict[Kind, Any] = {"int64": _int64_values, "float": _float_values, "bytes": _bytes_values}


def _raise_problem(chunk: Chunk, record: int, problem: int) -> None:
    if problem < 0:
        raise DataError(
            f"{chunk.where(record)}: this is not a tf.train.Example: {PROBLEMS[problem]}. "
            "Write the records as serialized Examples, the only kind that is read."
        )
