"""Variances, leverages and the sums of l2: auto at a solution, against NumPy's dense inverse and statsmodels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from entity_problem import Entity, Model, Objective, random_entity, solve
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gdmix_core.solvers.entity import posterior
from gdmix_core.solvers.entity.posterior import FULL, SIMPLE
from tests.solvers.losses import loss_formulas
from tests.solvers.losses.loss_formulas import LOSS_NAMES


def some_entities(rng: np.random.Generator, loss: str, count: int = 3) -> list[Entity]:
    shapes = [(int(rng.integers(1, 40)), int(rng.integers(0, 12))) for _ in range(count)]
    return [random_entity(rng, loss, n, d, weights=0.7) for n, d in shapes]


@pytest.mark.parametrize("proximal", [False, True])
@pytest.mark.parametrize("loss", LOSS_NAMES)
@settings(max_examples=15, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    intercept=st.booleans(),
    l2=st.sampled_from([0.1, 1.0, 30.0]),
    dense_limit=st.sampled_from([0, 8, 1000]),
)
def test_variances_are_those_of_the_dense_hessian(loss, proximal, seed, intercept, l2, dense_limit):
    entities = some_entities(np.random.default_rng(seed), loss)
    model = Model(
        loss, intercept, l2, regularize_intercept=True, dense_limit=dense_limit, proximal=proximal, tolerance=1e-8
    )
    for mode in (SIMPLE, FULL):
        found = solve(entities, replace(model, variance_mode=mode))
        for e, entity in enumerate(entities):
            if len(found.theta[e]) == 0:
                continue
            H = Objective(entity, found.features[e], model).hessian(found.theta[e])
            expected = 1 / np.diag(H) if mode == SIMPLE else np.diag(np.linalg.inv(H))
            assert found.variances[e] == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize(("loss", "family"), [("logistic", "Binomial"), ("poisson", "Poisson"), ("linear", "Gaussian")])
def test_full_variances_without_penalty_are_statsmodels(loss: str, family: str):
    api = pytest.importorskip("statsmodels.api", reason="statsmodels is not installed")
    entity = random_entity(np.random.default_rng(5), loss, 80, 4, density=1.0, weights=0.3)
    found = solve([entity], Model(loss, l2=0.0, tolerance=1e-9, variance_mode=FULL))
    X = np.hstack([np.ones((80, 1)), entity.X])
    link = getattr(api.families, family)()
    fitted = api.GLM(entity.label, X, family=link, offset=entity.offset, freq_weights=entity.weight).fit(tol=1e-13)
    covariance = fitted.cov_params() / fitted.scale  # of linear models ours is that of unit noise
    assert found.theta[0] == pytest.approx(fitted.params, abs=1e-7)
    assert found.variances[0] == pytest.approx(np.diag(covariance), rel=1e-6)


@pytest.mark.parametrize("mode", [SIMPLE, FULL])
def test_a_direction_without_curvature_has_no_variance(mode: int):
    """All margins are beyond the hinge, where it is straight; the linear loss bends everywhere."""
    entity = Entity(np.ones((4, 1)), np.ones(4), np.ones(4), np.full(4, 5.0))
    hinge = solve([entity], Model("smoothed_hinge", l2=0.0, variance_mode=mode))
    assert np.isnan(hinge.variances[0]).all()
    penalised = solve([entity], Model("smoothed_hinge", l2=2.0, regularize_intercept=True, variance_mode=mode))
    assert penalised.variances[0] == pytest.approx([0.5, 0.5])
    assert np.isfinite(solve([entity], Model("linear", l2=0.1, variance_mode=mode)).variances[0]).all()


def test_an_entity_too_large_to_invert_has_simple_variances():
    size = posterior.LARGEST_INVERSE + 1
    rng = np.random.default_rng(0)
    X = np.zeros((size, size))
    X[np.arange(size), np.arange(size)] = rng.normal(size=size)
    X[np.arange(1, size), np.arange(size - 1)] = 0.5
    entity = Entity(X, rng.integers(0, 2, size).astype(float), np.ones(size), np.zeros(size))
    small = random_entity(rng, "logistic", 20, 4)
    model = Model(l2=1.0, intercept=False, variance_mode=FULL, groups=1)
    found = solve([entity, small], model)
    z = X @ found.theta[0]
    bend = loss_formulas.second("logistic", z, entity.label)
    assert found.variances[0] == pytest.approx(1 / (1.0 + (X**2).T @ bend), rel=1e-9)
    H = Objective(small, found.features[1], model).hessian(found.theta[1])
    assert found.variances[1] == pytest.approx(np.diag(np.linalg.inv(H)), rel=1e-9)
    assert found.sums[2, 0] == size + len(found.theta[1])
    assert np.isfinite(found.sums).all()


def expected_sums(
    entities: list[Entity], found_theta: list[NDArray], features: list[NDArray], model: Model, others: NDArray
) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
    """([4, groups] Σ λθ², Σ λc, Σ 1, Σ λV; leverage of each entity's rows), from dense matrices."""
    sums, leverages, first = np.zeros((4, model.groups)), [], 0
    for entity, theta, index in zip(entities, found_theta, features, strict=True):
        other = others[first : first + len(entity.label)]
        first += len(entity.label)
        if len(theta) == 0:
            leverages.append(np.zeros(len(entity.label)))
            continue
        objective = Objective(entity, index, model)
        V = np.linalg.inv(objective.hessian(theta))
        own = np.einsum("ij,jk,ik->i", objective.X, V, objective.X)
        third = loss_formulas.third(model.loss, objective.margins(theta))
        r = objective.X.T @ ((own + other) * entity.weight * third)
        c = (V @ r) * theta
        for j, g in enumerate(model.group(index)):
            sums[:, g] += (model.l2 * theta[j] ** 2, model.l2 * c[j], 1.0, model.l2 * V[j, j])
        leverages.append(own)
    return sums, leverages


@pytest.mark.parametrize("loss", LOSS_NAMES)
@settings(max_examples=15, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    intercept=st.booleans(),
    groups=st.sampled_from([1, 2, 4]),
    mode=st.sampled_from([posterior.NO_VARIANCES, SIMPLE, FULL]),
    spread=st.sampled_from([0.0, 0.5]),
)
def test_sums_and_leverages_are_those_of_the_formulas(loss, seed, intercept, groups, mode, spread):
    rng = np.random.default_rng(seed)
    entities = some_entities(rng, loss)
    others = spread * rng.random(sum(len(e.label) for e in entities))
    model = Model(loss, intercept, 0.8, regularize_intercept=True, tolerance=1e-9, groups=groups, variance_mode=mode)
    found = solve(entities, model, other_margin_variance=others)
    sums, leverages = expected_sums(entities, found.theta, found.features, model, others)
    np.testing.assert_allclose(found.sums, sums, rtol=1e-7, atol=1e-9)
    for got, expected in zip(found.leverage, leverages, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-9)


def test_other_leverage_moves_the_correction_and_nothing_else():
    entities = some_entities(np.random.default_rng(1), "logistic")
    rows = sum(len(e.label) for e in entities)
    model = Model(l2=0.8, regularize_intercept=True, groups=2)
    without, with_it = solve(entities, model), solve(entities, model, other_margin_variance=np.full(rows, 0.7))
    changed = ~np.isclose(without.sums, with_it.sums, rtol=1e-9)
    np.testing.assert_array_equal(changed.any(axis=1), [False, True, False, False])


def test_coefficients_of_no_group_take_no_part():
    """Group −1: a coefficient that has a prior of its own."""
    entity = random_entity(np.random.default_rng(2), "logistic", 30, 3, density=1.0)

    class OwnIntercept(Model):
        def group(self, features: NDArray[np.int32]) -> NDArray[np.int32]:
            return np.where(features == -1, -1, 0).astype(np.int32)

    settings_ = {"l2": 0.8, "regularize_intercept": True, "tolerance": 1e-9}
    found = solve([entity], OwnIntercept(**settings_, groups=1))
    both = Model(**settings_, groups=2)
    sums, _ = expected_sums([entity], found.theta, found.features, both, np.zeros(30))
    np.testing.assert_allclose(found.sums[:, 0], sums[:, 1], rtol=1e-7)
