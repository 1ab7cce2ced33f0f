"""The published MovieLens editions as sources of a pipeline. See rating_sources.py for what is written.

The response is 1 above three stars, as in GDMix's sample.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gdmix_core.errors import DataError
from gdmix_core.samples.features import Features, categories, category_sets, flags, number, side_by_side
from gdmix_core.samples.layout import Format, check_directory
from gdmix_core.samples.rating_sources import Part, Ratings, Summary, write_rating_sources
from gdmix_core.samples.tables import rank_in_group, read_table

_SECONDS_PER_YEAR = 365.2425 * 86_400

GENRES_100K = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama",
    "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip


class _RatingTable(NamedTuple):
    """A file of ratings, in its order: user, movie int64 [n]; stars float64 [n]; time int64 [n], seconds since 1970."""

    path: Path
    user: NDArray[np.int64]
    movie: NDArray[np.int64]
    stars: NDArray[np.float64]
    time: NDArray[np.int64]


@dataclass(frozen=True)
class _Listing:
    """A file of all users or all movies, a row each; its first column has their ids."""

    path: Path
    table: pa.Table

    def positions(self, ids: NDArray[np.int64], ratings: Path) -> NDArray[np.int64]:
        """Find the row of each id, int64 [n]. Raises DataError for an id that is not listed."""
        column = self.table.column_names[0]
        found = pc.index_in(pa.array(ids), value_set=self.table[column].combine_chunks())
        if found.null_count:
            first = pc.index(found.is_null(), True).as_py()
            raise DataError(
                f"{ratings}: rating {first} (from 0) has {column} {ids[first]}, which {self.path.name} "
                f"does not list; {found.null_count} ratings are like this. Take all files from one edition"
            )
        return found.to_numpy().astype(np.int64)


def _read_100k(folder: Path) -> Ratings:
    """Read ml-100k with the features of GDMix's sample: 24 of the user, 20 of the movie, names without terms."""
    table = _read_ratings(folder / "u.data", delimiter="\t")
    texts = dict.fromkeys(("gender", "occupation", "zip"), pa.string())
    users = _read_listing(folder / "u.user", {"user": pa.int64(), "age": pa.float64(), **texts}, delimiter="|")
    texts = dict.fromkeys(("title", "release", "video_release", "url"), pa.string())
    genres = dict.fromkeys(GENRES_100K, pa.int64())
    movies = _read_listing(folder / "u.item", {"movie": pa.int64(), **texts, **genres}, delimiter="|")
    user_features = [
        number("age", users.table["age"].to_numpy() / 100),
        categories(users.table["gender"], terms=("M", "F")),
        categories(users.table["occupation"]),
    ]
    movie_features = [
        flags(GENRES_100K, [movies.table[genre].to_numpy() for genre in GENRES_100K]),
        number("release_date", _year(movies.table["release"], r"-(?P<year>\d{4})$") / 2000),
    ]
    return _of_listings(table, users, user_features, movies, movie_features)


def _read_1m(folder: Path) -> Ratings:
    """Read ml-1m with similar features: gender, age band and occupation of the user, genres and year of the movie."""
    table = _read_ratings(folder / "ratings.dat", delimiter="::")
    texts = dict.fromkeys(("gender", "age", "occupation", "zip"), pa.string())
    users = _read_listing(folder / "users.dat", {"user": pa.int64(), **texts}, delimiter="::")
    texts = dict.fromkeys(("title", "genres"), pa.string())
    movies = _read_listing(folder / "movies.dat", {"movie": pa.int64(), **texts}, delimiter="::")
    user_features = [categories(users.table[name], name=name) for name in ("gender", "age", "occupation")]
    year = _title_year(movies.table["title"])
    movie_features = [_genres(movies.table["genres"]), number("release_year", year / 2000)]
    return _of_listings(table, users, user_features, movies, movie_features)


def _read_latest(folder: Path) -> Ratings:
    """Read the editions that say nothing about users: a movie's model weighs features of the rating's occasion.

    Movie: genres, decade and year of release, its age and how often it had been rated by then.
    Occasion: when it was, how many ratings the user had given by then, and the age of the movie.
    These are counts and times; nothing is derived from how anyone rated.
    """
    names = ("userId", "movieId", "rating", "timestamp")
    table = _read_ratings(folder / "ratings.csv", delimiter=",", names=names, header=True)
    path = folder / "movies.csv"
    columns = {"movieId": pa.int64(), "title": pa.string(), "genres": pa.string()}
    movies = _Listing(path, read_table(path, columns, delimiter=",", header=True))
    position = movies.positions(table.movie, table.path)
    year = _title_year(movies.table["title"])
    rated_in = 1970 + table.time / _SECONDS_PER_YEAR
    movie_age = Part(number("movie_age", np.log1p(np.maximum(rated_in - year[position], 0)) / 4))
    seen = number("movie_ratings_before", np.log1p(rank_in_group(table.movie, table.time)) / 5)
    given = number("user_ratings_before", np.log1p(rank_in_group(table.user, table.time)) / 5)
    movie_features = [_genres(movies.table["genres"]), _decade(year), number("release_year", (year - 1990) / 20)]
    occasion = side_by_side([number("rating_year", (rated_in - 2007) / 10), given])
    movie_parts = (Part(side_by_side(movie_features), position), Part(seen), movie_age)
    return _ratings(table, movies, position, movie_parts, (Part(occasion), movie_age))


