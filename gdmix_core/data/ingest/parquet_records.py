"""Parquet input with the columns of the TFRecord layout: scalars, X_indices and X_values lists, X for a dense bag."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gdmix_core import storage
from gdmix_core.data.ingest.pieces import Piece
from gdmix_core.data.plain_columns import holds, is_list, plain
from gdmix_core.data.tfrecord.decoder import MISSING, OK, WRONG_KIND, Column, Field
from gdmix_core.errors import DataError

_BATCH_ROWS = 65_536
_EMPTY = {"int64": pa.int64(), "float": pa.float64(), "bytes": pa.large_binary()}
_HELD = {"int64": "integer", "float": "real", "bytes": "text"}


def read(piece: Piece, fields: list[Field]) -> Iterator[dict[str, Column]]:
    """Yield the columns of each batch of the piece's row groups.

    A column that the file does not have is MISSING in every record, one of another type WRONG_KIND.
    """
    with storage.open_for_read(piece.path) as file:
        try:
            parquet = pq.ParquetFile(file)
            names = parquet.schema_arrow.names
            stored = {str(f.other) if f.name not in names and f.other in names else f.name: f for f in fields}
            present = [name for name in stored if name in names]
            groups = list(range(piece.start, piece.stop))
            for batch in parquet.iter_batches(batch_size=_BATCH_ROWS, row_groups=groups, columns=present):
                yield {field.name: _column(batch, name, field) for name, field in stored.items()}
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{piece.path}: row groups {piece.start} to {piece.stop - 1}: {error}") from None


def _column(batch: pa.RecordBatch, name: str, field: Field) -> Column:
    """name: that the field has in the file."""
    rows = batch.num_rows
    if name not in batch.schema.names:
        return _absent(rows, field, MISSING)
    array = plain(batch.column(name))
    listed = is_list(array.type)
    kind = array.type.value_type if listed else array.type
    if pa.types.is_null(array.type):  # what pandas writes where every value is None
        return _absent(rows, field, MISSING)
    if listed and pa.types.is_null(kind) and not array.flatten().null_count:  # pandas, where every list is empty
        array, kind = array.cast(pa.large_list(_EMPTY[field.kind])), _EMPTY[field.kind]
    if not holds(kind, _HELD[field.kind]):
        return _absent(rows, field, WRONG_KIND)
    null = array.is_null().to_numpy(zero_copy_only=False)
    if listed:
        if array.flatten().null_count:
            raise pa.ArrowInvalid(f"column {field.name}: a list holds a null")
        lengths = np.nan_to_num(array.value_lengths().to_numpy(zero_copy_only=False)).astype(np.int64)
        offsets, flat = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]), array.flatten()
    else:
        offsets, flat = np.concatenate([np.zeros(1, np.int64), np.cumsum(~null, dtype=np.int64)]), array.drop_null()
    values = flat.cast(pa.large_binary()) if field.kind == "bytes" else _numbers(flat, field, listed)
    return Column(offsets, values, np.where(null, MISSING, OK).astype(np.uint8))


def _numbers(values: pa.Array, field: Field, listed: bool) -> np.ndarray:
    """Keep doubles, which only TFRecord cannot hold, and unsigned integers, which may be ids above 2⁶³."""
    if pa.types.is_decimal(values.type):
        values = values.cast(pa.float64())
    numbers: np.ndarray = values.to_numpy(zero_copy_only=False)
    if field.kind == "int64":
        return numbers if numbers.dtype == np.uint64 and not listed else numbers.astype(np.int64, copy=False)
    return numbers if numbers.dtype in (np.float32, np.float64) else numbers.astype(np.float64)


def _absent(rows: int, field: Field, status: np.uint8) -> Column:
    empty: object = (
        pa.array([], pa.large_binary())
        if field.kind == "bytes"
        else np.empty(0, np.int64 if field.kind == "int64" else np.float32)
    )
    return Column(np.zeros(rows + 1, np.int64), empty, np.full(rows, status, np.uint8))
