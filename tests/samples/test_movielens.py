"""Made-up editions of a few ratings in the three published forms, every feature worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gdmix_core.errors import DataError
from gdmix_core.samples.movielens import GENRES_100K, find_edition, read_movielens, write_movielens
from gdmix_core.samples.rating_sources import Ratings, is_validation
from tests.samples.reading import features_of, read_names, read_rows

YEAR = 365.2425 * 86_400


def genre_flags(*genres: str) -> str:
    return "|".join("1" if genre in genres else "0" for genre in GENRES_100K)


@pytest.fixture
def ml_100k(tmp_path: Path) -> Path:
    folder = tmp_path / "ml-100k"
    folder.mkdir()
    (folder / "u.data").write_text("9\t2\t3\t881250949\n4\t1\t4\t891717742\n9\t1\t5\t878887116\n4\t2\t1\t880606923\n")
    (folder / "u.user").write_text("4|24|M|technician|85711\n9|53|F|other|94043\n")
    items = (
        f'1|Cité des enfants, "La" (1995)|01-Jan-1995||http://a?b|{genre_flags("Drama", "Sci-Fi")}\n'
        f"2|unknown||||{genre_flags('unknown')}\n"
    )
    (folder / "u.item").write_bytes(items.encode("latin-1"))
    return folder


@pytest.fixture
def ml_1m(tmp_path: Path) -> Path:
    folder = tmp_path / "ml-1m"
    folder.mkdir()
    (folder / "ratings.dat").write_text("1::7::5::978300760\n2::3::3::978302109\n2::7::4::978301968\n")
    (folder / "users.dat").write_text("1::F::1::10::48067\n2::M::56::16::70072-1234\n")
    movies = "7::Misérables: Les, A::B (1995)::Drama\n3::Ronin's \"War\" (1998)::Action|Children's\n"
    (folder / "movies.dat").write_bytes(movies.replace("A::B", "A:B").encode("latin-1"))
    return folder


@pytest.fixture
def ml_latest(tmp_path: Path) -> Path:
    folder = tmp_path / "ml-latest-small"
    folder.mkdir()
    # 2001.5, 2000.5, 1998.5: not in the order of time
    times = [round((year - 1970) * YEAR) for year in (2001.5, 2000.5, 1998.5, 2001.5)]
    rows = [(1, 10, 3.5), (1, 20, 3.0), (2, 10, 0.5), (2, 30, 4.0)]
    lines = [f"{u},{m},{r},{t}" for (u, m, r), t in zip(rows, times, strict=True)]
    (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + "\n".join(lines) + "\n")
    (folder / "movies.csv").write_text(
        "movieId,title,genres\n"
        '10,"Misérables, Les (1985)",Drama|War\n'
        "20,Serial – Part 2 (2000–2004) ,Comedy\n"
        '30,"Say ""Yes""",(no genres listed)\n'
    )
    return folder


def held(ratings: Ratings, source: str, row: int) -> dict[tuple[str, str], float]:
    names = ratings.feature_names(source)
    bag = ratings.features(source, np.array([row])).bag()
    return {names[j]: v for j, v in zip(bag.indices.tolist(), bag.values.tolist(), strict=True)}


def features(ratings: Ratings, source: str, row: int) -> Any:
    """As held, and equal to what differs by float32's rounding only."""
    return pytest.approx(held(ratings, source, row), abs=1e-6)


def test_100k_has_the_features_of_gdmix(ml_100k: Path) -> None:
    ratings = read_movielens(ml_100k)
    assert ratings.user_id.tolist() == [9, 4, 9, 4]
    assert ratings.movie_id.tolist() == [2, 1, 1, 2]
    assert ratings.response.tolist() == [0, 1, 1, 0]
    of_user = [("age", ""), ("M", ""), ("F", ""), ("other", ""), ("technician", "")]
    of_movie = [*((genre, "") for genre in GENRES_100K), ("release_date", "")]
    assert list(ratings.feature_names("per_movie")) == of_user
    assert list(ratings.feature_names("per_user")) == of_movie
    assert list(ratings.feature_names("global")) == of_user + of_movie
    assert features(ratings, "per_movie", 0) == {("age", ""): 0.53, ("F", ""): 1, ("other", ""): 1}
    assert features(ratings, "per_user", 0) == {("unknown", ""): 1}
    assert features(ratings, "global", 1) == {
        ("age", ""): 0.24,
        ("M", ""): 1,
        ("technician", ""): 1,
        ("Drama", ""): 1,
        ("Sci-Fi", ""): 1,
        ("release_date", ""): 1995 / 2000,
    }


