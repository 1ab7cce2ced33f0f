"""Text tables as data sets are published: separated by commas, tabs, pipes or `::`, in UTF-8 or Latin-1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from gdmix_core.errors import DataError

_NAMES = {",": "comma", "\t": "tab", "|": "pipe", "::": "::"}
_UNIT_SEPARATOR = "\x1f"  # stands for `::`, as Arrow's reader takes one character only; no title holds it


def read_table(
    path: Path, columns: dict[str, pa.DataType], *, delimiter: str, header: bool = False, encoding: str = "utf8"
) -> pa.Table:
    """Read the named columns of a text table; without a header the names are those of its columns, in order.

    Only files with a header quote. Raises DataError naming the file for a row or value that does not fit,
    for a missing value of a numeric column, and for a file without rows.
    """
    source: Path | pa.BufferReader = path
    character = delimiter
    try:
        if delimiter == "::":
            source = pa.BufferReader(path.read_bytes().replace(b"::", _UNIT_SEPARATOR.encode()))
            character = _UNIT_SEPARATOR
        table = pyarrow.csv.read_csv(
            source,
            read_options=pyarrow.csv.ReadOptions(column_names=None if header else list(columns), encoding=encoding),
            parse_options=pyarrow.csv.ParseOptions(delimiter=character, quote_char='"' if header else False),
            convert_options=pyarrow.csv.ConvertOptions(column_types=columns, include_columns=list(columns)),
        )
    except (OSError, pa.ArrowException) as error:
        form = f"{_NAMES[delimiter]}-separated {', '.join(columns)}"
        raise DataError(f"{path}: not readable as {form}: {error}") from None
    if table.num_rows == 0:
        raise DataError(f"{path}: holds no rows")
    for name, kind in columns.items():
        if kind != pa.string() and table[name].null_count:
            raise DataError(f"{path}: column {name} is empty in {table[name].null_count} rows")
    return table


def rank_in_group(group: NDArray[np.int64], *order: NDArray) -> NDArray[np.int64]:
    """Count the rows of the same group that come before each row, int64 [n]; by `order`, then by row."""
    rows = np.lexsort((*reversed(order), group))
    ordered = group[rows]
    count = np.empty(len(group), np.int64)
    count[rows] = np.arange(len(group)) - np.searchsorted(ordered, ordered)
    return count
