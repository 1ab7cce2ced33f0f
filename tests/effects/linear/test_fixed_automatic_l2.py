"""`l2: auto` of a fixed effect: its sums against dense linear algebra, its limit against the evidence itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit

from gdmix_core.data.ragged import Bag
from gdmix_core.effects.linear import automatic_l2, training
from gdmix_core.effects.linear.automatic_l2 import sums_at
from gdmix_core.errors import ConfigError
from gdmix_core.execution.dispatch import execute
from gdmix_core.models.native import read_model
from gdmix_core.solvers.empirical_bayes.fixed_point import group_of
from gdmix_core.solvers.large.newton_cg import minimize
from gdmix_core.solvers.large.objective import GlobalObjective
from gdmix_core.solvers.large.scaling import Penalty, ScaledObjective, Scaling
from gdmix_core.solvers.losses import LOSS_OF_TASK
from gdmix_core.training_context import TrainingContext
from gdmix_core.workers.all_reduce import SharedObjective, SingleWorker
from tests.run_directory import Rows, make_run

STEP = "pass_01.global.train"


def simulated(task: str, n: int, features: int, sigma: float, seed: int = 1) -> tuple[NDArray[np.float64], Rows]:
    random = np.random.default_rng(seed)
    X = random.normal(size=(n, features))
    margin = X @ random.normal(0.0, sigma, features) + 0.3
    label = {
        "logistic_regression": lambda: (random.random(n) < expit(margin)).astype(float),
        "linear_regression": lambda: margin + random.normal(size=n),
        "poisson_regression": lambda: random.poisson(np.exp(margin)).astype(float),
    }[task]()
    return X, Rows(label=label, bags={"global": X})


def config(task: str = "logistic_regression", l2: Any = "auto", **others: Any) -> dict[str, Any]:
    effect = {"tolerance": 1e-9, **others.pop("effect", {})}
    return {"task": task, "coordinates": {"global": {"fixed_effect": effect, "bag": "global", "l2": l2, **others}}}


def train(root: Path, content: dict[str, Any], data: Rows) -> tuple[dict[str, Any], NDArray[np.float64]]:
    run = make_run(root, content, data)
    if "summarize" in [step.id for step in run.plan.steps]:
        execute(run, run.plan["summarize"])
    result = training.train(TrainingContext(run, run.plan[STEP]))
    return result, read_model(run.model(1, "global", 0)).means


def log_evidence(X: NDArray[np.float64], y: NDArray[np.float64], w: NDArray[np.float64], l2: float, task: str) -> float:
    """Of λ, by Laplace's approximation at the optimum w; the flat prior of the intercept is constant."""
    z = X @ w[1:] + w[0]
    A = np.hstack([np.ones((len(X), 1)), X])
    if task == "linear_regression":
        loss, curvature = 0.5 * (z - y) ** 2, np.ones(len(y))
    elif task == "logistic_regression":
        loss, curvature = np.logaddexp(0, z) - y * z, expit(z) * expit(-z)
    else:
        loss, curvature = np.exp(z) - y * z, np.exp(z)
    H = A.T @ (A * curvature[:, None]) + np.diag([0.0] + [l2] * X.shape[1])
    _, determinant = np.linalg.slogdet(H)
    least = loss.sum() + 0.5 * l2 * w[1:] @ w[1:]
    if task == "linear_regression":  # the noise's variance where the evidence is largest, 2 F / (n − 1)
        least = 0.5 * (len(y) - 1) * np.log(least)
    return float(0.5 * X.shape[1] * np.log(l2) - least - 0.5 * determinant)


@pytest.mark.parametrize("task", ["logistic_regression", "linear_regression", "poisson_regression"])
def test_finds_the_l2_of_the_largest_evidence(tmp_path: Path, task: str) -> None:
    """With the Laplace correction the fixed point is where the approximated evidence is stationary, exactly."""
    X, data = simulated(task, 400, 25, 0.3)
    result, _ = train(tmp_path / "auto", config(task), data)
    told = result["l2"]
    assert told["mode"] == "intercept_slopes"
    assert told["converged"]
    assert set(told["used"]) == set(told["next"]) == {"slopes"}  # the intercept is free
    assert told["next"]["slopes"] == pytest.approx(told["used"]["slopes"], rel=2e-3)
    assert result["converged"]

    def negative(log_l2: float) -> float:
        l2 = float(np.exp(log_l2))
        objective = objective_of(task, X, np.asarray(data.label), np.array([0.0] + [l2] * 25))
        best = minimize(objective, np.zeros(26), gtol=1e-8, max_iterations=100).w
        return -log_evidence(X, np.asarray(data.label), best, l2, task)

    best = minimize_scalar(negative, bounds=(-3, 8), method="bounded", options={"xatol": 1e-5})
    assert np.log(told["used"]["slopes"]) == pytest.approx(best.x, abs=0.01)
    assert 1 / told["used"]["slopes"] == pytest.approx(0.3**2, rel=0.7)


