"""NeMig news impressions as one source of a pipeline: what a reader was shown, which of it was clicked, and its text.

`news.tsv` (news, title, abstract) and `rows.tsv` (impression, user, news, clicked) become one directory in the input
layout that every coordinate shares.

What is known of a row without a network is the impression and the form of the news item. No feature is derived from
clicks. How often an item is shown is counted in training impressions only, without the row's own one, so that it means
the same in both splits.

What a row weighs: 1. Of impressions as large as a feed's, one keeps only a share of what was not clicked, as
`negatives` does here with training rows; each that is kept then weighs 1 / share, or the model would take clicks for
that much more frequent than they are.

Which rows validate: impressions, never parts of one. A user's impressions are ordered by a hash of their number, and
every fifth is held out: the same on every machine, and every user keeps four of five to train on.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gdmix_core.data.feature_list import FeatureList
from gdmix_core.data.hashing import hash_ids
from gdmix_core.errors import DataError
from gdmix_core.samples.features import Features, category_sets, flags, number, side_by_side
from gdmix_core.samples.layout import Columns, Format, Split, check_directory, sample_directory, write_splits
from gdmix_core.samples.tables import rank_in_group, read_table

logger = logging.getLogger(__name__)

_NEWS = {"news": pa.string(), "title": pa.string(), "abstract": pa.string()}
_ROWS = {"impression": pa.int64(), "user": pa.string(), "news": pa.string(), "clicked": pa.int64()}
# One impression in so many validates.
_HELD_OUT = 5
# What the form of a title says, as regular expressions (RE2).
_FORMS = {
    "question": r"\?",
    "exclamation": "!",
    "digits": r"\d",
    "quote": "[\"“”‘]|(^|\\s)'",
    "colon": ":",
    "capitals": r"\b[A-Z]{3,}\b",
    "possessive": r"['’]s\b",
    "person_speaks": r"(?i)\b(says?|tells?|calls?|claims?|warns?|slams?|blasts?)\b",
}
_SHORTEST_THEME = 5
_THEMES = 30


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


def read_nemig(folder: str | Path) -> Impressions:
    """Read the folder's news.tsv and rows.tsv. Raises DataError, naming the file, for what does not fit together."""
    news_path, rows_path = Path(folder) / "news.tsv", Path(folder) / "rows.tsv"
    for path in (news_path, rows_path):
        if not path.is_file():
            raise DataError(f"{path}: no such file; give the folder that holds news.tsv and rows.tsv")
    news = read_table(news_path, _NEWS, delimiter="\t", header=True)
    rows = read_table(rows_path, _ROWS, delimiter="\t", header=True)
    for name in ("title", "abstract"):
        # The files escape quotes twice: within a quoted value, \" is left of \"".
        plain = pc.replace_substring(news[name], '\\"', '"')
        news = news.set_column(news.column_names.index(name), name, plain)
    if len(pc.unique(news["news"])) < len(news):
        raise DataError(f"{news_path}: a news item stands there twice; keep one line of each")
    item = pc.index_in(rows["news"], value_set=news["news"].combine_chunks())
    if item.null_count:
        missing = rows["news"].filter(pc.is_null(item))[0].as_py()
        raise DataError(f"{rows_path}: news item {missing} is not in news.tsv; take both files of one edition")
    clicked = rows["clicked"].to_numpy()
    if not np.isin(clicked, (0, 1)).all():
        raise DataError(f"{rows_path}: column clicked must be 0 or 1")
    impression = rows["impression"].to_numpy()
    pairs = rows.group_by("impression").aggregate([("user", "count_distinct")])
    if pc.max(pairs["user_count_distinct"]).as_py() > 1:
        raise DataError(f"{rows_path}: an impression was shown to two users; give each its own number")
    return Impressions(
        impression, rows["user"].combine_chunks(), item.to_numpy().astype(np.int64), clicked.astype(np.int32), news
    )


def is_held_out(impression: NDArray[np.int64], user: pa.Array) -> NDArray[np.bool_]:
    """Choose rows, bool [n], of every fifth impression of a user, in the order of a hash; of fewer than five none."""
    numbers, first, back = np.unique(impression, return_index=True, return_inverse=True)
    owner = user.dictionary_encode().indices.to_numpy()[first]
    rank = rank_in_group(owner, hash_ids(pa.array(numbers)))
    held_out: NDArray[np.bool_] = (rank % _HELD_OUT == _HELD_OUT - 1)[back]
    return held_out


