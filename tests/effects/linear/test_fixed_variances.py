"""Variances of a fixed effect's coefficients: against statsmodels, and a Hessian written down a second time."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import statsmodels.api as sm
from numpy.typing import NDArray

from gdmix_core.effects.linear import posterior_variances, training
from gdmix_core.errors import ConfigError
from gdmix_core.models.native import read_model
from gdmix_core.pipeline.run import Run
from tests.effects.linear.test_fixed_penalties import FEATURES, NORMALIZATIONS, TASKS, make, oracle, rows, train
from tests.run_directory import Rows


def variances(run: Run) -> NDArray[np.float64]:
    found = read_model(run.model(1, "global", 0)).variances
    assert found is not None
    return found


@pytest.mark.parametrize("task", TASKS[:3])
def test_full_without_a_penalty_are_those_of_statsmodels(tmp_path: Path, task: str) -> None:
    random = np.random.default_rng(3)
    X = random.normal(size=(600, 4)) @ np.array([[1, 0.8, 0, 0], [0, 1, 0, 0], [0, 0, 0.3, 0.1], [0, 0, 0, 2.0]])
    margin = X @ [0.5, -0.3, 0.4, 0.1] + 0.2
    family, label = {
        "logistic_regression": (sm.families.Binomial(), (random.random(600) < 1 / (1 + np.exp(-margin)))),
        "linear_regression": (sm.families.Gaussian(), margin + random.normal(size=600)),
        "poisson_regression": (sm.families.Poisson(), random.poisson(np.exp(margin))),
    }[task]
    y = label.astype(float)
    run = make(
        tmp_path, task, Rows(label=y, bags={"global": X}), l2=0.0, variances="full", normalization="standardization"
    )
    _, w = train(run)
    peer = sm.GLM(y, sm.add_constant(X), family=family).fit(tol=1e-12)
    np.testing.assert_allclose(w[:5], peer.params, atol=1e-5)
    # A linear model's variances are those of errors of variance 1: our loss has no scale to estimate.
    np.testing.assert_allclose(variances(run), np.diag(peer.cov_params()) / peer.scale, rtol=1e-4)


@pytest.mark.parametrize(
    ("task", "normalization", "regularize"), list(itertools.product(TASKS, NORMALIZATIONS, (False, True)))
)
def test_of_the_penalised_hessian_in_the_features_units(
    tmp_path: Path, task: str, normalization: str, regularize: bool
) -> None:
    data = rows(task)
    for kind in ("simple", "full"):
        settings: dict[str, Any] = {"normalization": normalization, "regularize_intercept": regularize, "l2": 0.7}
        run = make(tmp_path / kind, task, data, {"tolerance": 1e-10}, variances=kind, **settings)
        _, w = train(run)
        H = oracle(task, data, 0.7, regularize, normalization=normalization).hessian(w)
        expected = 1 / np.diag(H) if kind == "simple" else np.diag(np.linalg.inv(H))
        np.testing.assert_allclose(variances(run), expected, rtol=1e-6)


def test_with_a_prior(tmp_path: Path) -> None:
    data = rows("poisson_regression")
    initial = (2.0, None, list(range(-1, FEATURES)), np.zeros(FEATURES + 1), np.full(FEATURES + 1, 0.3))
    run = make(tmp_path, "poisson_regression", data, None, initial, variances="full")
    _, w = train(run)
    problem = oracle("poisson_regression", data, 0.0)
    problem.precision = np.full(FEATURES + 1, 2.0 / 0.3)
    expected = np.diag(np.linalg.inv(problem.hessian(w))).copy()
    expected[5] = 0.3  # of feature 4, which has no row, nothing new is known
    np.testing.assert_allclose(variances(run), expected, rtol=1e-5)


@pytest.mark.parametrize("kind", ["simple", "full"])
def test_what_nothing_determines_has_no_variance(tmp_path: Path, kind: str) -> None:
    """Feature 4 has no row; 5 is a constant beside a free intercept; 8 here repeats 7. None is penalised."""
    data = rows("linear_regression")
    X = data.matrix("global").toarray()
    X[:, 8] = -2 * X[:, 7]
    data.bags = {"global": sp.csr_matrix(X)}
    run = make(tmp_path, "linear_regression", data, l2=0.0, variances=kind)
    train(run)
    missing = np.flatnonzero(np.isnan(variances(run))) - 1
    assert missing.tolist() == ([4] if kind == "simple" else [-1, 4, 5, 7, 8])
    kept = [0, 1, 2, 3, 6]
    if kind == "full":
        A = np.hstack([np.ones((len(X), 1)), X[:, [*kept, 7]]])
        V = np.linalg.inv(A.T @ (A * np.asarray(data.weight)[:, None]))
        np.testing.assert_allclose(variances(run)[np.array(kept) + 1], np.diag(V)[1:6], rtol=1e-8)


def test_without_an_intercept(tmp_path: Path) -> None:
    data = rows("logistic_regression")
    run = make(tmp_path, "logistic_regression", data, intercept=False, variances="full")
    _, w = train(run)
    H = oracle("logistic_regression", data, 1.0).hessian(w)[1:, 1:]
    np.testing.assert_allclose(variances(run), np.diag(np.linalg.inv(H)), rtol=1e-5)


def test_too_many_features_for_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(tmp_path, "logistic_regression", rows("logistic_regression"), variances="full")
    monkeypatch.setattr(training, "FULL_LIMIT", FEATURES - 1)
    with pytest.raises(ConfigError, match=f"up to {FEATURES - 1} features can have it. Use variances: simple"):
        train(run)
    assert posterior_variances.FULL_LIMIT >= 1000