def objective_of(
    task: str, X: NDArray[np.float64], y: NDArray[np.float64], l2: NDArray[np.float64], scaling: Scaling | None = None
) -> ScaledObjective:
    M = sp.csr_matrix(X)
    bag = Bag(M.indptr.astype(np.int64), M.indices.astype(np.int32), M.data)
    n = len(y)
    own = GlobalObjective(
        LOSS_OF_TASK[task], bag, X.shape[1], y, np.ones(n), np.zeros(n), intercept=True, threads=2
    )  # fmt: skip
    return ScaledObjective(SharedObjective(own, SingleWorker()), Penalty.ridge(l2), scaling)


@pytest.mark.parametrize("mode", ["coordinate", "intercept_slopes", "feature"])
@pytest.mark.parametrize("task", ["logistic_regression", "poisson_regression"])
def test_sums_are_those_of_dense_algebra(task: str, mode: Any) -> None:
    random = np.random.default_rng(2)
    X, data = simulated(task, 300, 6, 0.5)
    y = np.asarray(data.label)
    scaling = Scaling.of_features(random.uniform(0.5, 2.0, 6), random.normal(size=6))
    group = group_of(mode, np.arange(-1, 6, dtype=np.int32))
    variance = random.uniform(0.1, 1.0, group.max() + 1)
    objective = objective_of(task, X, y, 1 / variance[group], scaling)
    u = minimize(objective, np.zeros(7), gtol=1e-9, max_iterations=100).w
    found = sums_at(objective, u, np.ones(7), group, variance, mode)
    # Scaled rows, made for once.
    A = np.hstack([np.ones((300, 1)), (X - scaling.shift[1:]) * scaling.factor[1:]])
    z = A @ u
    second, third = (
        (expit(z) * expit(-z), expit(z) * expit(-z) * (1 - 2 * expit(z)))
        if task == "logistic_regression"
        else (np.exp(z), np.exp(z))
    )
    V = np.linalg.inv(A.T @ (A * second[:, None]) + np.diag(1 / variance[group]))
    leverage = np.einsum("ij,jk,ik->i", A, V, A)
    c = (V @ (A.T @ (leverage * third))) * u
    for name, expected in {"squares": u**2, "corrections": c, "count": np.ones(7), "shrunk": np.diag(V)}.items():
        summed = np.bincount(group, expected) / (variance if name == "shrunk" else 1.0)
        np.testing.assert_allclose(getattr(found, name), summed, rtol=1e-7, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("task", ["logistic_regression", "poisson_regression"])
def test_probes_estimate_the_same_sums(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(3)
    X = np.where(random.random((1500, 300)) < 0.1, random.normal(size=(1500, 300)), 0.0)
    margin = X @ random.normal(0, 0.5 if task == "logistic_regression" else 0.25, 300)
    classes, counts = random.random(1500) < expit(margin), random.poisson(np.exp(margin))
    y = (classes if task == "logistic_regression" else counts).astype(float)
    group = group_of("intercept_slopes", np.arange(-1, 300, dtype=np.int32))
    variance, strength = np.array([1.0, 0.25]), np.array([0.0] + [1.0] * 300)
    objective = objective_of(task, X, y, strength / 0.25)
    u = minimize(objective, np.zeros(301), gtol=1e-6, max_iterations=100).w
    exact = sums_at(objective, u, strength, group, variance, "intercept_slopes")
    monkeypatch.setattr(automatic_l2, "DENSE_LIMIT", 10)
    probed = sums_at(objective, u, strength, group, variance, "intercept_slopes")
    np.testing.assert_array_equal(probed.squares, exact.squares)
    np.testing.assert_array_equal(probed.count, exact.count)
    determined = exact.count[1] - exact.shrunk[1]
    assert probed.shrunk[1] == pytest.approx(exact.shrunk[1], abs=0.05 * determined)
    assert probed.corrections[1] == pytest.approx(exact.corrections[1], abs=0.05 * exact.squares[1])
    assert abs(exact.corrections[1]) > 0.01 * exact.squares[1]  # else nothing was tested
    monkeypatch.setattr(automatic_l2, "_PROBES", 200)
    many = sums_at(objective, u, strength, group, variance, "intercept_slopes")
    assert many.shrunk[1] == pytest.approx(exact.shrunk[1], abs=0.01 * determined)
    assert many.corrections[1] == pytest.approx(exact.corrections[1], rel=0.1)


def test_many_features_find_nearly_the_same_l2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, data = simulated("logistic_regression", 1500, 120, 0.3)
    exact, _ = train(tmp_path / "dense", config(), data)
    monkeypatch.setattr(automatic_l2, "DENSE_LIMIT", 10)
    probed, _ = train(tmp_path / "probed", config(), data)
    assert probed["l2"]["converged"]
    assert probed["l2"]["used"]["slopes"] == pytest.approx(exact["l2"]["used"]["slopes"], rel=0.1)


@pytest.mark.parametrize("mode", ["intercept_slopes", "feature"])
def test_without_signal_the_slopes_vanish(tmp_path: Path, mode: str) -> None:
    random = np.random.default_rng(6)
    X = random.normal(size=(300, 8))
    y = np.tile([0.0, 1.0], 150)
    X = X - X.mean(axis=0)
    X -= np.outer(y - 0.5, (y - 0.5) @ X) / 75  # no feature is correlated with the label
    result, w = train(tmp_path, config(l2={"auto": mode}), Rows(label=y, bags={"global": X}))
    assert np.all(np.isfinite(w))
    assert np.abs(w[1:]).max() < 1e-2
    assert max(result["l2"]["next"].values()) <= 1.001e6
    assert result["l2"]["rounds"] <= 12


def test_each_feature_its_own(tmp_path: Path) -> None:
    random = np.random.default_rng(7)
    X = random.normal(size=(1000, 6))
    y = (random.random(1000) < expit(1.5 * X[:, 0])).astype(float)
    data = Rows(label=y, bags={"global": X})
    result, w = train(tmp_path / "feature", config(l2={"auto": "feature"}), data)
    told = result["l2"]
    l2 = 1 / np.load(tmp_path / "feature" / "run" / "passes" / "01" / "global" / "l2" / "next.npy")
    assert l2[1] < 1.0 < min(l2[2:])
    assert told["next"]["slopes_least"] == pytest.approx(l2[1])
    assert told["next"]["slopes_median"] == pytest.approx(np.median(l2[1:]))
    assert w[1] > 1.2


def test_normalised_and_with_a_penalised_intercept(tmp_path: Path) -> None:
    """In standardised features a coefficient's size does not depend on the features' units, and so neither does λ."""
    X, data = simulated("logistic_regression", 400, 10, 0.5)
    scaled = Rows(label=data.label, bags={"global": X * np.logspace(-2, 2, 10) + 3.0})
    settings: dict[str, Any] = {"normalization": "standardization", "regularize_intercept": True}
    first, _ = train(tmp_path / "one", config(**settings), data)
    second, _ = train(tmp_path / "two", config(**settings), scaled)
    assert first["l2"]["used"] == pytest.approx(second["l2"]["used"], rel=1e-4)
    assert first["l2"]["used"]["intercept"] > 0
    one, _ = train(tmp_path / "three", config(l2={"auto": "coordinate"}, **settings), data)
    assert len(one["l2"]["used"]) == 1


def test_a_later_pass_starts_from_the_l2_of_the_one_before(tmp_path: Path) -> None:
    _, data = simulated("logistic_regression", 400, 10, 0.5)
    content = config()
    content["coordinates"]["bias"] = {"fixed_effect": {}}
    run = make_run(tmp_path, content | {"passes": {"max": 2}}, data)
    results = {step.id: execute(run, step) for step in run.plan.steps if step.kind in {"train_fixed", "evaluate"}}
    first, second = results[STEP]["l2"], results["pass_02.global.train"]["l2"]
    assert second["rounds"] < first["rounds"]
    assert second["used"]["slopes"] == pytest.approx(first["next"]["slopes"], rel=1e-2)


def test_too_many_features_for_one_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, data = simulated("logistic_regression", 50, 10, 0.5)
    monkeypatch.setattr(training, "DENSE_LIMIT", 9)
    with pytest.raises(ConfigError, match="up to 9 features can have it"):
        train(tmp_path, config(l2={"auto": "feature"}), data)
