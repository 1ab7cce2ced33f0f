"""Features of a NeMig row that need no network: what is known of the impression and of the form of the news item.

None is derived from clicks. How often an item is shown is counted in training impressions only, without the row's own
one, so that it means the same in both splits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gdmix_core.samples.features import Features, category_sets, flags, number, side_by_side

if TYPE_CHECKING:
    from gdmix_core.samples.nemig import Impressions

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


def wide_features(found: Impressions, held_out: NDArray[np.bool_]) -> Features:
    """Size of the impression, how often the item is shown elsewhere, lengths and forms of its text; one row a row."""
    sizes = _count(np.unique(found.impression, return_inverse=True)[1])
    return side_by_side(
        [number("impression_size", sizes / 6), _shown_elsewhere(found, held_out), _form(found.news).rows(found.item)]
    )


def user_features(found: Impressions, held_out: NDArray[np.bool_]) -> Features:
    """What a single user's taste may differ in: themes, the frequent words of titles, and a few of the wide ones."""
    themes = _themes(found.news, np.unique(found.item[~held_out])).rows(found.item)
    return side_by_side([_shown_elsewhere(found, held_out), themes])


def _shown_elsewhere(found: Impressions, held_out: NDArray[np.bool_]) -> Features:
    """log(1 + other training rows that show the item) / 3."""
    shown = np.bincount(found.item[~held_out], minlength=len(found.news))[found.item] - ~held_out
    return number("shown_elsewhere", np.log1p(shown) / 3)


def _form(news: pa.Table) -> Features:
    """One row an item."""
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
    """One row an item, one column for each of the words of five letters and more that most titles of `known` hold."""
    words = pc.split_pattern_regex(pc.utf8_lower(news["title"].combine_chunks()), r"[^\p{L}]+")
    flat = words.take(pa.array(known)).flatten()
    counts = pc.value_counts(flat.filter(pc.greater_equal(pc.utf8_length(flat), _SHORTEST_THEME)))
    table = pa.table({"word": counts.field("values"), "count": counts.field("counts")})
    frequent = table.sort_by([("count", "descending"), ("word", "ascending")])["word"][:_THEMES]
    return category_sets(words, name="theme", terms=sorted(frequent.to_pylist()))


def _count(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.bincount(codes)[codes]