def test_1m(ml_1m: Path) -> None:
    ratings = read_movielens(ml_1m)
    assert ratings.user_id.tolist() == [1, 2, 2]
    assert ratings.movie_id.tolist() == [7, 3, 7]
    assert ratings.response.tolist() == [1, 0, 1]
    assert features(ratings, "per_movie", 0) == {("gender", "F"): 1, ("age", "1"): 1, ("occupation", "10"): 1}
    assert features(ratings, "per_user", 1) == {
        ("genre", "Action"): 1,
        ("genre", "Children's"): 1,
        ("release_year", ""): 1998 / 2000,
    }
    assert features(ratings, "global", 2) == {
        ("gender", "M"): 1,
        ("age", "56"): 1,
        ("occupation", "16"): 1,
        ("genre", "Drama"): 1,
        ("release_year", ""): 1995 / 2000,
    }


def test_latest(ml_latest: Path) -> None:
    ratings = read_movielens(ml_latest)
    assert ratings.response.tolist() == [1, 0, 0, 1]
    occasion = {
        ("rating_year", ""): (2001.5 - 2007) / 10,
        ("user_ratings_before", ""): np.log1p(1) / 5,  # row 1, a year earlier
        ("movie_age", ""): np.log1p(2001.5 - 1985) / 4,
    }
    movie = {
        ("genre", "Drama"): 1,
        ("genre", "War"): 1,
        ("decade", "1980"): 1,
        ("release_year", ""): (1985 - 1990) / 20,
        ("movie_ratings_before", ""): np.log1p(1) / 5,  # row 2
        ("movie_age", ""): np.log1p(2001.5 - 1985) / 4,
    }
    assert features(ratings, "per_movie", 0) == occasion
    assert features(ratings, "per_user", 0) == movie
    assert features(ratings, "global", 0) == occasion | movie
    assert features(ratings, "per_user", 1) == {
        ("genre", "Comedy"): 1,
        ("decade", "2000"): 1,
        ("release_year", ""): 0.5,
        ("movie_age", ""): np.log1p(0.5) / 4,
    }
    # Neither genre nor year: a movie without features, and no age
    assert features(ratings, "per_user", 3) == {}
    assert ("genre", "(no genres listed)") not in ratings.feature_names("global")


def test_decades(ml_latest: Path) -> None:
    years = {10: 1949, 20: 1950, 30: 1999}
    titles = "\n".join(f"{movie},Title ({year}),Drama" for movie, year in years.items())
    (ml_latest / "movies.csv").write_text(f"movieId,title,genres\n{titles}\n")
    ratings = read_movielens(ml_latest)
    terms = [
        [term for name, term in held(ratings, "per_user", row) if name == "decade"]
        for row in (0, 1, 3)  # of movies 10, 20, 30
    ]
    assert terms == [["before 1950"], ["1950"], []]


