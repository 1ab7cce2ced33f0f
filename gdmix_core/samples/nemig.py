"""NeMig news impressions as one source of a pipeline: what a reader was shown, which of it was clicked, and its text.

`news.tsv` (news, title, abstract) and `rows.tsv` (impression, user, news, clicked) become one directory in the input
layout that every coordinate shares; the features are in nemig_features.py.

What a row weighs: 1. Of impressions as large as a feed's, one keeps only a share of what was not clicked, as
`negatives` does here with training rows; each that is kept then weighs 1 / share, or the model would take clicks for
that much more frequent than they are.

Which rows validate: impressions, never parts of one. A user's impressions are ordered by a hash of their number, and
every fifth is held out: the same on every machine, and every user keeps four of five to train on.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from gdmix_core.data.feature_list import FeatureList
from gdmix_core.data.hashing import hash_ids
from gdmix_core.errors import DataError
from gdmix_core.samples.features import Features
from gdmix_core.samples.layout import Columns, Format, SourceWriter, Split, check_directory, describe, sample_directory
from gdmix_core.samples.nemig_features import user_features, wide_features

logger = logging.getLogger(__name__)

_NEWS = {"news": pa.string(), "title": pa.string(), "abstract": pa.string()}
_ROWS = {"impression": pa.int64(), "user": pa.string(), "news": pa.string(), "clicked": pa.int64()}
# One impression in so many validates.
_HELD_OUT = 5
_ROWS_PER_FILE = 1_000_000


@dataclass(frozen=True, eq=False)
class Impressions:
    """Rows in the order of rows.tsv, row number = uid.

    impression: int64 [n]; user: string [n]; item: int64 [n], the position in `news`; clicked: int32 [n], 0 or 1
    news: table of news (id), title, abstract ("" where there is none), one row an item
    """

    impression: NDArray[np.int64]
    user: pa.Array
    item: NDArray[np.int64]
    clicked: NDArray[np.int32]
    news: pa.Table

    def __len__(self) -> int:
        return len(self.impression)


@dataclass(frozen=True)
class NewsSummary:
    """What was written: numbers of rows, impressions, users and news items, and rows of each split."""

    rows: int
    impressions: int
    users: int
    news: int
    training: int
    validation: int
    clicked_share: float

    def __str__(self) -> str:
        return (
            f"{self.rows} rows in {self.impressions} impressions of {self.news} news items to {self.users} users, "
            f"{self.clicked_share:.1%} clicked: {self.training} to train on, {self.validation} to validate with"
        )


def read_nemig(folder: str | Path) -> Impressions:
    """The folder's news.tsv and rows.tsv. Raises DataError, naming the file, for what does not fit together."""
    path = Path(folder)
    news, rows = _read(path / "news.tsv", _NEWS), _read(path / "rows.tsv", _ROWS)
    for name in ("title", "abstract"):
        # The files escape quotes twice: within a quoted value, \" is left of \"".
        plain = pc.replace_substring(pc.fill_null(news[name], ""), '\\"', '"')
        news = news.set_column(news.column_names.index(name), name, plain)
    if len(pc.unique(news["news"])) < len(news):
        raise DataError(f"{path / 'news.tsv'}: a news item stands there twice; keep one line of each")
    item = pc.index_in(rows["news"], value_set=news["news"].combine_chunks())
    if item.null_count:
        missing = rows["news"].filter(pc.is_null(item))[0].as_py()
        raise DataError(f"{path / 'rows.tsv'}: news item {missing} is not in news.tsv; take both files of one edition")
    clicked = rows["clicked"].to_numpy()
    if not np.isin(clicked, (0, 1)).all():
        raise DataError(f"{path / 'rows.tsv'}: column clicked must be 0 or 1")
    impression = rows["impression"].to_numpy()
    pairs = rows.group_by("impression").aggregate([("user", "count_distinct")])
    if pc.max(pairs["user_count_distinct"]).as_py() > 1:
        raise DataError(f"{path / 'rows.tsv'}: an impression was shown to two users; give each its own number")
    return Impressions(
        impression, rows["user"].combine_chunks(), item.to_numpy().astype(np.int64), clicked.astype(np.int32), news
    )


