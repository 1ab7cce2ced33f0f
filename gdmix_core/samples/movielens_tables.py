"""Tables of the published MovieLens files: comma, tab, pipe and `::` separated, UTF-8 and Latin-1."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from gdmix_core.errors import DataError

_UNIT_SEPARATOR = "\x1f"  # stands for `::`, as Arrow's reader takes one character only; no title holds it


@dataclass(frozen=True)
class RatingTable:
    """In the file's order: user, movie int64 [n]; stars float64 [n]; time int64 [n], seconds since 1970."""

    path: Path
    user: NDArray[np.int64]
    movie: NDArray[np.int64]
    stars: NDArray[np.float64]
    time: NDArray[np.int64]


def read_table(
    path: Path,
    columns: dict[str, pa.DataType],
    *,
    delimiter: str,
    header: bool = False,
    encoding: str = "utf8",
) -> pa.Table:
    """The named columns of a text table; without a header the names are those of its columns, in order.

    Only comma separated files quote. Raises DataError naming the file for a row or value that does not fit,
    for a missing value of a numeric column, and for a file without rows.
    """
    source: Path | pa.BufferReader = path
    try:
        if delimiter == "::":
            source = pa.BufferReader(path.read_bytes().replace(b"::", _UNIT_SEPARATOR.encode()))
            delimiter = _UNIT_SEPARATOR
        table = pyarrow.csv.read_csv(
            source,
            read_options=pyarrow.csv.ReadOptions(column_names=None if header else list(columns), encoding=encoding),
            parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, quote_char='"' if delimiter == "," else False),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=columns, include_columns=list(columns), strings_can_be_null=False
            ),
        )
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: not readable as a MovieLens file: {error}") from None
    if table.num_rows == 0:
        raise DataError(f"{path}: holds no rows")
    for name, kind in columns.items():
        if kind != pa.string() and table[name].null_count:
            raise DataError(f"{path}: column {name} is empty in {table[name].null_count} rows")
    return table


def read_ratings(path: Path, *, delimiter: str, names: tuple[str, str, str, str], header: bool = False) -> RatingTable:
    """names: the columns of user, movie, rating and time."""
    kinds = (pa.int64(), pa.int64(), pa.float64(), pa.int64())
    table = read_table(path, dict(zip(names, kinds, strict=True)), delimiter=delimiter, header=header)
    user, movie, stars, time = (table[name].to_numpy() for name in names)
    return RatingTable(path, user, movie, stars, time)


def position_of(
    ids: NDArray[np.int64], table: pa.Table, column: str, *, ratings: Path, listed: Path
) -> NDArray[np.int64]:
    """int64 [n]: the row of `table` that holds each id. Raises DataError for an id that it lacks."""
    known = table[column].to_numpy()
    order = np.argsort(known, kind="stable")
    nearest = order[np.minimum(np.searchsorted(known, ids, sorter=order), len(known) - 1)]
    missing = np.flatnonzero(known[nearest] != ids)
    if len(missing):
        raise DataError(
            f"{ratings}: rating {missing[0]} (from 0) has {column} {ids[missing[0]]}, which {listed.name} "
            f"does not list; {len(missing)} ratings are like this. Take all files from one edition"
        )
    return nearest