def test_the_first_of_two_ratings_of_the_same_second_counts_as_earlier(ml_latest: Path) -> None:
    (ml_latest / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,10,4,99\n1,20,4,99\n1,30,4,98\n")
    ratings = read_movielens(ml_latest)
    key = ("user_ratings_before", "")
    before = [held(ratings, "per_movie", row).get(key, 0) for row in range(3)]
    assert before == pytest.approx([np.log1p(1) / 5, np.log1p(2) / 5, 0])


TITLES = {
    "ml_100k": {1: 'Cité des enfants, "La" (1995)', 2: "unknown"},
    "ml_1m": {7: "Misérables: Les, A:B (1995)", 3: 'Ronin\'s "War" (1998)'},
    "ml_latest": {10: "Misérables, Les (1985)", 20: "Serial – Part 2 (2000–2004) ", 30: 'Say "Yes"'},
}


@pytest.mark.parametrize("edition", ["ml_100k", "ml_1m", "ml_latest"])
@pytest.mark.parametrize("format", ["tfrecord", "parquet"])
def test_written_sources(edition: str, format: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(edition)
    ratings = read_movielens(folder)
    summary = write_movielens(folder, str(tmp_path / "out"), format=format)  # type: ignore[arg-type]
    assert (summary.ratings, summary.users) == (len(ratings), 2)
    assert summary.training + summary.validation == len(ratings)
    assert summary.positive_share == ratings.response.mean()
    for source in ("global", "per_user", "per_movie"):
        directory = tmp_path / "out" / source
        names = read_names(directory, source)
        rows = read_rows(directory, "training") + read_rows(directory, "validation")
        held_out = is_validation(np.arange(len(ratings)))
        assert len(read_rows(directory, "validation")) == held_out.sum() == summary.validation
        for row in rows:
            uid = row["uid"]
            if source == "global":
                assert row.pop("title") == TITLES[edition][row["movie_id"]]
            assert set(row) == {
                "uid", "weight", "user_id", "movie_id", "response", f"{source}_indices", f"{source}_values"
            }  # fmt: skip
            assert row["weight"] == 1
            assert row["user_id"] == ratings.user_id[uid]
            assert row["movie_id"] == ratings.movie_id[uid]
            assert row["response"] == ratings.response[uid]
            expected = {f"{name},{term}": value for (name, term), value in held(ratings, source, uid).items()}
            assert features_of(row, source, names) == pytest.approx(expected, abs=1e-6)
        assert sorted(row["uid"] for row in rows) == list(range(len(ratings)))


def splitmix64(x: int) -> int:
    """Written from the published algorithm, in Python's unbounded integers."""
    mask = 2**64 - 1
    x = (x + 0x9E3779B97F4A7C15) & mask
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return x ^ (x >> 31)


def test_the_split_is_the_same_everywhere() -> None:
    held_out = is_validation(np.arange(100_000))
    # Fixed once: other uids would mean that metrics of two releases can no longer be compared.
    assert np.flatnonzero(held_out)[:5].tolist() == [1, 10, 13, 17, 21]
    assert held_out[:2000].tolist() == [splitmix64(uid ^ 0x5DEECE66D) < 2**64 / 5 for uid in range(2000)]
    assert abs(held_out.mean() - 0.2) < 0.005


def test_a_folder_without_an_edition_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n")
    with pytest.raises(DataError, match=r"no MovieLens edition.*movies\.csv.*u\.item.*users\.dat"):
        find_edition(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        find_edition(tmp_path / "absent")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("userId,movieId,rating,timestamp\n1,10,4.0\n", r"ratings\.csv: .*Expected 4 columns"),
        ("userId,movieId,rating,timestamp\n1,10,good,5\n", r"ratings\.csv: .*conversion error to double"),
        ("userId,movieId,rating,timestamp\n1,,4.0,5\n", r"ratings\.csv: column movieId is empty in 1 rows"),
        ("userId,movieId,rating,timestamp\n", r"ratings\.csv: holds no rows"),
        ("", r"ratings\.csv: .*Empty CSV"),
        ("user,movie,rating,timestamp\n1,10,4.0,5\n", r"ratings\.csv: .*userId"),
        ("userId,movieId,rating,timestamp\n1,10,4.0,5\n1,99,4.0,5\n", r"rating 1 .*movieId 99.*movies\.csv"),
        ("userId,movieId,rating,timestamp\n1,5,4.0,5\n", r"rating 0 .*movieId 5.*movies\.csv"),
    ],
)
def test_damaged_ratings(ml_latest: Path, content: str, message: str) -> None:
    (ml_latest / "ratings.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        read_movielens(ml_latest)


def test_text_that_is_not_in_the_encoding(ml_latest: Path) -> None:
    (ml_latest / "movies.csv").write_bytes("movieId,title,genres\n10,Misérables (1985),Drama\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"movies\.csv: .*UTF8"):
        read_movielens(ml_latest)
