"""Down-sampling: which rows train, what they weigh, and that all of them are scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from gdmix_core.effects.linear import training
from gdmix_core.effects.linear.down_sampling import chosen_rows, corrected_weight
from gdmix_core.effects.linear.training_rows import TrainingRows
from gdmix_core.models.native import read_model
from gdmix_core.training_context import TrainingContext
from tests.effects.penalized_oracle import Oracle
from tests.run_directory import Rows, make_run

STEP = "pass_01.global.train"


def data(n: int = 4000) -> Rows:
    random = np.random.default_rng(4)
    X = random.normal(size=(n, 5))
    y = (random.random(n) < 1 / (1 + np.exp(2.0 - X[:, 0]))).astype(float)
    return Rows(label=y, weight=random.uniform(0.5, 2.0, n), uid=[f"u{i:06d}" for i in range(n)], bags={"global": X})


def config(task: str, share: float) -> dict[str, Any]:
    effect = {"downsampling": share, "tolerance": 1e-9}
    return {"task": task, "coordinates": {"global": {"fixed_effect": effect, "bag": "global", "variances": "full"}}}


@pytest.mark.parametrize("task", ["logistic_regression", "smoothed_hinge", "linear_regression", "poisson_regression"])
def test_the_model_is_that_of_the_chosen_rows_weighted_up(tmp_path: Path, task: str) -> None:
    rows, share = data(), 0.3
    run = make_run(tmp_path, config(task, share), rows, rows)
    result = training.train(TrainingContext(run, run.plan[STEP]))
    y, weight = np.asarray(rows.label), np.asarray(rows.weight)
    chosen = chosen_rows(pa.array(rows.uid), y, task, share)
    classes = task in ("logistic_regression", "smoothed_hinge")
    sampled = y == 0 if classes else np.ones(len(y), bool)
    assert chosen[~sampled].all()
    assert abs(chosen[sampled].mean() - share) < 4 * np.sqrt(share * (1 - share) / sampled.sum())
    X = np.asarray(rows.bags["global"])[chosen]
    trained = np.where(sampled, weight / share, weight)[chosen]
    problem = Oracle(task, X, y[chosen], trained, np.zeros(chosen.sum()), np.array([0.0] + [1.0] * 5))
    model = read_model(run.model(1, "global", 0))
    assert problem.violation(model.means) <= 1.01 * result["goal"]
    assert result["goal"] == pytest.approx(1e-9 * trained.sum())
    assert model.variances is not None
    np.testing.assert_allclose(model.variances, np.diag(np.linalg.inv(problem.hessian(model.means))), rtol=1e-6)
    for split in ("training", "validation"):
        scores = np.load(run.score_part(1, "global", split, 0))
        expected = np.asarray(rows.bags["global"]) @ model.means[1:] + model.means[0]
        np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5)


def test_the_same_rows_however_many_workers_share_them(tmp_path: Path) -> None:
    run = make_run(tmp_path, config("logistic_regression", 0.25), data())
    step = run.plan[STEP]
    alone = TrainingRows(TrainingContext(run, step), 0, 1, 1)
    shared = [TrainingRows(TrainingContext(run, step), rank, 3, 2) for rank in range(3)]
    for name in ("label", "weight", "offset"):
        np.testing.assert_array_equal(getattr(alone, name), np.concatenate([getattr(rows, name) for rows in shared]))
    np.testing.assert_array_equal(alone.bag.values, np.concatenate([rows.bag.values for rows in shared]))
    assert 1000 < len(alone.label) < 2500


def test_a_larger_share_only_adds_rows() -> None:
    uid, label = pa.array(np.arange(5000)), np.zeros(5000)
    few, more, all_rows = (chosen_rows(uid, label, "logistic_regression", share) for share in (0.1, 0.4, 1.0))
    assert np.all(more[few])
    assert all_rows.all()


def test_weights_keep_their_sum_on_average() -> None:
    random = np.random.default_rng(5)
    weight, label = random.uniform(1, 2, 100_000), (random.random(100_000) < 0.02).astype(float)
    chosen = chosen_rows(pa.array(np.arange(100_000)), label, "logistic_regression", 0.1)
    trained = corrected_weight(weight[chosen], label[chosen], "logistic_regression", 0.1)
    assert trained.sum() == pytest.approx(weight.sum(), rel=0.02)
