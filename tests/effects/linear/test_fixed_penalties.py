"""A fixed effect with every loss, penalty, prior, normalisation and solver: the conditions of the optimum, checked by a
second implementation, and other packages' optima."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.linear_model import ElasticNet, LogisticRegression

from gdmix_core.effects.linear import training
from gdmix_core.errors import ConfigError
from gdmix_core.execution.dispatch import execute
from gdmix_core.models.native import read_model, write_model
from gdmix_core.models.table import CoefficientTable
from gdmix_core.pipeline.run import Run
from gdmix_core.training_context import TrainingContext
from tests.effects.penalized_oracle import Oracle
from tests.run_directory import Rows, make_run, mark_initialized

TASKS = ("logistic_regression", "linear_regression", "poisson_regression", "smoothed_hinge")
NORMALIZATIONS = ("none", "standard_deviation", "max_magnitude", "standardization")
FEATURES = 9


def rows(task: str, n: int = 400, seed: int = 1) -> Rows:
    """Features of different scales, one of them never seen, one constant; weights and offsets."""
    random = np.random.default_rng(seed)
    X = np.where(random.random((n, FEATURES)) < 0.4, random.normal(0.5, 1.0, (n, FEATURES)), 0.0)
    X *= np.logspace(-1, 1, FEATURES)
    X[:, 4], X[:, 5] = 0.0, 2.0
    offset = random.normal(0.0, 0.3, n)
    margin = X @ (random.normal(0.0, 0.5, FEATURES) / np.logspace(-1, 1, FEATURES)) - 0.3 + offset
    label = {
        "linear_regression": margin + random.normal(0.0, 0.5, n),
        "poisson_regression": random.poisson(np.exp(margin)).astype(float),
    }.get(task, (random.random(n) < 1 / (1 + np.exp(-margin))).astype(float))
    return Rows(label=label, weight=random.uniform(0.2, 3.0, n), offset=offset, bags={"global": sp.csr_matrix(X)})


def make(root: Path, task: str, data: Rows, effect: dict[str, Any] | None = None, initial: Any = None, **s: Any) -> Run:
    """initial: (prior weight, keeps features or None, features, means, variances)."""
    content: dict[str, Any] = {
        "task": task,
        "coordinates": {"global": {"fixed_effect": {"tolerance": 1e-6, **(effect or {})}, "bag": "global", **s}},
    }
    if initial is not None:
        content["initial_model"] = {"path": "earlier", "prior_weight": initial[0]}
        if initial[1] is not None:
            content["initial_model"]["features_without_data"] = "keep" if initial[1] else "drop"
    run = make_run(root, content, data)
    if initial is not None:
        features, means, variances = initial[2:]
        table = CoefficientTable(
            pa.array(["global"]), np.array([0, len(features)]), np.array(features, np.int32), np.array(means, float),
            None if variances is None else np.array(variances, float),
        )  # fmt: skip
        write_model(run.initial("global", 0), table)
        mark_initialized(run)
    return run


def effect(solver: str) -> dict[str, Any]:
    """L-BFGS comes to the end of float64's digits before Newton's method does."""
    return {"solver": solver, "tolerance": 1e-6 if solver == "lbfgs" else 1e-10}


def train(run: Run) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """(result, coefficients with the intercept first)."""
    if "summarize" in [step.id for step in run.plan.steps]:
        execute(run, run.plan["summarize"])
    result = training.train(TrainingContext(run, run.plan["pass_01.global.train"]))
    model = read_model(run.model(1, "global", 0))
    w = np.zeros(max(FEATURES, model.features.max() + 1) + 1)
    w[model.features + 1] = model.means
    return result, w


def oracle(task: str, data: Rows, l2: float, regularize_intercept: bool = False, **others: Any) -> Oracle:
    penalty = np.full(FEATURES + 1, float(l2))
    if not regularize_intercept:
        penalty[0] = 0.0
    X = data.matrix("global").toarray()
    return Oracle(task, X, *(np.asarray(v, float) for v in (data.label, data.weight, data.offset)), penalty, **others)


def assert_optimal(result: dict[str, Any], w: NDArray[np.float64], problem: Oracle) -> None:
    assert result["converged"], result
    assert result["objective"] == pytest.approx(problem.value(w), rel=1e-11)
    assert problem.violation(w) <= 1.001 * result["goal"] + 1e-9
    assert result["gradient"] == pytest.approx(problem.violation(w), rel=1e-2, abs=1e-8)


@pytest.mark.parametrize("solver", ["lbfgs", "newton_cg"])
@pytest.mark.parametrize(("task", "normalization"), list(itertools.product(TASKS, NORMALIZATIONS)))
def test_ridge(tmp_path: Path, task: str, normalization: str, solver: str) -> None:
    data = rows(task)
    for name, regularize in (("free", False), ("penalised", True)):
        run = make(
            tmp_path / name, task, data, effect(solver),
            l2=0.7, normalization=normalization, regularize_intercept=regularize,
        )  # fmt: skip
        result, w = train(run)
        assert result["solver"] == solver
        assert (result["hessian_products"] > 0) == (solver == "newton_cg")
        assert_optimal(result, w, oracle(task, data, 0.7, regularize, normalization=normalization))


@pytest.mark.parametrize("solver", ["lbfgs", "newton_cg"])
@pytest.mark.parametrize(("task", "normalization"), list(itertools.product(TASKS, NORMALIZATIONS)))
def test_l1_and_elastic_net_leave_exact_zeros(tmp_path: Path, task: str, normalization: str, solver: str) -> None:
    data = rows(task)
    scale = 20.0 if normalization in ("none", "max_magnitude") else 60.0
    for name, settings, l1, l2 in (
        ("l1", {"l1": scale, "l2": 0.0}, scale, 0.0),
        ("net", {"l2": scale, "alpha": 0.75}, 0.75 * scale, 0.25 * scale),
    ):
        run = make(tmp_path / name, task, data, effect(solver), normalization=normalization, **settings)
        result, w = train(run)
        penalty = np.full(FEATURES + 1, l1)
        penalty[0] = 0.0
        assert_optimal(result, w, oracle(task, data, l2, normalization=normalization, l1=penalty))
        assert result["solver"] == solver
        assert w[0] != 0.0
        zeros = np.sum(w[1:] == 0.0)
        assert 2 <= zeros < FEATURES


@pytest.mark.parametrize("solver", ["lbfgs", "newton_cg"])
@pytest.mark.parametrize(("task", "normalization"), list(itertools.product(TASKS, NORMALIZATIONS[:3])))
def test_bounds_alone_and_with_l1(tmp_path: Path, task: str, normalization: str, solver: str) -> None:
    data = rows(task)
    bounds = [
        {"name": "feature", "term": "0", "lower": 0.2, "upper": 0.3},
        {"name": "feature", "term": "1", "upper": 0.0},
        {"name": "feature", "term": "2", "lower": 0.0},
        {"name": "feature", "term": "8", "lower": -0.01, "upper": 0.01},
        {"name": "(INTERCEPT)", "lower": 0.1, "upper": 0.5},
    ]
    inf = np.inf
    lower = np.array([0.1, 0.2, -inf, 0, -inf, -inf, -inf, -inf, -inf, -0.01])
    upper = np.array([0.5, 0.3, 0.0, inf, inf, inf, inf, inf, inf, 0.01])
    for name, l1 in (("alone", 0.0), ("with", 10.0)):
        run = make(
            tmp_path / name, task, data, effect(solver), normalization=normalization, l2=0.5, l1=l1, bounds=bounds
        )
        result, w = train(run)
        weight = np.full(FEATURES + 1, l1)
        weight[0] = 0.0
        assert np.all((w >= lower) & (w <= upper))
        problem = oracle(task, data, 0.5, normalization=normalization, l1=weight, lower=lower, upper=upper)
        assert_optimal(result, w, problem)
        if not l1:
            found = minimize(
                problem.smooth, np.clip(np.zeros(FEATURES + 1), lower, upper), jac=True, method="SLSQP",
                bounds=list(zip(lower, upper, strict=True)), options={"maxiter": 1000, "ftol": 1e-13},
            )  # fmt: skip
            assert result["objective"] <= found.fun + 1e-8 * abs(found.fun)


KNOWN = [-1, 0, 1, 2, 3, 5, 7]
MEANS = [0.4, 0.5, -0.2, 0.1, 0.3, 0.05, -0.1]
VARIANCES = [0.01, 0.02, np.nan, 0.5, 0.0, 0.3, np.inf]


@pytest.mark.parametrize(
    ("task", "normalization", "solver"),
    list(itertools.product(TASKS, NORMALIZATIONS, ("newton_cg", "lbfgs", "newton_cg, l1", "lbfgs, l1"))),
)
def test_a_prior_with_and_without_variances(tmp_path: Path, task: str, normalization: str, solver: str) -> None:
    data = rows(task)
    weight, l2, l1 = 2.5, 0.7, 5.0 * solver.endswith("l1")
    run = make(
        tmp_path, task, data, effect(solver.partition(",")[0]), (weight, None, KNOWN, MEANS, VARIANCES), l2=l2,
        l1=l1, normalization=normalization,
    )  # fmt: skip
    result, w = train(run)
    at = np.array(KNOWN) + 1
    means, variances, known = np.zeros(FEATURES + 1), np.full(FEATURES + 1, np.nan), np.zeros(FEATURES + 1, bool)
    means[at], variances[at], known[at] = MEANS, VARIANCES, True
    certain = np.isfinite(variances) & (variances > 0)
    problem = oracle(task, data, l2, normalization=normalization)
    problem.precision = np.where(certain, weight / np.where(certain, variances, 1.0), 0.0)
    problem.mean = means
    problem.centre = np.where(known & ~certain, np.linalg.solve(problem.T, means), 0.0)
    problem.l2 = np.where(certain, 0.0, np.where(known, weight, 1.0) * problem.l2)
    problem.l1 = np.full(FEATURES + 1, l1)
    problem.l1[0] = 0.0
    assert_optimal(result, w, problem)
    assert result["initial"] == {
        "coefficients": 7, "kept_without_rows": 0, "kept_of_other_features": 0, "dropped": 0,
    }  # fmt: skip


def test_without_a_prior_weight_the_start_is_warm_and_the_optimum_the_same(tmp_path: Path) -> None:
    data = rows("logistic_regression")
    cold, w = train(make(tmp_path / "cold", "logistic_regression", data, {"solver": "lbfgs"}))
    initial = (0.0, None, list(range(-1, FEATURES)), w, np.full(FEATURES + 1, 1e-9))
    warm, again = train(make(tmp_path / "warm", "logistic_regression", data, {"solver": "lbfgs"}, initial))
    np.testing.assert_allclose(again, w, atol=1e-6)
    assert warm["iterations"] <= 2 < cold["iterations"]


@pytest.mark.parametrize(
    ("weight", "keeps", "kept"), [(0.0, None, False), (0.0, True, True), (1.0, None, True), (1.0, False, False)]
)
def test_features_without_rows_are_kept_or_dropped(tmp_path: Path, weight: float, keeps: bool, kept: bool) -> None:
    """Feature 4 has no row; features 9 and 12 are not even in this run's list."""
    data = rows("logistic_regression")
    initial = (weight, keeps, [-1, 0, 4, 9, 12], [0.1, 0.2, 7.0, 8.0, 9.0], [1.0, np.nan, 0.5, 0.25, np.nan])
    run = make(tmp_path, "logistic_regression", data, None, initial, l2=0.0)
    result, w = train(run)
    assert result["initial"] == {
        "coefficients": 3 if kept else 2, "kept_without_rows": int(kept), "kept_of_other_features": 2 * kept,
        "dropped": 0 if kept else 3,
    }  # fmt: skip
    model = read_model(run.model(1, "global", 0))
    assert model.features.tolist() == [*range(-1, FEATURES), *([9, 12] if kept else [])]
    assert w[5] == (7.0 if kept else 0.0)
    if kept:
        assert model.variances is not None
        np.testing.assert_array_equal(model.means[-2:], [8.0, 9.0])
        np.testing.assert_array_equal(model.variances[[5, -2, -1]], [0.5, 0.25, np.nan])


