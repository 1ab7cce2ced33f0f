"""Ratings of movies by users as three sources of a mixed-effect model: `global`, `per_user`, `per_movie`.

A user's model weighs features of the movie, a movie's model weighs features of the user or of the occasion,
and the global model has both. Every source holds all ratings, with one bag that has the source's own name.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gdmix_core import storage
from gdmix_core.data.feature_list import FeatureList
from gdmix_core.data.hashing import hash_ids
from gdmix_core.samples.features import FeatureName, Features, side_by_side
from gdmix_core.samples.layout import Columns, Format, Split, sample_directory, write_splits

logger = logging.getLogger(__name__)

COORDINATES = ("global", "per_user", "per_movie")

VALIDATION_SHARE = 0.2
# Later steps choose rows by the plain hash of the uid; the split must not depend on the same bits.
_SPLIT_SALT = 0x5DEECE66D


@dataclass(frozen=True, eq=False)
class Part:
    """Features that many ratings share. position: int [ratings], the row of `features` that a rating has."""

    features: Features
    position: NDArray[np.integer] | None = None  # None: rating i has row i

    def rows(self, rows: NDArray[np.integer]) -> Features:
        return self.features.rows(rows if self.position is None else self.position[rows])


@dataclass(frozen=True)
class Ratings:
    """Ratings, row number = uid.

    user_id, movie_id: int64 [n]
    response: int64 [n], 0 or 1
    movie_parts: what a user's model weighs
    user_parts: what a movie's model weighs; a part that is also in movie_parts is in the global bag once
    titles: string [n], of the movies, for a text network as the global model; None: the source has none
    """

    user_id: NDArray[np.int64]
    movie_id: NDArray[np.int64]
    response: NDArray[np.int64]
    movie_parts: tuple[Part, ...]
    user_parts: tuple[Part, ...]
    titles: pa.DictionaryArray | None = None

    def __len__(self) -> int:
        return len(self.response)

    @cached_property
    def parts(self) -> Mapping[str, tuple[Part, ...]]:
        """The parts of each source's bag; in the global one those of the user come first."""
        both = self.user_parts + tuple(part for part in self.movie_parts if part not in self.user_parts)
        return {"global": both, "per_user": self.movie_parts, "per_movie": self.user_parts}

    def feature_names(self, source: str) -> tuple[FeatureName, ...]:
        return tuple(name for part in self.parts[source] for name in part.features.names)

    def features(self, source: str, rows: NDArray[np.integer]) -> Features:
        return side_by_side([part.rows(rows) for part in self.parts[source]])


@dataclass(frozen=True)
class Summary:
    """A summary of what was written: number of ratings, of distinct users and movies, and of rows of each split."""

    ratings: int
    users: int
    movies: int
    training: int
    validation: int
    positive_share: float

    def __str__(self) -> str:
        return (
            f"{self.ratings} ratings of {self.movies} movies by {self.users} users, "
            f"{self.positive_share:.1%} positive: "
            f"{self.training} to train on, {self.validation} to validate with"
        )


def is_validation(uid: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Choose one row in five, bool [n], by a hash of its uid: the same in every run and on every machine."""
    threshold = np.uint64(int(VALIDATION_SHARE * 2.0**64))
    return hash_ids(pa.array(uid ^ _SPLIT_SALT)) < threshold


def write_rating_sources(directory: str, ratings: Ratings, *, format: Format = "tfrecord") -> Summary:
    """Write <directory>/{global,per_user,per_movie}; a sample that is there already is replaced.

    Raises DataError, before anything is written, when anything else is there.
    """
    uid = np.arange(len(ratings), dtype=np.int64)
    held_out = is_validation(uid)
    splits: dict[Split, NDArray[np.int64]] = {"training": uid[~held_out], "validation": uid[held_out]}
    with sample_directory(directory):
        for source in COORDINATES:
            names = FeatureList(list(ratings.feature_names(source)))
            path = storage.join(directory, source)
            write_splits(path, {source: names}, splits, partial(_columns, ratings, source), format=format)
            logger.info("%s: %d features, %d training rows", path, len(names), len(splits["training"]))
    return Summary(
        len(ratings),
        len(np.unique(ratings.user_id)),
        len(np.unique(ratings.movie_id)),
        len(splits["training"]),
        len(splits["validation"]),
        float(ratings.response.mean()),
    )


def _columns(ratings: Ratings, source: str, rows: NDArray[np.int64]) -> Columns:
    title = {}
    if ratings.titles is not None and source == "global":
        title["title"] = ratings.titles.take(pa.array(rows)).dictionary_decode()
    return {
        "uid": rows,
        "weight": np.ones(len(rows), np.float32),
        "user_id": ratings.user_id[rows],
        "movie_id": ratings.movie_id[rows],
        "response": ratings.response[rows].astype(np.int32),
        **title,
        source: ratings.features(source, rows).bag(),
    }
