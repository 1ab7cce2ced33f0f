"""The per-entity solver on the smoothed hinge, whose curvature jumps: SciPy's optimum, and finite in every case."""

from __future__ import annotations

import numpy as np
import pytest
from entity_problem import Entity, Model, Objective, assert_optimal, random_entity, solve
from hypothesis import given, settings
from hypothesis import strategies as st

from gdmix_core.solvers.entity.newton import CONVERGED


@settings(max_examples=80, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    shapes=st.lists(st.tuples(st.integers(1, 60), st.integers(0, 30)), min_size=1, max_size=3),
    density=st.sampled_from([0.1, 0.5, 1.0]),
    intercept=st.booleans(),
    regularize_intercept=st.booleans(),
    l2=st.floats(-3, 3).map(lambda x: 10.0**x),
    weights=st.sampled_from([0.0, 1.0, 3.0]),
    offsets=st.sampled_from([0.0, 1.0, 10.0]),
    dense_limit=st.sampled_from([0, 1000]),
)
def test_objective_is_within_1e9_of_scipys_best(
    seed, shapes, density, intercept, regularize_intercept, l2, weights, offsets, dense_limit
):
    rng = np.random.default_rng(seed)
    entities = [
        random_entity(rng, "smoothed_hinge", n, d, density=density, weights=weights, offsets=offsets) for n, d in shapes
    ]
    # Where one row weighs as much as a thousand others, its piece of the hinge is hard to find.
    limit = 100 if weights < 3.0 else 300
    model = Model("smoothed_hinge", intercept, l2, regularize_intercept, max_iterations=limit, dense_limit=dense_limit)
    assert_optimal(entities, solve(entities, model), model)


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 50])
@pytest.mark.parametrize("dense_limit", [0, 1000])
def test_without_any_penalty_the_loss_is_scipys(rows: int, dense_limit: int):
    """There may be many optima, but they have one value."""
    for seed in range(10):
        entity = random_entity(np.random.default_rng(seed), "smoothed_hinge", rows, 4, weights=0.3)
        model = Model("smoothed_hinge", l2=0.0, dense_limit=dense_limit)
        found = solve([entity], model)
        objective = Objective(entity, found.features[0], model)
        assert np.isfinite(found.theta[0]).all()
        assert found.status[0] == CONVERGED
        assert objective.value(found.theta[0]) <= objective.best() + 1e-7 * entity.weight.sum()


@pytest.mark.parametrize("label", [0.0, 1.0])
@pytest.mark.parametrize("l2", [0.0, 1.0])
@pytest.mark.parametrize("regularize_intercept", [False, True])
@pytest.mark.parametrize("offset", [0.0, 50.0, -50.0])
def test_one_class_has_a_finite_optimum(label: float, l2: float, regularize_intercept: bool, offset: float):
    entity = random_entity(np.random.default_rng(2), "smoothed_hinge", 20, 4)
    entity.label[:] = label
    entity.offset += offset
    model = Model("smoothed_hinge", l2=l2, regularize_intercept=regularize_intercept)
    found = solve([entity], model)
    objective = Objective(entity, found.features[0], model)
    assert found.status[0] == CONVERGED
    assert objective.value(found.theta[0]) <= objective.best() + 1e-7 * entity.weight.sum()
    if not regularize_intercept or l2 == 0.0:
        # Nothing holds the intercept: every row gets beyond its margin.
        assert objective.value(found.theta[0]) <= 1e-6 * entity.weight.sum()
    assert np.abs(found.theta[0]).max() < 1e3


@pytest.mark.parametrize("margin", [0.0, 1.0, -1.0])
def test_rows_that_lie_on_a_joint_at_the_start(margin: float):
    rng = np.random.default_rng(4)
    entity = Entity(rng.normal(size=(12, 3)), (np.arange(12) % 2).astype(float), np.ones(12), np.full(12, margin))
    model = Model("smoothed_hinge", l2=0.1)
    found = solve([entity], model)
    assert_optimal([entity], found, model)


@pytest.mark.parametrize("weight", [1e-9, 1e-3, 1e6, 1e9])
def test_weights_of_any_size(weight: float):
    entity = random_entity(np.random.default_rng(6), "smoothed_hinge", 30, 4)
    entity.weight *= weight
    model = Model("smoothed_hinge", l2=1.0, regularize_intercept=True)
    found = solve([entity], model)
    objective = Objective(entity, found.features[0], model)
    assert np.isfinite(found.theta[0]).all()
    assert objective.value(found.theta[0]) <= objective.best() + 1e-6 * entity.weight.sum()


def test_a_start_far_away_leads_to_the_same_optimum():
    entity = random_entity(np.random.default_rng(7), "smoothed_hinge", 40, 6)
    model = Model("smoothed_hinge", l2=0.5, regularize_intercept=True)
    cold = solve([entity], model)
    for size in (1.0, 10.0, 100.0):
        warm = solve([entity], model, [size * np.ones(len(cold.theta[0]))])
        assert warm.theta[0] == pytest.approx(cold.theta[0], abs=1e-5)
