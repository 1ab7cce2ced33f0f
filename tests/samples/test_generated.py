"""The generated sample: sizes, determinism, and that the responses do follow the stated coefficients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdmix_core.config.pipeline import Config
from gdmix_core.data.ingest.records import read_records
from gdmix_core.data.ingest.source import open_layout
from gdmix_core.errors import ConfigError
from gdmix_core.models.table import INTERCEPT_INDEX
from gdmix_core.samples import layout
from gdmix_core.samples.generated import Deviations, GeneratedSample, generate_sample, write_generated
from gdmix_core.samples.rating_sources import COORDINATES
from tests.samples.reading import features_of, read_names, read_rows


@pytest.fixture(scope="module")
def sample() -> GeneratedSample:
    return generate_sample(users=200, movies=300, ratings=12_000, seed=3)


def true_score(sample: GeneratedSample, coordinate: str) -> np.ndarray:
    """[n] by a dictionary look-up for each feature."""
    table = sample.truth[coordinate]
    models = {}
    for k, entity in enumerate(table.entities.to_pylist()):
        entries = slice(table.offsets[k], table.offsets[k + 1])
        models[entity] = dict(zip(table.features[entries].tolist(), table.means[entries].tolist(), strict=True))
    ratings = sample.ratings
    bag = ratings.features(coordinate, np.arange(len(ratings))).bag()
    entity_of = {
        "global": ["global"] * len(ratings),
        "per_user": ratings.user_id,
        "per_movie": ratings.movie_id,
    }
    scores = []
    for i, entity in enumerate(np.asarray(entity_of[coordinate]).tolist()):
        model = models[entity]
        entries = slice(bag.offsets[i], bag.offsets[i + 1])
        products = (
            model[j] * v for j, v in zip(bag.indices[entries].tolist(), bag.values[entries].tolist(), strict=True)
        )
        scores.append(model[INTERCEPT_INDEX] + sum(products))
    return np.array(scores)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 400), st.integers(0, 2**32))
def test_sizes(users: int, movies: int, count: int, seed: int) -> None:
    if count > 0.3 * users * movies:
        with pytest.raises(ConfigError, match=f"ratings at most {int(0.3 * users * movies)}"):
            generate_sample(users=users, movies=movies, ratings=count, seed=seed)
        return
    ratings = generate_sample(users=users, movies=movies, ratings=count, seed=seed).ratings
    assert len(ratings) == len(ratings.user_id) == count
    pairs = set(zip(ratings.user_id.tolist(), ratings.movie_id.tolist(), strict=True))
    assert len(pairs) == count
    assert all(1 <= user <= users and 1 <= movie <= movies for user, movie in pairs)
    assert set(ratings.response.tolist()) <= {0, 1}


def test_the_same_seed_gives_the_same_sample() -> None:
    first, again, other = (generate_sample(users=30, movies=40, ratings=300, seed=seed) for seed in (1, 1, 2))
    assert (first.ratings.response == again.ratings.response).all()
    assert (first.probability == again.probability).all()
    assert (first.truth["per_user"].means == again.truth["per_user"].means).all()
    assert (first.probability != other.probability).any()


def test_probabilities_are_those_of_the_truth(sample: GeneratedSample) -> None:
    logit = sum(true_score(sample, coordinate) for coordinate in COORDINATES)
    np.testing.assert_allclose(np.log(sample.probability / (1 - sample.probability)), logit, atol=1e-9)


def test_responses_follow_the_probabilities(sample: GeneratedSample) -> None:
    p, y = sample.probability, sample.ratings.response
    for rows in np.array_split(np.argsort(p), 5):
        deviation = np.sqrt(np.sum(p[rows] * (1 - p[rows])))
        assert abs(np.sum(y[rows] - p[rows])) < 4 * deviation


def test_popularity_is_skewed(sample: GeneratedSample) -> None:
    counts = np.sort(np.bincount(sample.ratings.movie_id, minlength=301)[1:])[::-1]
    assert counts[:30].sum() > 0.2 * counts.sum()
    assert counts[0] > 5 * max(counts[-1], 1)


def test_each_effect_adds_to_the_auc(sample: GeneratedSample) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    total = np.zeros(len(sample.ratings))
    aucs = []
    for coordinate in COORDINATES:
        total = total + true_score(sample, coordinate)
        aucs.append(metrics.roc_auc_score(sample.ratings.response, total))
    assert aucs[0] + 0.02 < aucs[1] < aucs[2] - 0.02


def test_the_coefficients_can_be_found_again(sample: GeneratedSample) -> None:
    """With the true scores of the random effects as offsets, Newton's method finds the global model."""
    ratings = sample.ratings
    dense = ratings.features("global", np.arange(len(ratings))).matrix.toarray().astype(np.float64)
    X = np.hstack([np.ones((len(ratings), 1)), dense])
    # gender and occupation are complete sets of flags: drop one of each, and compare what is identified
    names = [("(INTERCEPT)", ""), *ratings.feature_names("global")]
    kept = [k for k, name in enumerate(names) if name not in {("gender", "M"), ("occupation", "writer")}]
    offset = true_score(sample, "per_user") + true_score(sample, "per_movie")
    w = np.zeros(len(kept))
    for _ in range(25):
        p = 1 / (1 + np.exp(-(X[:, kept] @ w + offset)))
        hessian = X[:, kept].T @ (X[:, kept] * (p * (1 - p))[:, None])
        w -= np.linalg.solve(hessian, X[:, kept].T @ (p - ratings.response))
    truth = dict(zip(names, sample.truth["global"].means, strict=True))
    expected = []
    for k in kept:
        name, term = names[k]
        base = {"gender": "M", "occupation": "writer"}.get(name)
        expected.append(truth[name, term] - (truth[name, base] if base else 0))
    expected[0] += truth["gender", "M"] + truth["occupation", "writer"]
    errors = np.sqrt(np.diag(np.linalg.inv(hessian)))
    assert (np.abs(w - expected) < 4 * errors).all()
    assert np.abs(w).max() > 10 * errors.min()  # the coefficients are not lost in the noise


