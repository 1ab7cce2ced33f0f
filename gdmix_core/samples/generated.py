"""A sample in the shape of MovieLens, drawn from a mixed-effect model whose coefficients are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gdmix_core import storage
from gdmix_core.errors import ConfigError
from gdmix_core.models.table import INTERCEPT_INDEX, CoefficientTable
from gdmix_core.samples.features import Features, categories, category_sets, number, side_by_side
from gdmix_core.samples.layout import Format, sample_directory
from gdmix_core.samples.rating_sources import COORDINATES, Part, Ratings, Summary, write_rating_sources

_GENRES = ("action", "animation", "comedy", "crime", "documentary", "drama", "horror", "romance")
_OCCUPATIONS = ("artist", "engineer", "lawyer", "retired", "student", "writer")

# Popularity ∝ 1 / (rank + _HEAD) ** _SKEW: one movie in ten gets between a third and a half of the ratings.
_SKEW = 1.2
_HEAD = 10.0
# Above this share of all user-movie pairs, drawing pairs that are still free takes too long.
_LARGEST_DENSITY = 0.3


@dataclass(frozen=True)
class Deviations:
    """Standard deviations of the true coefficients of each coordinate, intercepts included.

    The best l2 of a random effect is 1 / deviation², with regularize_intercept: true.
    """

    fixed: float = 0.5
    user: float = 0.6
    movie: float = 0.6


@dataclass(frozen=True)
class GeneratedSample:
    """ratings: with the features that the model sees.

    truth: coordinate → its true coefficients, all of them, by the indices of the bag of the same name
    probability: float64 [n], true probability of response 1
    """

    ratings: Ratings
    truth: Mapping[str, CoefficientTable]
    probability: NDArray[np.float64]


def most_ratings(users: int, movies: int) -> int:
    """Return the largest number of ratings of so many users and movies: three in ten of all pairs."""
    return int(_LARGEST_DENSITY * users * movies)


def generate_sample(
    *,
    users: int = 500,
    movies: int = 800,
    ratings: int = 50_000,
    seed: int = 0,
    deviations: Deviations | None = None,
) -> GeneratedSample:
    """Draw users, movies, coefficients and ratings; the same arguments give the same sample.

    logit P(response = 1) = global(features of user and movie) + the user's model(features of the movie)
                            + the movie's model(features of the user)

    Coefficients are normal with mean 0. Users and movies do not occur equally often: see _SKEW. No user rates
    a movie twice. Raises ConfigError for sizes below 1, or more ratings than three in ten of all pairs.
    """
    if min(users, movies, ratings) < 1 or ratings > most_ratings(users, movies):
        raise ConfigError(
            f"users {users}, movies {movies}, ratings {ratings}: each must be at least 1, and ratings "
            f"at most {most_ratings(users, movies)} (three in ten of all user-movie pairs)"
        )
    deviations = deviations or Deviations()
    rng = np.random.default_rng(seed)
    user_features = _user_features(rng, users)
    movie_features = _movie_features(rng, movies)
    user, movie = _pairs(rng, users, movies, ratings)
    coefficients = {
        "global": rng.normal(0, deviations.fixed, (1, 1 + len(user_features.names) + len(movie_features.names))),
        "per_user": rng.normal(0, deviations.user, (users, 1 + len(movie_features.names))),
        "per_movie": rng.normal(0, deviations.movie, (movies, 1 + len(user_features.names))),
    }
    entity = {"global": np.zeros(ratings, np.int64), "per_user": user, "per_movie": movie}
    rows = np.arange(ratings)
    movie_parts, user_parts = (Part(movie_features, movie),), (Part(user_features, user),)
    drawn = Ratings(user + 1, movie + 1, np.zeros_like(rows), movie_parts, user_parts)
    logit = sum(_score(drawn.features(name, rows), coefficients[name], entity[name]) for name in COORDINATES)
    probability = 1 / (1 + np.exp(-logit))
    response = (rng.random(ratings) < probability).astype(np.int64)
    entities = {"global": ["global"], "per_user": np.arange(1, users + 1), "per_movie": np.arange(1, movies + 1)}
    truth = {name: _table(pa.array(entities[name]), coefficients[name]) for name in COORDINATES}
    return GeneratedSample(replace(drawn, response=response), truth, probability)


def write_generated(directory: str, sample: GeneratedSample, *, format: Format = "tfrecord") -> Summary:
    """Write the sources global, per_user, per_movie, and truth/<coordinate>.parquet for those who compare.

    Columns of the truth: entity (int64; the text "global" for the global one), indices (list<int32>; −1 is
    the intercept and comes first), means (list<double>).
    """
    with sample_directory(directory):
        for name, table in sample.truth.items():
            offsets = pa.array(table.offsets.astype(np.int32))
            columns = {
                "entity": table.entities,
                "indices": pa.ListArray.from_arrays(offsets, pa.array(table.features)),
                "means": pa.ListArray.from_arrays(offsets, pa.array(table.means)),
            }
            with storage.open_for_write(storage.join(directory, "truth", f"{name}.parquet")) as file:
                pq.write_table(pa.table(columns), file)
        return write_rating_sources(directory, sample.ratings, format=format)


def popularity(rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    """Draw probabilities that fall like Zipf's law, in random order: float64 [size], sum 1."""
    weight = (np.arange(size) + _HEAD) ** -_SKEW
    return rng.permutation(weight / weight.sum())