def test_as_scikit_learn_finds_it(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    X = random.normal(size=(500, FEATURES))
    y = (random.random(500) < 1 / (1 + np.exp(-X[:, :3].sum(axis=1)))).astype(float)
    data = Rows(label=y, bags={"global": X})
    _, w = train(make(tmp_path / "l1", "logistic_regression", data, l1=15.0, l2=0.0))
    peer = LogisticRegression(l1_ratio=1.0, C=1 / 15, solver="saga", tol=1e-10, max_iter=100_000).fit(X, y)
    np.testing.assert_allclose(w, np.concatenate([peer.intercept_, peer.coef_[0]]), atol=1e-4)
    assert np.sum(w == 0.0) == np.sum(peer.coef_ == 0.0) > 0
    z = X[:, 0] - 0.5 * X[:, 1] + random.normal(size=500)
    _, w = train(make(tmp_path / "net", "linear_regression", Rows(label=z, bags={"global": X}), l2=100.0, alpha=0.6))
    line = ElasticNet(alpha=100 / 500, l1_ratio=0.6, tol=1e-12, max_iter=100_000).fit(X, z)
    np.testing.assert_allclose(w, np.concatenate([[line.intercept_], line.coef_]), atol=1e-6)


def test_normalised_scores_are_those_of_the_model_reported(tmp_path: Path) -> None:
    data = rows("poisson_regression")
    run = make(tmp_path, "poisson_regression", data, normalization="standardization")
    _, w = train(run)
    scores = np.load(run.score_part(1, "global", "training", 0))
    np.testing.assert_allclose(scores, data.matrix("global") @ w[1:] + w[0], rtol=1e-5, atol=1e-6)


def test_wrong_bounds_are_told_before_anything_is_read(tmp_path: Path) -> None:
    data = rows("logistic_regression")
    run = make(tmp_path, "logistic_regression", data, bounds=[{"name": "featur", "lower": 0.0}])
    with pytest.raises(ConfigError, match="did you mean name 'feature'"):
        train(run)
