"""Penalties, bounds, scaling and feature selection of random effects, against SciPy user by user."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from user_models import (
    TRAIN,
    assert_same_model,
    configured,
    expected_scores,
    make_rows,
    models,
    optimum,
    rows_of,
    scores_of,
    trained,
)

from gdmix_core.effects.random import training
from gdmix_core.errors import ConfigError, DataError, StepError
from gdmix_core.execution.dispatch import execute
from gdmix_core.pipeline.run import Run
from gdmix_core.solvers.entity import posterior
from gdmix_core.training_context import TrainingContext
from tests.run_directory import Rows, make_run

TASKS = ("logistic_regression", "linear_regression", "poisson_regression", "smoothed_hinge")


def scaled(root: Path, config: dict[str, Any], rows: Rows) -> Run:
    run = make_run(root, config, rows, rows_per_block=70)
    execute(run, run.plan["summarize"])
    training.train(TrainingContext(run, run.plan[TRAIN]))
    return run


def sizes(rows: Rows, normalization: str) -> dict[int, float]:
    """What a feature is divided by, over all training rows, absent entries counted as 0."""
    X = np.asarray(rows.bags["per_user"])
    found = np.abs(X).max(axis=0) if normalization == "max_magnitude" else X.std(axis=0, ddof=1)
    return {-1: 1.0, **{j: float(s) if s > 0 else 1.0 for j, s in enumerate(found)}}


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("settings", [{"l1": 0.5, "l2": 0.0}, {"l1": 0.4, "l2": 0.3}, {"l2": 1.5, "alpha": 0.4}])
def test_l1_and_elastic_net(tmp_path: Path, task: str, settings: dict[str, float]):
    rows = make_rows(200, task=task)
    run = trained(tmp_path, configured(task=task, regularize_intercept=False, **settings), rows)
    alpha = settings.get("alpha", 0.0)
    l1 = settings.get("l1", 0.0) + alpha * settings["l2"]
    l2 = (1 - alpha) * settings["l2"]
    zeros = 0
    for user, model in models(run).items():
        expected = optimum(
            rows,
            rows_of(rows, user),
            {j: 0.0 if j < 0 else l2 for j in range(-1, 5)},
            l1={j: 0.0 if j < 0 else l1 for j in range(-1, 5)},
            task=task,
        )
        for feature in list(model):
            assert (model[feature] == 0.0) == (abs(expected[feature]) < 1e-7), feature
        if abs(expected[-1]) < 10:  # one class and a free intercept have no optimum
            assert_same_model(model, expected)
        zeros += sum(c == 0.0 for c in model.values())
    assert zeros > 0
    np.testing.assert_allclose(scores_of(run, "training"), expected_scores(rows, models(run)), rtol=1e-5, atol=1e-5)


def test_alpha_0_is_no_l1(tmp_path: Path):
    rows = make_rows(150)
    plain = models(trained(tmp_path / "plain", configured(l2=0.7), rows))
    assert models(trained(tmp_path / "alpha", configured(l2=0.7, alpha=0.0), rows)) == plain


def test_bounds_by_pattern(tmp_path: Path):
    rows = make_rows(200)
    bounds = [
        {"name": "feat*", "term": "0", "lower": 0},
        {"name": "*", "term": "[1]*", "lower": -9},  # * is the only wildcard: no term begins with a bracket
        {"term": "2*", "lower": -0.2, "upper": 0.3},
        {"name": "feature", "term": "4", "upper": -0.05},
        {"name": "(INTERCEPT)", "lower": -0.5, "upper": 0.5},
    ]
    with pytest.raises(ConfigError, match=r"bound 2 .* matches none of the 5 features"):
        trained(tmp_path / "wrong", configured(l2=0.1, bounds=bounds), rows)
    del bounds[1]
    run = trained(tmp_path / "right", configured(l2=0.1, bounds=bounds, regularize_intercept=False), rows)
    inf = np.inf
    limits = {-1: (-0.5, 0.5), 0: (0.0, inf), 2: (-0.2, 0.3), 4: (-inf, -0.05)}
    held = 0
    for user, model in models(run).items():
        l2 = {j: 0.0 if j < 0 else 0.1 for j in range(-1, 5)}
        assert_same_model(model, optimum(rows, rows_of(rows, user), l2, bounds=limits))
        for feature, (low, high) in limits.items():
            if feature in model:
                assert low <= model[feature] <= high
                held += model[feature] in (low, high)
    assert held > 10
    np.testing.assert_allclose(scores_of(run, "training"), expected_scores(rows, models(run)), atol=1e-5)


@pytest.mark.parametrize("normalization", ["standard_deviation", "max_magnitude", "standardization"])
@pytest.mark.parametrize("l1", [0.0, 0.4])
@pytest.mark.parametrize("regularize_intercept", [False, True])
def test_normalization_is_a_penalty_of_the_scaled_features(
    tmp_path: Path, normalization: str, l1: float, regularize_intercept: bool
):
    """Coefficients are in the features' own units, so l2 becomes l2 · size² and l1 l1 · size; standardization penalises
    the intercept in original units, and is then standard_deviation."""
    rows = make_rows(240)
    np.asarray(rows.bags["per_user"])[:, 3] = 0.25  # a constant, by which nothing is divided
    config = configured(
        l2=0.6, l1=l1, normalization=normalization, regularize_intercept=regularize_intercept, variances="full"
    )
    run = scaled(tmp_path, config, rows)
    size = sizes(rows, normalization)
    if normalization != "max_magnitude":
        size[3] = 1.0
    penalised = 1.0 if regularize_intercept else 0.0
    λ = {j: 0.6 * s**2 * (penalised if j < 0 else 1.0) for j, s in size.items()}
    α = {j: l1 * s * (penalised if j < 0 else 1.0) for j, s in size.items()}
    for user, model in models(run).items():
        expected = optimum(rows, rows_of(rows, user), λ, l1=α)
        if abs(expected[-1]) < 10:
            assert_same_model(model, expected)
    np.testing.assert_allclose(scores_of(run, "training"), expected_scores(rows, models(run)), rtol=1e-5, atol=1e-5)


def test_bounds_are_in_the_features_own_units(tmp_path: Path):
    rows = make_rows(240)
    bounds = [{"term": "4", "lower": -0.03, "upper": 0.04}]
    run = scaled(tmp_path, configured(l2=0.6, normalization="standard_deviation", bounds=bounds), rows)
    λ = {j: 0.6 * s**2 for j, s in sizes(rows, "standard_deviation").items()}
    for user, model in models(run).items():
        assert_same_model(model, optimum(rows, rows_of(rows, user), λ, bounds={4: (-0.03, 0.04)}))
        assert -0.03 <= model[4] <= 0.04


def test_normalization_needs_the_statistics(tmp_path: Path):
    run = make_run(tmp_path, configured(normalization="max_magnitude"), make_rows(100))
    with pytest.raises(StepError, match="needs summarize, which is missing"):
        training.train(TrainingContext(run, run.plan[TRAIN]))


def strongest(rows: Rows, chosen: np.ndarray, count: int) -> set[int]:
    """By NumPy's correlation over the chosen rows."""
    X, y = np.asarray(rows.bags["per_user"])[chosen], np.asarray(rows.label)[chosen]
    present = np.flatnonzero(X.any(axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        strength = [np.nan_to_num(abs(np.corrcoef(X[:, j], y)[0, 1])) for j in present]
    order = sorted(range(len(present)), key=lambda k: (-round(strength[k], 10), k))
    return {int(present[k]) for k in order[:count]}


@pytest.mark.parametrize("ratio", [0.1, 0.25])
def test_features_to_samples(tmp_path: Path, ratio: float):
    rows, validation = make_rows(150), make_rows(60, seed=9)
    run = trained(tmp_path, configured({"features_to_samples": ratio}, l2=0.3), rows, validation)
    fewer = 0
    for user, model in models(run).items():
        chosen = rows_of(rows, user)
        kept = strongest(rows, chosen, math.ceil(ratio * len(chosen)))
        assert set(model) == {-1, *kept}
        only = np.where(np.isin(np.arange(5), list(kept)), np.asarray(rows.bags["per_user"]), 0.0)
        reduced = Rows(rows.label, rows.weight, rows.offset, ids=rows.ids, bags={"per_user": only})
        assert_same_model(model, optimum(reduced, chosen, 0.3))
        fewer += len(kept) < 5
    assert fewer > 0
    for split, data in (("training", rows), ("validation", validation)):
        np.testing.assert_allclose(scores_of(run, split), expected_scores(data, models(run)), atol=1e-5)


def test_full_variances_of_an_entity_too_large_are_refused(tmp_path: Path):
    size = posterior.LARGEST_INVERSE + 5
    rows = Rows(np.arange(size) % 2.0, ids={"user_id": np.full(size, 77)}, bags={"per_user": np.eye(size)})
    with pytest.raises(DataError, match=r"entity 77 has 2054 coefficients, .* at most 2048; use variances: simple"):
        trained(tmp_path / "full", configured(variances="full"), rows)
    run = trained(tmp_path / "simple", configured(variances="simple"), rows)
    assert len(models(run, variances=True)[77]) == size + 1