def test_deviations() -> None:
    flat = generate_sample(users=50, movies=60, ratings=500, deviations=Deviations(0, 0, 0))
    assert (flat.probability == 0.5).all()
    wide = generate_sample(users=400, movies=500, ratings=500, deviations=Deviations(0, 2.0, 0.1))
    assert np.std(wide.truth["per_user"].means) == pytest.approx(2.0, rel=0.1)
    assert np.std(wide.truth["per_movie"].means) == pytest.approx(0.1, rel=0.1)


def test_written_sample(sample: GeneratedSample, tmp_path: Path) -> None:
    summary = write_generated(str(tmp_path), sample)
    assert summary.ratings == 12_000
    share = f"{100 * sample.ratings.response.mean():.1f}%"
    rows = f"{summary.training} to train on, {12_000 - summary.training} to validate with"
    assert str(summary) == f"12000 ratings of {summary.movies} movies by 200 users, {share} positive: {rows}"
    for coordinate in COORDINATES:
        truth = pq.read_table(tmp_path / "truth" / f"{coordinate}.parquet").to_pylist()
        models = {row["entity"]: dict(zip(row["indices"], row["means"], strict=True)) for row in truth}
        names = read_names(tmp_path / coordinate, coordinate)
        assert all(list(model) == [-1, *range(len(names))] for model in models.values())
        records = read_rows(tmp_path / coordinate, "validation")
        assert len(records) == summary.validation
        scores = true_score(sample, coordinate)
        for row in records[:50]:
            entity = {"global": "global", "per_user": row["user_id"], "per_movie": row["movie_id"]}[coordinate]
            held = features_of(row, coordinate, names)
            score = models[entity][-1] + sum(models[entity][names.index(name)] * v for name, v in held.items())
            assert score == pytest.approx(scores[row["uid"]], abs=1e-5)


def test_a_split_over_several_files(sample: GeneratedSample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_generated(str(tmp_path / "one"), sample)
    monkeypatch.setattr(layout, "_ROWS_PER_FILE", 4000)
    write_generated(str(tmp_path / "several"), sample)
    files = sorted(path.name for path in (tmp_path / "several" / "global" / "trainingData").iterdir())
    assert files == [f"part-0000{k}.tfrecord" for k in range(3)]
    for split in ("training", "validation"):
        one, several = (read_rows(tmp_path / name / "global", split) for name in ("one", "several"))
        assert one == several


def test_the_pipeline_reads_it_without_a_violation(sample: GeneratedSample, tmp_path: Path) -> None:
    write_generated(str(tmp_path / "in"), sample)
    effects: dict[str, Any] = {"global": {"fixed_effect": {}}} | {
        f"per_{entity}": {"random_effect": {"entity": f"{entity}_id"}} for entity in ("user", "movie")
    }
    config = Config.model_validate(
        {
            "name": "sample",
            "input": str(tmp_path / "in"),
            "output": str(tmp_path / "out"),
            "columns": {"label": "response", "weight": "weight"},
            "coordinates": {name: {**effect, "data": name, "bag": name} for name, effect in effects.items()},
        }
    )
    layout = open_layout(config)
    assert {name: bag.features for name, bag in layout.bags.items()} == {
        name: len(sample.ratings.feature_names(name)) for name in COORDINATES
    }
    rows = 0
    for piece in layout.pieces:
        for records in read_records(piece, layout.sources[piece.source], config):
            assert not records.violations.any()
            assert not records.duplicates.any()
            rows += len(records.uid)
    assert rows == 3 * len(sample.ratings)
