"""The solver with L1 and bounds against SciPy's optimum (w = w⁺ − w⁻ under L-BFGS-B), and the optimum's conditions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from entity_problem import Entity, Model, Objective, Solution, assert_optimal, random_entity, solve
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import optimize

from gdmix_core.solvers.entity.newton import CONVERGED, ITERATION_LIMIT, NO_DATA, SEPARATED
from tests.solvers.losses.loss_formulas import LOSS_NAMES

KINDS = ("l1", "elastic_net", "bounds", "l1_and_bounds", "prior", "everything")


def best_of_scipy(objective: Objective) -> float:
    """The lowest F that L-BFGS-B comes to over the positive and negative parts of the coefficients."""
    size = objective.X.shape[1]
    positive = [(max(lo, 0.0), max(hi, 0.0)) for lo, hi in zip(objective.lower, objective.upper, strict=True)]
    negative = [(max(-hi, 0.0), max(-lo, 0.0)) for lo, hi in zip(objective.lower, objective.upper, strict=True)]

    def value(parts: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        w = parts[:size] - parts[size:]
        gradient = objective.gradient(w)
        total = objective.smooth(w) + objective.l1 @ (parts[:size] + parts[size:])
        return float(total), np.concatenate([gradient + objective.l1, objective.l1 - gradient])

    bounds = positive + negative
    start = np.clip(np.zeros(2 * size), [b[0] for b in bounds], [b[1] for b in bounds])
    options = {"maxiter": 3_000, "maxfun": 10_000, "ftol": 1e-16, "gtol": 1e-11}
    found = optimize.minimize(value, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
    return objective.value(found[:size] - found[size:])


def violation(objective: Objective, w: NDArray[np.float64]) -> float:
    """How far w is from the optimum's conditions: 0 in the subdifferential, of those moves that the bounds allow."""
    g = objective.gradient(w)
    up = np.where(w >= 0, g + objective.l1, g - objective.l1)  # slope to the right
    down = np.where(w <= 0, g - objective.l1, g + objective.l1)  # slope coming from the left
    rising = np.where(w < objective.upper, np.maximum(-up, 0), 0)
    falling = np.where(w > objective.lower, np.maximum(down, 0), 0)
    return float(np.max(np.maximum(rising, falling), initial=0.0))


def assert_solved(entities: list[Entity], found: Solution, model: Model, *, compare: bool = True) -> None:
    for e, entity in enumerate(entities):
        objective, w = Objective(entity, found.features[e], model), found.theta[e]
        assert np.isfinite(w).all()
        assert (w >= objective.lower).all(), "outside its bounds"
        assert (w <= objective.upper).all(), "outside its bounds"
        if len(w) == 0:
            assert found.status[e] == NO_DATA
            continue
        assert found.status[e] == CONVERGED, found.status[e]
        goal = model.tolerance * max(1.0, entity.weight.sum())
        at_start = np.abs(objective.gradient(np.clip(0 * w, objective.lower, objective.upper))).max()
        assert violation(objective, w) <= 1.01 * goal + 1e-9 * at_start
        assert not compare or objective.value(w) <= best_of_scipy(objective) + 1e-8 * objective.scale(w)
        assert found.objective[e] == pytest.approx(objective.value(w), rel=1e-8, abs=1e-8 * objective.scale(w))


def model_of(kind: str, loss: str, rng: np.random.Generator, features: int, strength: float) -> Model:
    model = Model(loss, l2=0.0, regularize_intercept=bool(rng.integers(2)), tolerance=1e-8, proximal=True)
    if kind in ("l1", "l1_and_bounds"):
        model.l1 = strength
    if kind in ("elastic_net", "prior", "everything"):
        model.l1, model.l2 = 0.5 * strength, 0.5 * strength
    if kind in ("bounds", "l1_and_bounds", "everything"):
        model.l2 = model.l2 or 0.1
        low, high = np.sort(rng.normal(0, 0.7, (2, features + 1)), axis=0)
        model.lower = np.where(rng.random(features + 1) < 0.6, low, -np.inf)
        model.upper = np.where(rng.random(features + 1) < 0.6, high, np.inf)
    if kind in ("prior", "everything"):
        model.prior = rng.normal(size=features + 1)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loss", LOSS_NAMES)
@settings(max_examples=5, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    shapes=st.lists(st.tuples(st.integers(8, 40), st.integers(0, 12)), min_size=1, max_size=2),
    strength=st.floats(-1, 1.5).map(lambda x: 10.0**x),
    weights=st.sampled_from([0.0, 1.0]),
)
def test_the_optimum_is_scipys(kind, loss, seed, shapes, strength, weights):
    rng = np.random.default_rng(seed)
    entities = [random_entity(rng, loss, n, d, weights=weights) for n, d in shapes]
    for entity in entities:
        entity.label[:2] = (0.0, 1.0)  # with one class a free intercept has no optimum
        entity.offset[:2] = 0.0
    model = model_of(kind, loss, rng, max(d for _, d in shapes), strength)
    assert_solved(entities, solve(entities, model), model)


@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_l1_sets_coefficients_to_exactly_0(loss: str):
    entity = random_entity(np.random.default_rng(1), loss, 60, 12, density=1.0, weights=0.2)
    model = Model(loss, l2=0.0, tolerance=1e-8, proximal=True)
    smooth = Objective(entity, solve([entity], model).features[0], model)
    # Above the largest slope where all but the intercept are 0 nothing else is left; below, something is.
    bare = Entity(entity.X[:, :0], entity.label, entity.weight, entity.offset)
    alone = solve([bare], model).theta[0][0]
    largest = np.abs(smooth.gradient(np.concatenate([[alone], np.zeros(12)]))[1:]).max()
    above = solve([entity], replace(model, l1=1.001 * largest)).theta[0]
    assert not above[1:].any()
    assert above[0] == pytest.approx(alone, abs=1e-5)
    below = solve([entity], replace(model, l1=0.99 * largest)).theta[0]
    assert np.count_nonzero(below[1:]) >= 1
    between = solve([entity], replace(model, l1=0.4 * largest)).theta[0][1:]
    assert 0 < np.count_nonzero(between) < 12