def _user_features(rng: np.random.Generator, users: int) -> Features:
    gender = pa.array(rng.choice(["F", "M"], users))
    occupation = pa.array(rng.choice(_OCCUPATIONS, users))
    return side_by_side(
        [
            number("age", np.clip(rng.normal(0, 1, users), -3, 3)),
            categories(gender, name="gender", terms=("F", "M")),
            categories(occupation, name="occupation", terms=_OCCUPATIONS),
        ]
    )


def _movie_features(rng: np.random.Generator, movies: int) -> Features:
    """Draw one to three genres, and a release year in units of its standard deviation."""
    each = rng.integers(1, 4, movies)
    genre = pa.array(rng.choice(_GENRES, each.sum()))
    lists = pa.ListArray.from_arrays(pa.array(np.concatenate([[0], np.cumsum(each)]), pa.int32()), genre)
    year = number("release_year", np.clip(rng.normal(0, 1, movies), -3, 3))
    return side_by_side([category_sets(lists, name="genre", terms=_GENRES), year])


def _pairs(rng: np.random.Generator, users: int, movies: int, ratings: int) -> tuple[NDArray[np.int64], ...]:
    """Draw positions of users and movies, int64 [ratings] each, no pair twice, in random order."""
    by_user, by_movie = popularity(rng, users), popularity(rng, movies)
    pairs = np.empty(0, np.int64)
    while len(pairs) < ratings:
        user = rng.choice(users, ratings, p=by_user)
        movie = rng.choice(movies, ratings, p=by_movie)
        pairs = np.union1d(pairs, user * movies + movie)
    return np.divmod(rng.permutation(pairs)[:ratings], movies)


def _score(features: Features, coefficients: NDArray[np.float64], entity: NDArray[np.int64]) -> NDArray[np.float64]:
    """Score each row, float64 [n]: intercept + x·w, with its entity's row of coefficients."""
    matrix = features.matrix
    row_of = np.repeat(entity, np.diff(matrix.indptr))
    products = matrix.data * coefficients[row_of, matrix.indices + 1]
    sums = np.concatenate([[0.0], np.cumsum(products)])
    return coefficients[entity, 0] + np.diff(sums[matrix.indptr])


def _table(entities: pa.Array, coefficients: NDArray[np.float64]) -> CoefficientTable:
    count, width = coefficients.shape
    features = np.tile(np.arange(INTERCEPT_INDEX, width - 1, dtype=np.int32), count)
    return CoefficientTable(entities, np.arange(count + 1) * width, features, coefficients.ravel())