def is_held_out(impression: NDArray[np.int64], user: pa.Array) -> NDArray[np.bool_]:
    """bool [n]: rows of every fifth impression of a user, in the order of a hash; none of a user with four or fewer."""
    numbers, first, back = np.unique(impression, return_index=True, return_inverse=True)
    owner = user.dictionary_encode().indices.to_numpy()[first]
    order = np.lexsort((numbers, hash_ids(pa.array(numbers)), owner))
    ordered = owner[order]
    rank = np.empty(len(numbers), np.int64)
    rank[order] = np.arange(len(numbers)) - np.searchsorted(ordered, ordered)
    held_out: NDArray[np.bool_] = (rank % _HELD_OUT == _HELD_OUT - 1)[back]
    return held_out


def kept_rows(clicked: NDArray[np.int32], held_out: NDArray[np.bool_], share: float) -> NDArray[np.bool_]:
    """bool [n]: all clicks, all held-out rows, and of the others about `share`, by a hash of the row's number."""
    draw = hash_ids(pa.array(np.arange(len(clicked)))) / 2.0**64
    kept: NDArray[np.bool_] = (clicked == 1) | held_out | (draw < share)
    return kept


def write_nemig(
    folder: str | Path,
    output: str,
    *,
    negatives: float = 1.0,
    format: Format = "tfrecord",
    compression: Literal["", ".gz"] = "",
) -> NewsSummary:
    """Writes the source `output`; an earlier sample in its place is replaced.

    Raises DataError for unusable files and, before anything is written, when anything else is there.

    negatives: the share of training rows without a click that is kept, in (0, 1]; weighted up by its inverse

    Columns: uid (long, the row's number), response (int, clicked), user_id, news_id (string), impression (long), title,
    abstract (string), weight (float), and the bags wide and per_user.
    """
    check_directory(output)
    found = read_nemig(folder)
    held_out = is_held_out(found.impression, found.user)
    features = {"wide": wide_features(found, held_out), "per_user": user_features(found, held_out)}
    bags = {bag: FeatureList(list(part.names)) for bag, part in features.items()}
    weight = np.where((found.clicked == 1) | held_out, 1.0, 1.0 / negatives).astype(np.float32)
    kept = kept_rows(found.clicked, held_out, negatives)
    splits: dict[Split, NDArray[np.int64]] = {
        "training": np.flatnonzero(kept & ~held_out), "validation": np.flatnonzero(held_out),
    }  # fmt: skip
    metadata = describe(_columns(found, features, weight, np.empty(0, np.int64)), bags, ("response",))
    with (
        sample_directory(output),
        SourceWriter(output, bags=bags, metadata=metadata, format=format, compression=compression) as writer,
    ):
        for split, rows in splits.items():
            for begin in range(0, len(rows), _ROWS_PER_FILE):
                writer.write(split, _columns(found, features, weight, rows[begin : begin + _ROWS_PER_FILE]))
    logger.info("%s: %s", output, ", ".join(f"{len(names)} features in {bag}" for bag, names in bags.items()))
    return NewsSummary(
        len(found),
        len(np.unique(found.impression)),
        len(pc.unique(found.user)),
        len(np.unique(found.item)),
        len(splits["training"]),
        len(splits["validation"]),
        float(found.clicked.mean()),
    )


def _columns(
    found: Impressions, features: dict[str, Features], weight: NDArray[np.float32], rows: NDArray[np.int64]
) -> Columns:
    news = found.news.take(found.item[rows])
    columns: dict[str, Any] = {
        "uid": rows,
        "weight": weight[rows],
        "user_id": found.user.take(pa.array(rows)),
        "news_id": news["news"].combine_chunks(),
        "impression": found.impression[rows],
        "title": news["title"].combine_chunks(),
        "abstract": news["abstract"].combine_chunks(),
        "response": found.clicked[rows],
    }
    return columns | {bag: part.rows(rows).bag() for bag, part in features.items()}


def _read(path: Path, columns: dict[str, pa.DataType]) -> pa.Table:
    if not path.is_file():
        raise DataError(f"{path}: no such file; give the folder that holds news.tsv and rows.tsv")
    try:
        table = pyarrow.csv.read_csv(
            path,
            parse_options=pyarrow.csv.ParseOptions(delimiter="\t"),
            convert_options=pyarrow.csv.ConvertOptions(column_types=columns, include_columns=list(columns)),
        )
    except (OSError, KeyError, pa.ArrowException) as error:
        raise DataError(f"{path}: not readable as tab-separated {', '.join(columns)}: {error}") from None
    if not len(table):
        raise DataError(f"{path}: holds no rows")
    for name in columns:
        if name not in ("title", "abstract") and table[name].null_count:
            raise DataError(f"{path}: column {name} is empty in {table[name].null_count} rows")
    return table