@pytest.mark.parametrize("loss", LOSS_NAMES)
@pytest.mark.parametrize("regularize_intercept", [False, True])
def test_without_l1_and_bounds_it_is_the_newton_solver(loss: str, regularize_intercept: bool):
    rng = np.random.default_rng(3)
    entities = [random_entity(rng, loss, int(rng.integers(10, 60)), int(rng.integers(0, 20))) for _ in range(6)]
    model = Model(loss, l2=0.5, regularize_intercept=regularize_intercept, tolerance=1e-9, prior=rng.normal(size=21))
    proximal = replace(model, proximal=True, lower=np.full(21, -np.inf), upper=np.full(21, np.inf))
    for a, b in zip(solve(entities, proximal).theta, solve(entities, model).theta, strict=True):
        assert a == pytest.approx(b, abs=1e-6)


@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_the_intercept_bears_no_l1_unless_it_is_asked_for(loss: str):
    entity = random_entity(np.random.default_rng(4), loss, 40, 3, offsets=0.1)
    entity.label = np.where(np.arange(40) % 4, 1.0, 0.0)
    free = solve([entity], Model(loss, l2=0.0, l1=1e4, proximal=True)).theta[0]
    assert not free[1:].any()
    assert abs(free[0]) > 0.1
    held = solve([entity], Model(loss, l2=0.0, l1=1e4, regularize_intercept=True, proximal=True)).theta[0]
    assert not held.any()


@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_bounds_that_exclude_the_start_and_the_free_optimum_hold_exactly(loss: str):
    entity = random_entity(np.random.default_rng(5), loss, 50, 6, density=1.0)
    inf = np.inf
    lower = np.array([-inf, 0.1, 0.3, -inf, -inf, -0.01, 2.0])
    upper = np.array([inf, 0.2, inf, -0.3, -0.7, 0.01, 2.5])
    model = Model(loss, l2=0.01, tolerance=1e-8, lower=lower, upper=upper, proximal=True)
    found = solve([entity], model)
    assert_solved([entity], found, model)
    assert set(found.theta[0]) & {0.1, 0.2, 0.3, -0.3, -0.7, -0.01, 0.01, 2.0, 2.5}


@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_a_large_entity(loss: str):
    entity = random_entity(np.random.default_rng(6), loss, 300, 500, density=0.05, weights=0.2)
    model = Model(loss, l2=0.1, l1=0.5, tolerance=1e-7, proximal=True)
    found = solve([entity], model)
    assert len(found.theta[0]) == 501
    assert_solved([entity], found, model, compare=loss == "logistic")
    assert 0 < np.count_nonzero(found.theta[0]) < 400


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class(label: float):
    entity = random_entity(np.random.default_rng(7), "logistic", 20, 4)
    entity.label[:] = label
    free = solve([entity], Model(l2=0.0, l1=1.0, proximal=True))
    assert free.status[0] == SEPARATED
    assert np.isfinite(free.theta[0]).all()
    assert np.sign(free.theta[0][0]) == 2 * label - 1
    held = Model(l2=0.0, l1=0.3, regularize_intercept=True, tolerance=1e-8, proximal=True)
    assert_solved([entity], solve([entity], held), held)
    bounded = Model(l2=0.1, tolerance=1e-8, lower=np.full(5, -2.0), upper=np.full(5, 2.0), proximal=True)
    found = solve([entity], bounded)
    assert_solved([entity], found, bounded)
    assert found.theta[0][0] == 2.0 * (2 * label - 1)


@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_few_rows_many_features_and_empty_bags(loss: str):
    rng = np.random.default_rng(8)
    entities = [random_entity(rng, loss, n, 30, density=1.0) for n in (1, 2, 5)]
    empty = random_entity(rng, loss, 12, 30)
    empty.X[:] = 0.0
    model = Model(loss, l2=0.01, l1=0.2, regularize_intercept=True, tolerance=1e-8, proximal=True)
    assert_solved([*entities, empty], solve([*entities, empty], model), model)
    nothing = solve([empty], Model(loss, intercept=False, l1=1.0, proximal=True))
    assert nothing.status[0] == NO_DATA


def test_the_iteration_limit_is_told():
    entity = random_entity(np.random.default_rng(9), "logistic", 50, 10)
    found = solve([entity], Model(l2=0.01, l1=0.1, max_iterations=1, proximal=True))
    assert (found.status[0], found.iterations[0]) == (ITERATION_LIMIT, 1)


def test_a_start_far_off_is_brought_within_the_bounds():
    entity = random_entity(np.random.default_rng(10), "poisson", 40, 5)
    model = Model("poisson", l2=0.1, tolerance=1e-8, lower=np.full(6, -1.0), upper=np.full(6, 1.0), proximal=True)
    cold = solve([entity], model)
    warm = solve([entity], model, [np.full(len(cold.theta[0]), 1e6)])
    assert warm.theta[0] == pytest.approx(cold.theta[0], abs=1e-6)


def test_assert_optimal_agrees_on_a_smooth_problem():
    """The oracle of this file and that of the smooth solver judge the same model."""
    entity = random_entity(np.random.default_rng(11), "logistic", 40, 5)
    model = Model(l2=0.5, regularize_intercept=True, tolerance=1e-9, proximal=True)
    found = solve([entity], model)
    assert_solved([entity], found, model)
    assert_optimal([entity], found, model)