@dataclass(frozen=True)
class Edition:
    """A published form of the data. files: those that are read, and by which it is recognised."""

    name: str
    files: tuple[str, ...]
    read: Callable[[Path], Ratings]


EDITIONS = (
    Edition("ml-latest-small, ml-latest, ml-25m, ml-32m", ("ratings.csv", "movies.csv"), _read_latest),
    Edition("ml-100k", ("u.data", "u.item", "u.user"), _read_100k),
    Edition("ml-1m", ("ratings.dat", "users.dat", "movies.dat"), _read_1m),
)


def find_edition(folder: str | Path) -> Edition:
    """Find the edition whose files the folder holds. Raises DataError that says which files were looked for."""
    path = Path(folder)
    if not path.is_dir():
        raise DataError(f"{path}: no such folder")
    for edition in EDITIONS:
        if all((path / name).is_file() for name in edition.files):
            return edition
    wanted = "; ".join(f"{', '.join(edition.files)} ({edition.name})" for edition in EDITIONS)
    raise DataError(f"{path}: holds no MovieLens edition. Looked for: {wanted}. Unpack the archive and give its folder")


def read_movielens(folder: str | Path) -> Ratings:
    """Read the ratings of the edition in the folder, with their features. Raises DataError for unusable files."""
    return find_edition(folder).read(Path(folder))


def write_movielens(folder: str | Path, output: str, *, format: Format = "tfrecord") -> Summary:
    """Write the sources global, per_user and per_movie of the edition in `folder` under `output`."""
    check_directory(output)
    return write_rating_sources(output, read_movielens(folder), format=format)


def _read_ratings(
    path: Path,
    *,
    delimiter: str,
    names: tuple[str, str, str, str] = ("user", "movie", "stars", "time"),
    header: bool = False,
) -> _RatingTable:
    """Read a file of ratings. names: the columns of user, movie, rating and time."""
    kinds = (pa.int64(), pa.int64(), pa.float64(), pa.int64())
    table = read_table(path, dict(zip(names, kinds, strict=True)), delimiter=delimiter, header=header)
    return _RatingTable(path, *(table[name].to_numpy() for name in names))


def _read_listing(path: Path, columns: dict[str, pa.DataType], *, delimiter: str) -> _Listing:
    return _Listing(path, read_table(path, columns, delimiter=delimiter, encoding="latin-1"))


def _of_listings(
    table: _RatingTable,
    users: _Listing,
    user_features: list[Features],
    movies: _Listing,
    movie_features: list[Features],
) -> Ratings:
    user, movie = users.positions(table.user, table.path), movies.positions(table.movie, table.path)
    movie_parts = (Part(side_by_side(movie_features), movie),)
    return _ratings(table, movies, movie, movie_parts, (Part(side_by_side(user_features), user),))


def _ratings(
    table: _RatingTable,
    movies: _Listing,
    position: NDArray[np.int64],
    movie_parts: tuple[Part, ...],
    user_parts: tuple[Part, ...],
) -> Ratings:
    """Make the ratings. position: each one's row in `movies`, whose titles are taken as published, with the year."""
    titles = pa.DictionaryArray.from_arrays(position, movies.table["title"].combine_chunks())
    return Ratings(table.user, table.movie, (table.stars > 3).astype(np.int64), movie_parts, user_parts, titles)


def _year(texts: pa.ChunkedArray, pattern: str) -> NDArray[np.float64]:
    """Take the group `year` of the pattern, float64 [n]; NaN where it does not match."""
    found = pc.struct_field(pc.extract_regex(texts, pattern), "year")
    return found.cast(pa.float64()).to_numpy(zero_copy_only=False)


def _title_year(titles: pa.ChunkedArray) -> NDArray[np.float64]:
    """Take the year that ends a title: `Toy Story (1995)`, `Cosmos (2014-2015)`; NaN for a title without."""
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
