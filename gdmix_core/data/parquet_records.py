"""Parquet input with the columns of the TFRecord layout: scalars, X_indices and X_values lists, X for a dense bag."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gdmix_core import storage
from gdmix_core.data.bags import flatten_lists
from gdmix_core.data.example_decoder import MISSING, OK, WRONG_KIND, Column, Field
from gdmix_core.data.pieces import Piece
from gdmix_core.errors import DataError

_BATCH_ROWS = 65_536


def read(piece: Piece, fields: list[Field]) -> Iterator[dict[str, Column]]:
    """The columns of each batch of the piece's row groups.

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
    array = batch.column(name)
    kind = array.type.value_type if _is_list(array.type) else array.type
    if not _matches(kind, field):
        return _absent(rows, field, WRONG_KIND)
    null = array.is_null().to_numpy(zero_copy_only=False)
    if _is_list(array.type):
        if array.flatten().null_count:
            raise pa.ArrowInvalid(f"column {field.name}: a list holds a null")
        if field.kind == "bytes":
            offsets = np.concatenate(
                [[0], np.cumsum(np.nan_to_num(array.value_lengths().to_numpy(zero_copy_only=False)))]
            )
            values: object = array.flatten().cast(pa.large_binary())
        else:
            offsets, flat = flatten_lists(array)
            values = _typed(flat, field)
        offsets = offsets.astype(np.int64)
    else:
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(~null, dtype=np.int64)])
        kept = array.drop_null()
        values = (
            kept.cast(pa.large_binary())
            if field.kind == "bytes"
            else _typed(kept.to_numpy(zero_copy_only=False), field)
        )
    return Column(offsets, values, np.where(null, MISSING, OK).astype(np.uint8))


def _typed(values: np.ndarray, field: Field) -> np.ndarray:
    # Doubles stay doubles: only TFRecord cannot hold them.
    if field.kind == "int64":
        return values.astype(np.int64, copy=False)
    return values if values.dtype in (np.float32, np.float64) else values.astype(np.float64)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _matches(kind: pa.DataType, field: Field) -> bool:
    if field.kind == "int64":
        return bool(pa.types.is_integer(kind) or pa.types.is_boolean(kind))
    if field.kind == "float":
        return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind))
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
    )


def _absent(rows: int, field: Field, status: np.uint8) -> Column:
    empty: object = (
        pa.array([], pa.large_binary())
        if field.kind == "bytes"
        else np.empty(0, np.int64 if field.kind == "int64" else np.float32)
    )
    return Column(np.zeros(rows + 1, np.int64), empty, np.full(rows, status, np.uint8))
