"""Which features each MovieLens edition gives. Response: 1 above three stars, as in GDMix's sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gdmix_core.samples.features import Features, categories, category_sets, flags, number, side_by_side
from gdmix_core.samples.movielens_tables import RatingTable, position_of, read_ratings, read_table
from gdmix_core.samples.rating_sources import Part, Ratings, Titles

_SECONDS_PER_YEAR = 365.2425 * 86_400

_GENRES_100K = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama",
    "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip


def read_100k(folder: Path) -> Ratings:
    """ml-100k with the features of GDMix's sample: 24 of the user, 20 of the movie, names without terms."""
    table = read_ratings(folder / "u.data", delimiter="\t", names=("user", "movie", "stars", "time"))
    users = read_table(
        folder / "u.user",
        {
            "user": pa.int64(),
            "age": pa.float64(),
            "gender": pa.string(),
            "occupation": pa.string(),
            "zip": pa.string(),
        },
        delimiter="|",
        encoding="latin-1",
    )
    texts = dict.fromkeys(("title", "release", "video_release", "url"), pa.string())
    genres = dict.fromkeys(_GENRES_100K, pa.int64())
    movies = read_table(folder / "u.item", {"movie": pa.int64(), **texts, **genres}, delimiter="|", encoding="latin-1")
    of_user = [
        number("age", users["age"].to_numpy() / 100),
        categories(users["gender"], terms=("M", "F")),
        categories(users["occupation"]),
    ]
    of_movie = [
        flags(_GENRES_100K, [movies[genre].to_numpy() for genre in _GENRES_100K]),
        number("release_date", _year(movies["release"], r"-(?P<year>\d{4})$") / 2000),
    ]
    return _of_tables(table, users, folder / "u.user", of_user, movies, folder / "u.item", of_movie)


def read_1m(folder: Path) -> Ratings:
    """ml-1m with the like: gender, age band and occupation of the user, genres and year of the movie."""
    table = read_ratings(folder / "ratings.dat", delimiter="::", names=("user", "movie", "stars", "time"))
    users = read_table(
        folder / "users.dat",
        {"user": pa.int64(), **dict.fromkeys(("gender", "age", "occupation", "zip"), pa.string())},
        delimiter="::",
        encoding="latin-1",
    )
    movies = read_table(
        folder / "movies.dat",
        {"movie": pa.int64(), "title": pa.string(), "genres": pa.string()},
        delimiter="::",
        encoding="latin-1",
    )
    of_user = [categories(users[name], name=name) for name in ("gender", "age", "occupation")]
    of_movie = [_genres(movies["genres"]), number("release_year", _title_year(movies["title"]) / 2000)]
    return _of_tables(table, users, folder / "users.dat", of_user, movies, folder / "movies.dat", of_movie)


def read_latest(folder: Path) -> Ratings:
    """The editions that say nothing about users: a movie's model weighs features of the rating's occasion.

    Movie: genres, decade and year of release, its age and how often it had been rated by then.
    Occasion: when it was, how many ratings the user had given by then, and the age of the movie.
    These are counts and times; nothing is derived from how anyone rated.
    """
    table = read_ratings(
        folder / "ratings.csv", delimiter=",", names=("userId", "movieId", "rating", "timestamp"), header=True
    )
    path = folder / "movies.csv"
    movies = read_table(
        path, {"movieId": pa.int64(), "title": pa.string(), "genres": pa.string()}, delimiter=",", header=True
    )
    position = position_of(table.movie, movies, "movieId", ratings=table.path, listed=path)
    year = _title_year(movies["title"])
    rated_in = 1970 + table.time / _SECONDS_PER_YEAR
    movie_age = Part(number("movie_age", np.log1p(np.maximum(rated_in - year[position], 0)) / 4))
    seen = number("movie_ratings_before", np.log1p(_earlier(table.movie, table.time)) / 5)
    given = number("user_ratings_before", np.log1p(_earlier(table.user, table.time)) / 5)
    of_movie = [_genres(movies["genres"]), _decade(year), number("release_year", (year - 1990) / 20)]
    occasion = side_by_side([number("rating_year", (rated_in - 2007) / 10), given])
    return Ratings(
        table.user,
        table.movie,
        _response(table),
        of_movie=(Part(side_by_side(of_movie), position), Part(seen), movie_age),
        of_user=(Part(occasion), movie_age),
        titles=_titles(movies, position),
    )


def _of_tables(
    table: RatingTable,
    users: pa.Table,
    users_path: Path,
    of_user: list[Features],
    movies: pa.Table,
    movies_path: Path,
    of_movie: list[Features],
) -> Ratings:
    user = position_of(table.user, users, "user", ratings=table.path, listed=users_path)
    movie = position_of(table.movie, movies, "movie", ratings=table.path, listed=movies_path)
    return Ratings(
        table.user,
        table.movie,
        _response(table),
        of_movie=(Part(side_by_side(of_movie), movie),),
        of_user=(Part(side_by_side(of_user), user),),
        titles=_titles(movies, movie),
    )


def _titles(movies: pa.Table, position: NDArray[np.int64]) -> Titles:
    """As published, with the year."""
    return Titles(movies["title"].combine_chunks(), position)


def _response(table: RatingTable) -> NDArray[np.int64]:
    return (table.stars > 3).astype(np.int64)


def _year(texts: pa.ChunkedArray, pattern: str) -> NDArray[np.float64]:
    """float64 [n]: the group `year` of the pattern; NaN where it does not match."""
    found = pc.struct_field(pc.extract_regex(texts, pattern), "year")
    return found.cast(pa.float64()).to_numpy(zero_copy_only=False)


def _title_year(titles: pa.ChunkedArray) -> NDArray[np.float64]:
    """The year that ends a title: `Toy Story (1995)`, `Cosmos (2014-2015)`; NaN for a title without."""
    return _year(titles, r"\((?P<year>\d{4})[^)]*\)\s*$")


def _genres(texts: pa.ChunkedArray) -> Features:
    lists = pc.split_pattern(texts.combine_chunks(), "|")
    terms = sorted(genre for genre in pc.unique(lists.flatten()).to_pylist() if not genre.startswith("("))
    return category_sets(lists, name="genre", terms=terms)


def _decade(year: NDArray[np.float64]) -> Features:
    """Flags of the decade of release, against the 1990s, which have none.

    With a flag for every decade their sum would repeat the intercept, and the few films of each early decade would
    add directions that hardly any row tells apart: L-BFGS takes four times the iterations then.
    """
    decade = pa.array(year // 10 * 10, from_pandas=True).cast(pa.int64())
    text = pc.if_else(pc.less(decade, 1950), "before 1950", decade.cast(pa.string()))
    terms = sorted(set(pc.unique(text.drop_null()).to_pylist()) - {"1990"})
    return categories(text, name="decade", terms=terms)


def _earlier(entity: NDArray[np.int64], time: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64 [n]: how many ratings of the same entity come before this one; by time, then by row."""
    order = np.lexsort((np.arange(len(entity)), time, entity))
    ordered = entity[order]
    rank = np.arange(len(entity)) - np.searchsorted(ordered, ordered)
    count = np.empty(len(entity), np.int64)
    count[order] = rank
    return count
