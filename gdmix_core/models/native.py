"""Our own model files: Parquet, one row an entity. Columns entity, indices (−1 is the intercept), means, variances."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gdmix_core import storage
from gdmix_core.data.bags import flatten_lists
from gdmix_core.data.id_types import plain_ids
from gdmix_core.data.plain_columns import is_list
from gdmix_core.errors import DataError
from gdmix_core.models.table import CoefficientTable


def write_model(path: str, table: CoefficientTable) -> None:
    offsets = pa.array(table.offsets)
    columns = {
        "entity": table.entities,
        "indices": pa.LargeListArray.from_arrays(offsets, pa.array(table.features)),
        "means": pa.LargeListArray.from_arrays(offsets, pa.array(table.means)),
    }
    if table.variances is not None:
        columns["variances"] = pa.LargeListArray.from_arrays(offsets, pa.array(table.variances))
    with storage.open_for_write(path) as file:
        # Coefficients are noise to a dictionary; indices repeat from entity to entity and do compress.
        pq.write_table(pa.table(columns), file, compression="lz4", use_dictionary=False, write_statistics=False)


def read_model(path: str) -> CoefficientTable:
    """Read a model file in our format.

    Parameters
    ----------
    path
        A path or URL.

    Returns
    -------
    CoefficientTable
        The file's rows; the means and variances are in the features' units.

    Raises
    ------
    DataError
        When the file is absent, is not a model, or is one that no training writes.
    """
    with storage.open_for_read(path) as file:
        try:
            table = pq.read_table(file)
        except pa.ArrowException as error:
            raise DataError(f"{path}: not a readable Parquet file: {error}") from None
    missing = {"entity", "indices", "means"} - set(table.column_names)
    if missing:
        raise DataError(f"{path}: not a model file: column {', '.join(sorted(missing))} is missing")
    lists = {
        name: _lists(path, table, name) for name in ("indices", "means", "variances") if name in table.column_names
    }
    offsets, indices = lists["indices"]
    for name, (other, _) in lists.items():
        if not np.array_equal(other, offsets):
            raise DataError(f"{path}: damaged: the lists of {name} have other lengths than those of indices")
    try:
        found = CoefficientTable(
            plain_ids(table["entity"]),
            offsets,
            indices.astype(np.int32, copy=False),
            lists["means"][1].astype(np.float64, copy=False),
            lists["variances"][1].astype(np.float64, copy=False) if "variances" in lists else None,
        )
    except (ValueError, DataError) as error:
        raise DataError(f"{path}: not a model file: {error}") from None
    found.check(path)
    return found


def _lists(path: str, table: pa.Table, name: str) -> tuple[NDArray[np.int64], NDArray]:
    column, wanted = table[name], "integers" if name == "indices" else "numbers"
    is_wanted = pa.types.is_integer if name == "indices" else pa.types.is_floating
    if not is_list(column.type) or not is_wanted(column.type.value_type):
        raise DataError(f"{path}: not a model file: column {name} should hold lists of {wanted}, not {column.type}")
    if column.null_count or any(chunk.flatten().null_count for chunk in column.chunks):
        raise DataError(f"{path}: damaged: column {name} should hold a list of {wanted} in every row, and holds null")
    return flatten_lists(column)


def concatenate(tables: list[CoefficientTable], entity_type: pa.DataType) -> CoefficientTable:
    """Return all rows of the tables, one table after another. Where some have variances, the others' are nan."""
    lengths = np.concatenate([np.zeros(1, np.int64), *(np.diff(t.offsets) for t in tables)])
    return CoefficientTable(
        pa.concat_arrays([pa.array([], entity_type), *(t.entities for t in tables)]),
        np.cumsum(lengths, dtype=np.int64),
        np.concatenate([np.empty(0, np.int32), *(t.features for t in tables)]),
        np.concatenate([np.empty(0), *(t.means for t in tables)]),
        _all_variances(tables),
    )


def _all_variances(tables: list[CoefficientTable]) -> NDArray[np.float64] | None:
    if all(table.variances is None for table in tables):
        return None
    return np.concatenate([np.full(len(t.features), np.nan) if t.variances is None else t.variances for t in tables])