def kept_rows(clicked: NDArray[np.int32], held_out: NDArray[np.bool_], share: float) -> NDArray[np.bool_]:
    """Choose, bool [n], all clicks, all held-out rows, and about `share` of the others, by a hash of their number."""
    draw = hash_ids(pa.array(np.arange(len(clicked)))) / 2.0**64
    kept: NDArray[np.bool_] = (clicked == 1) | held_out | (draw < share)
    return kept


def write_nemig(folder: str | Path, output: str, *, negatives: float = 1.0, format: Format = "tfrecord") -> str:
    """Write the source `output`, and say what was written; an earlier sample in its place is replaced.

    Raises DataError for unusable files and, before anything is written, when anything else is there.

    negatives: the share of training rows without a click that is kept, in (0, 1]; weighted up by its inverse

    Columns: uid (long, the row's number), response (int, clicked), user_id, news_id (string), impression (long), title,
    abstract (string), weight (float), and the bags wide and per_user.
    """
    check_directory(output)
    found = read_nemig(folder)
    held_out = is_held_out(found.impression, found.user)
    features = {"wide": _wide_features(found, held_out), "per_user": _user_features(found, held_out)}
    bags = {bag: FeatureList(list(part.names)) for bag, part in features.items()}
    weight = np.where((found.clicked == 1) | held_out, 1.0, 1.0 / negatives).astype(np.float32)
    kept = kept_rows(found.clicked, held_out, negatives)
    splits: dict[Split, NDArray[np.int64]] = {
        "training": np.flatnonzero(kept & ~held_out), "validation": np.flatnonzero(held_out),
    }  # fmt: skip
    with sample_directory(output):
        write_splits(output, bags, splits, partial(_columns, found, features, weight), format=format)
    logger.info("%s: %s", output, ", ".join(f"{len(names)} features in {bag}" for bag, names in bags.items()))
    impressions, users, news = (len(pc.unique(pa.array(of))) for of in (found.impression, found.user, found.item))
    return (
        f"{len(found)} rows in {impressions} impressions of {news} news items to {users} users, "
        f"{found.clicked.mean():.1%} clicked: {len(splits['training'])} to train on, "
        f"{len(splits['validation'])} to validate with"
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


def _wide_features(found: Impressions, held_out: NDArray[np.bool_]) -> Features:
    """Make features of each row: size of the impression, how often the item is shown elsewhere, its text's form."""
    _, impression, counts = np.unique(found.impression, return_inverse=True, return_counts=True)
    sizes = counts[impression]
    return side_by_side(
        [number("impression_size", sizes / 6), _shown_elsewhere(found, held_out), _form(found.news).rows(found.item)]
    )


def _user_features(found: Impressions, held_out: NDArray[np.bool_]) -> Features:
    """Make features in which a single user's taste may differ: themes (frequent words of titles) and popularity."""
    themes = _themes(found.news, np.unique(found.item[~held_out])).rows(found.item)
    return side_by_side([_shown_elsewhere(found, held_out), themes])


def _shown_elsewhere(found: Impressions, held_out: NDArray[np.bool_]) -> Features:
    """Make the feature log(1 + other training rows that show the item) / 3."""
    shown = np.bincount(found.item[~held_out], minlength=len(found.news))[found.item] - ~held_out
    return number("shown_elsewhere", np.log1p(shown) / 3)


def _form(news: pa.Table) -> Features:
    """Make features of the text's lengths and forms, one row an item."""
    title, abstract = news["title"], news["abstract"]
    matches = [pc.match_substring_regex(title, pattern).to_numpy().astype(np.int64) for pattern in _FORMS.values()]
    no_abstract = pc.equal(abstract, "").to_numpy().astype(np.int64)
    return side_by_side(
        [
            number("title_length", pc.utf8_length(title).to_numpy() / 80),
            number("title_words", pc.count_substring(title, " ").to_numpy() / 12),
            number("abstract_length", pc.utf8_length(abstract).to_numpy() / 165),
            flags([*(f"title_{form}" for form in _FORMS), "no_abstract"], [*matches, no_abstract]),
        ]
    )


def _themes(news: pa.Table, known: NDArray[np.int64]) -> Features:
    """Make a row of each item, a column of each word of five letters and more that most titles of `known` hold."""
    words = pc.split_pattern_regex(pc.utf8_lower(news["title"].combine_chunks()), r"[^\p{L}]+")
    flat = words.take(pa.array(known)).flatten()
    counts = pc.value_counts(flat.filter(pc.greater_equal(pc.utf8_length(flat), _SHORTEST_THEME)))
    table = pa.table({"word": counts.field("values"), "count": counts.field("counts")})
    frequent = table.sort_by([("count", "descending"), ("word", "ascending")])["word"][:_THEMES]
    return category_sets(words, name="theme", terms=sorted(frequent.to_pylist()))
