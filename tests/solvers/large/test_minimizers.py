"""The three minimisers on random problems: each must end where the conditions of the optimum hold."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gdmix_core.data.ragged import Bag
from gdmix_core.solvers.large import lbfgs, newton_cg, projected_newton
from gdmix_core.solvers.large.nonsmooth import Constraints
from gdmix_core.solvers.large.objective import GlobalObjective
from gdmix_core.solvers.large.optimize_result import OptimizeResult
from gdmix_core.solvers.large.scaling import Penalty, ScaledObjective, Scaling
from gdmix_core.solvers.losses import LOSS_OF_TASK
from gdmix_core.workers.all_reduce import SharedObjective, SingleWorker
from tests.effects.penalized_oracle import Oracle, losses

TASKS = tuple(LOSS_OF_TASK)


def objective_of(oracle: Oracle, scaling: Scaling | None = None) -> ScaledObjective:
    n, d = oracle.X.shape
    bag = Bag(np.arange(n + 1) * d, np.tile(np.arange(d, dtype=np.int32), n), oracle.X.ravel())
    own = GlobalObjective(
        LOSS_OF_TASK[oracle.task], bag, d, oracle.label, oracle.weight, oracle.offset, intercept=True, threads=2
    )  # fmt: skip
    penalty = Penalty(oracle.l2, oracle.centre, oracle.precision, oracle.mean)
    return ScaledObjective(SharedObjective(own, SingleWorker()), penalty, scaling)


@st.composite
def problems(draw: st.DrawFn, constrained: bool, scaled: bool = True) -> Oracle:
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    task = draw(st.sampled_from(TASKS))
    n, d = draw(st.integers(1, 40)), draw(st.integers(1, 6))
    largest = 0 if task == "poisson_regression" else draw(st.integers(0, 2))  # a bound may ask for e^(0.2 x)
    X = random.normal(size=(n, d))
    if scaled:
        X *= np.logspace(-draw(st.integers(0, 2)), largest, d)
    if draw(st.booleans()):
        X[:, -1] = X[:, 0]
    X[random.random((n, d)) < draw(st.sampled_from([0.0, 0.7]))] = 0.0
    margin = 0.3 * X[:, 0]
    label = {
        "linear_regression": margin + random.normal(size=n),
        "poisson_regression": random.poisson(np.exp(np.minimum(margin, 3.0))).astype(float),
    }.get(task, random.integers(0, 2, n).astype(float))
    l2 = np.full(d + 1, draw(st.sampled_from([1e-2, 1.0, 30.0])))
    oracle = Oracle(task, X, label, random.uniform(0.1, 3.0, n), random.normal(0, 0.5, n), l2)
    if constrained:
        oracle.l1 = np.where(random.random(d + 1) < 0.7, draw(st.sampled_from([0.0, 0.3, 3.0])), 0.0)
        lower = random.choice([-np.inf, -0.5, 0.0, 0.2], d + 1)
        oracle.lower, oracle.upper = lower, random.choice([np.inf, 0.3, 0.5], d + 1)
    return oracle


def assert_optimal(found: OptimizeResult, oracle: Oracle, gtol: float) -> None:
    assert found.converged, found.message
    assert found.gradient <= gtol
    assert oracle.violation(found.w) <= 1.001 * gtol + 1e-11 * np.abs(oracle.X).max() * oracle.weight.sum()
    assert found.objective == pytest.approx(oracle.value(found.w), rel=1e-10, abs=1e-10)
    assert np.all((found.w >= oracle.lower) & (found.w <= oracle.upper))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(problems(constrained=False), st.sampled_from([0, 100]))
def test_newton(oracle: Oracle, dense_limit: int) -> None:
    gtol = 1e-7 * max(1.0, oracle.weight.sum())
    start = np.zeros(oracle.X.shape[1] + 1)
    found = newton_cg.minimize(objective_of(oracle), start, gtol=gtol, max_iterations=200, dense_limit=dense_limit)
    assert_optimal(found, oracle, gtol)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(problems(constrained=True))
def test_projected_newton(oracle: Oracle) -> None:
    gtol = 1e-7 * max(1.0, oracle.weight.sum())
    constraints = Constraints(oracle.l1, oracle.lower, oracle.upper)
    start = np.zeros(oracle.X.shape[1] + 1)
    found = projected_newton.minimize(
        objective_of(oracle), start, gtol=gtol, max_iterations=500, constraints=constraints
    )
    assert_optimal(found, oracle, gtol)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(problems(constrained=True, scaled=False))
def test_lbfgs(oracle: Oracle) -> None:
    gtol = 1e-5 * max(1.0, oracle.weight.sum())
    constraints = Constraints(oracle.l1, oracle.lower, oracle.upper)
    found = lbfgs.minimize(
        objective_of(oracle).value_and_gradient, np.zeros(oracle.X.shape[1] + 1), gtol=gtol, max_iterations=5000,
        constraints=constraints,
    )  # fmt: skip
    assert_optimal(found, oracle, gtol)


@pytest.mark.parametrize("task", TASKS)
def test_derivatives_in_scaled_variables(task: str) -> None:
    """Gradient, Hessian, its products and its diagonal against differences and dense algebra."""
    random = np.random.default_rng(1)
    X = random.normal(2.0, 1.0, (50, 4))
    label = random.integers(0, 2, 50).astype(float)
    penalty = random.uniform(0, 1, (4, 5))
    oracle = Oracle(
        task, X, label, random.uniform(0.5, 2, 50), random.normal(size=50), penalty[0], "standardization",
        centre=penalty[1], precision=penalty[2], mean=penalty[3],
    )  # fmt: skip
    scaling = Scaling.of_features(1 / X.std(axis=0, ddof=1), X.mean(axis=0))
    objective = objective_of(oracle, scaling)
    u, v = random.normal(0.0, 0.3, (2, 5))
    w = scaling.to_original(u)
    np.testing.assert_allclose(w, oracle.T @ u)
    np.testing.assert_allclose(scaling.to_scaled(w), u)
    value, gradient = objective.value_and_gradient(u)
    expected_value, expected = oracle.smooth(w)
    assert value == pytest.approx(expected_value, rel=1e-12)
    np.testing.assert_allclose(gradient, oracle.T.T @ expected, rtol=1e-9)
    objective.value_and_gradient(v)  # whatever was evaluated last
    objective.move_to(u)
    H = oracle.T.T @ oracle.hessian(w) @ oracle.T
    np.testing.assert_allclose(objective.hessian(), H, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(objective.product(v), H @ v, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(objective.diagonal(), np.diag(H), rtol=1e-8)
    np.testing.assert_allclose(scaling.covariance_to_original(H), oracle.T @ H @ oracle.T.T, rtol=1e-8, atol=1e-8)


def test_a_flat_loss_is_left_by_the_gradient() -> None:
    """Every row of this hinge is on the straight part: no curvature anywhere, and no penalty."""
    X = np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    oracle = Oracle("smoothed_hinge", X, np.ones(3), np.ones(3), np.full(3, -50.0), np.zeros(3))
    for dense_limit in (0, 100):
        found = newton_cg.minimize(
            objective_of(oracle), np.zeros(3), gtol=1e-6, max_iterations=200, dense_limit=dense_limit
        )
        assert found.converged, found.message
        assert losses("smoothed_hinge", oracle.A @ found.w - 50.0, oracle.label)[0].sum() < 1e-9


def test_factors_of_what_is_not_positive_definite() -> None:
    """Two equal columns and one of zeros; and where no small change helps, for which the diagonal has to do."""
    A = np.array([[1.0, 1.0, 0.0], [2.0, 2.0, 0.0], [0.5, 0.5, 0.0]])
    step = newton_cg.factored(A.T @ A)(np.array([1.0, 1.0, 0.0]))
    np.testing.assert_allclose(A.T @ A @ step, [1.0, 1.0, 0.0], rtol=1e-8)
    indefinite = np.array([[1.0, 3.0], [3.0, 2.0]])
    np.testing.assert_array_equal(newton_cg.factored(indefinite)(np.array([1.0, 1.0])), [1.0, 0.5])


def test_it_says_why_it_stopped() -> None:
    random = np.random.default_rng(2)
    X = random.normal(size=(50, 4))
    oracle = Oracle("logistic_regression", X, (X[:, 0] > 0).astype(float), np.ones(50), np.zeros(50), np.full(5, 0.1))
    arguments: dict[str, Any] = {"gtol": 1e-9, "max_iterations": 1}
    for found in (
        newton_cg.minimize(objective_of(oracle), np.zeros(5), **arguments),
        projected_newton.minimize(objective_of(oracle), np.zeros(5), constraints=Constraints.none(5), **arguments),
    ):
        assert not found.converged
        assert found.iterations == 1
        assert "limit of iterations" in found.message


def test_each_iteration_is_told() -> None:
    random = np.random.default_rng(3)
    X = random.normal(size=(80, 4))
    label = random.integers(0, 2, 80).astype(float)
    oracle = Oracle("logistic_regression", X, label, np.ones(80), np.zeros(80), np.full(5, 1.0))
    told: list[tuple[int, float, NDArray[np.float64]]] = []
    found = newton_cg.minimize(
        objective_of(oracle), np.zeros(5), gtol=1e-8, max_iterations=50, on_iteration=lambda *a: told.append(a)
    )
    assert [number for number, _, _ in told] == list(range(1, found.iterations + 1))
    np.testing.assert_array_equal(told[-1][2], found.w)
    values = [value for _, value, _ in told]
    fall = newton_cg.ROUNDING * values[0]
    assert all(after <= before + fall for before, after in itertools.pairwise(values))
