"""The real ml-latest-small, against the csv module and scikit-learn."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from gdmix_core.samples.movielens import read_movielens, write_movielens
from gdmix_core.samples.rating_sources import Ratings, is_validation
from tests.samples.reading import features_of, read_names, read_rows

pytestmark = pytest.mark.shared_data


@pytest.fixture(scope="module")
def folder(shared_data: Path) -> Path:
    return Path(shared_data) / "ml-latest-small"


@pytest.fixture(scope="module")
def ratings(folder: Path) -> Ratings:
    return read_movielens(folder)


def test_every_rating_is_there(folder: Path, ratings: Ratings) -> None:
    with (folder / "ratings.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(ratings) == len(rows) == 100_836
    assert ratings.user_id.tolist() == [int(row["userId"]) for row in rows]
    assert ratings.movie_id.tolist() == [int(row["movieId"]) for row in rows]
    assert ratings.response.tolist() == [int(float(row["rating"]) > 3) for row in rows]


def test_genres_and_years(folder: Path, ratings: Ratings) -> None:
    with (folder / "movies.csv").open(newline="", encoding="utf8") as file:
        movies = {int(row["movieId"]): row for row in csv.DictReader(file)}
    names = ratings.feature_names("per_user")
    rows = np.arange(0, len(ratings), 97)
    bag = ratings.features("per_user", rows).bag()
    with_year = 0
    for i, row in enumerate(rows):
        movie = movies[int(ratings.movie_id[row])]
        entries = slice(bag.offsets[i], bag.offsets[i + 1])
        held = {names[j]: v for j, v in zip(bag.indices[entries].tolist(), bag.values[entries].tolist(), strict=True)}
        genres = {term for name, term in held if name == "genre"}
        assert genres == set(movie["genres"].split("|")) - {"(no genres listed)"}
        title = movie["title"].strip()
        if title.endswith(")") and title[-5:-1].isdigit():
            year = int(title[-5:-1])
            with_year += 1
            decades = [term for name, term in held if name == "decade"]
            decade = "before 1950" if year < 1950 else f"{year // 10 * 10}"
            assert decades == ([] if decade == "1990" else [decade])
            assert held.get(("release_year", ""), 0.0) == pytest.approx((year - 1990) / 20, abs=1e-6)
    assert with_year > 0.99 * len(rows)


def test_written_sources(folder: Path, ratings: Ratings, tmp_path: Path) -> None:
    summary = write_movielens(folder, str(tmp_path))
    assert (summary.users, summary.movies) == (610, 9724)
    names = read_names(tmp_path / "per_movie", "per_movie")
    assert names == ["rating_year,", "user_ratings_before,", "movie_age,"]
    validation = read_rows(tmp_path / "per_movie", "validation")
    assert len(validation) == summary.validation == is_validation(np.arange(len(ratings))).sum()
    # User 1's ratings of a film of 1995 in the year 2000
    first = next(row for row in validation if row["user_id"] == 1)
    held = features_of(first, "per_movie", names)
    assert held["rating_year,"] == pytest.approx(-0.64, abs=0.01)


def test_the_features_say_something_about_the_response(ratings: Ratings) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    metrics = pytest.importorskip("sklearn.metrics")
    rows = np.arange(len(ratings))
    held_out = is_validation(rows)
    matrix = ratings.features("global", rows).matrix
    model = linear_model.LogisticRegression(max_iter=500).fit(matrix[~held_out], ratings.response[~held_out])
    auc = metrics.roc_auc_score(ratings.response[held_out], model.decision_function(matrix[held_out]))
    assert auc > 0.65
