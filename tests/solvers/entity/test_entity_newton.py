"""The per-entity solver against SciPy's optimum of the same objective, and on what data may hold of odd shapes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from entity_problem import LARGEST_SANE_MARGIN, Entity, Model, Objective, assert_optimal, random_entity, solve
from hypothesis import given, settings
from hypothesis import strategies as st

from gdmix_core.solvers.entity.newton import CONVERGED, ITERATION_LIMIT, NO_DATA, SEPARATED

LOSS_NAMES = ("logistic", "linear", "poisson")


@pytest.mark.slow
@settings(deadline=None, max_examples=50, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    loss=st.sampled_from(LOSS_NAMES),
    shapes=st.lists(st.tuples(st.integers(1, 60), st.integers(0, 40)), min_size=1, max_size=3),
    density=st.sampled_from([0.1, 0.5, 1.0]),
    intercept=st.booleans(),
    regularize_intercept=st.booleans(),
    l2=st.floats(-3, 3).map(lambda x: 10.0**x),
    weights=st.sampled_from([0.0, 1.0, 3.0]),
    offsets=st.sampled_from([0.0, 1.0, 10.0]),
    dense_limit=st.sampled_from([0, 8, 1000]),
    value_dtype=st.sampled_from([np.float32, np.float64]),
)
def test_objective_is_within_1e9_of_scipys_best(
    seed, loss, shapes, density, intercept, regularize_intercept, l2, weights, offsets, dense_limit, value_dtype
):
    rng = np.random.default_rng(seed)
    entities = [random_entity(rng, loss, n, d, density=density, weights=weights, offsets=offsets) for n, d in shapes]
    model = Model(loss, intercept, l2, regularize_intercept, dense_limit=dense_limit, value_dtype=value_dtype)
    assert_optimal(entities, solve(entities, model), model)


@settings(deadline=None, max_examples=25, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), loss=st.sampled_from(LOSS_NAMES), l2=st.sampled_from([1e-3, 1.0, 1e3]))
def test_dense_and_conjugate_gradient_steps_lead_to_the_same_model(seed, loss, l2):
    rng = np.random.default_rng(seed)
    entities = [random_entity(rng, loss, int(rng.integers(1, 60)), int(rng.integers(1, 40))) for _ in range(3)]
    dense = solve(entities, Model(loss, l2=l2, regularize_intercept=True, dense_limit=1000))
    cg = solve(entities, Model(loss, l2=l2, regularize_intercept=True, dense_limit=0))
    assert list(dense.status) == list(cg.status) == [CONVERGED] * 3
    for entity, a, b in zip(entities, dense.theta, cg.theta, strict=True):
        # F is at least l2-convex: an error of eps in F is one of sqrt(2 eps / l2) in theta, far below that in practice.
        assert np.abs(a - b).max() <= 1e-4 * max(1.0, np.abs(a).max()), entity.label


@pytest.mark.parametrize("loss", LOSS_NAMES)
@pytest.mark.parametrize("dense_limit", [0, 1000])
def test_warm_start_leads_to_the_same_optimum(loss, dense_limit):
    rng = np.random.default_rng(5)
    entities = [random_entity(rng, loss, 40, 8) for _ in range(4)]
    model = Model(loss, l2=0.3, regularize_intercept=True, dense_limit=dense_limit)
    cold = solve(entities, model)
    for spread in (0.0, 0.1, 3.0):
        warm = solve(entities, model, [theta + rng.normal(0, spread, len(theta)) for theta in cold.theta])
        assert_optimal(entities, warm, model)
        if spread == 0.0:
            assert warm.iterations.max() <= 2


@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_a_gradient_far_below_what_objectives_can_show_is_reached(loss):
    """Where the decrease of F drowns in its rounding, a line search must not cut the steps down to nothing."""
    rng = np.random.default_rng(0)
    entities = [random_entity(rng, loss, int(rng.integers(3, 60)), 5, weights=0.3, offsets=0.3) for _ in range(200)]
    model = Model(loss, l2=0.4, regularize_intercept=True, tolerance=1e-9)
    found = solve(entities, model)
    assert (found.status == CONVERGED).all()
    assert found.iterations.max() <= 25
    for e, entity in enumerate(entities):
        gradient = Objective(entity, found.features[e], model).gradient(found.theta[e])
        assert np.abs(gradient).max() <= 1e-9 * max(1.0, entity.weight.sum())


def test_models_do_not_depend_on_the_neighbours():
    rng = np.random.default_rng(1)
    entities = [random_entity(rng, "logistic", int(n), 6) for n in (1, 400, 3, 17)]
    model = Model(l2=0.5, regularize_intercept=True)
    together = solve(entities, model)
    for e, entity in enumerate(entities):
        alone = solve([entity], model)
        assert np.array_equal(alone.theta[0], together.theta[e])


# Shapes that data have


@pytest.mark.parametrize("label", [0.0, 1.0])
@pytest.mark.parametrize("dense_limit", [0, 1000])
def test_one_class_with_a_free_intercept_is_unbounded_and_stays_finite(label, dense_limit):
    rng = np.random.default_rng(2)
    entity = random_entity(rng, "logistic", 20, 4)
    entity.label[:] = label
    found = solve([entity], Model(l2=1.0, dense_limit=dense_limit))
    assert found.status[0] == SEPARATED
    margins = entity.X[:, found.features[0][1:]] @ found.theta[0][1:] + found.theta[0][0]
    assert np.isfinite(found.theta[0]).all()
    assert np.abs(margins).max() < LARGEST_SANE_MARGIN
    assert (np.sign(margins + entity.offset) == (1 if label else -1)).all()


def test_one_class_with_a_penalised_intercept_has_an_optimum():
    rng = np.random.default_rng(2)
    entity = random_entity(rng, "logistic", 20, 4)
    entity.label[:] = 1
    model = Model(l2=1.0, regularize_intercept=True)
    found = solve([entity], model)
    assert found.status[0] == CONVERGED
    assert_optimal([entity], found, model)


def test_a_poisson_entity_without_any_count_is_unbounded():
    entity = Entity(np.zeros((6, 0)), np.zeros(6), np.ones(6), np.zeros(6))
    found = solve([entity], Model("poisson"))
    assert found.status[0] == SEPARATED
    assert -LARGEST_SANE_MARGIN < found.theta[0][0] < -5


def test_poisson_counts_whose_loss_is_negative_have_an_optimum():
    # e^z − y z is below zero at the optimum as soon as the mean exceeds e.
    counts = np.array([10.0, 20, 30, 40])
    entity = Entity(np.zeros((4, 0)), counts, np.ones(4), np.zeros(4))
    found = solve([entity], Model("poisson"))
    assert found.status[0] == CONVERGED
    assert found.theta[0][0] == pytest.approx(np.log(counts.mean()), rel=1e-9)


@pytest.mark.parametrize("size", [1e3, 1e6, 1e9])
def test_linear_labels_of_any_size_are_fitted(size):
    rng = np.random.default_rng(3)
    entity = random_entity(rng, "linear", 30, 5)
    entity.label *= size
    model = Model("linear", l2=0.1)
    found = solve([entity], model)
    assert found.status[0] == CONVERGED
    assert found.iterations[0] <= 5
    assert_optimal([entity], found, model)


@pytest.mark.parametrize("loss", LOSS_NAMES)
@pytest.mark.parametrize("dense_limit", [0, 1000])
@pytest.mark.parametrize("value", [1.0, 1e-3, 1e3])
def test_a_constant_feature_beside_a_free_intercept(loss, dense_limit, value):
    rng = np.random.default_rng(4)
    entity = random_entity(rng, loss, 30, 3)
    entity.X[:, 1] = value
    entity.label[:2] = (0.0, 1.0)
    for l2 in (0.0, 1.0):
        model = Model(loss, l2=l2, dense_limit=dense_limit)
        assert_optimal([entity], solve([entity], model), model)


@pytest.mark.parametrize("loss", LOSS_NAMES)
@pytest.mark.parametrize("dense_limit", [0, 1000])
def test_collinear_features_without_penalty(loss, dense_limit):
    rng = np.random.default_rng(6)
    entity = random_entity(rng, loss, 60, 3, density=1.0)
    entity.X = np.hstack([entity.X, entity.X[:, :2] @ rng.normal(size=(2, 2)), entity.X[:, :1]])
    model = Model(loss, l2=0.0, dense_limit=dense_limit)
    found = solve([entity], model)
    assert_optimal([entity], found, model)
    assert np.abs(found.theta[0]).max() < 1e3  # the null space is not wandered off into


@pytest.mark.parametrize("loss", LOSS_NAMES)
@pytest.mark.parametrize("dense_limit", [0, 1000])
def test_more_features_than_rows_without_penalty_stays_finite(loss, dense_limit):
    rng = np.random.default_rng(7)
    entities = [random_entity(rng, loss, n, 30, density=1.0) for n in (1, 2, 10)]
    found = solve(entities, Model(loss, l2=0.0, dense_limit=dense_limit))
    for e, entity in enumerate(entities):
        assert np.isfinite(found.theta[e]).all()
        objective = Objective(entity, found.features[e], Model(loss, l2=0.0))
        assert np.isfinite(found.objective[e])
        assert objective.value(found.theta[e]) <= objective.value(np.zeros(len(found.theta[e])))


@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_single_rows_empty_bags_and_intercept_only(loss):
    rng = np.random.default_rng(8)
    single = random_entity(rng, loss, 1, 5, density=1.0)
    some_empty = random_entity(rng, loss, 12, 5)
    some_empty.X[::2] = 0.0
    all_empty = random_entity(rng, loss, 12, 5)
    all_empty.X[:] = 0.0
    intercept_only = random_entity(rng, loss, 12, 0)
    entities = [single, some_empty, all_empty, intercept_only]
    for entity in entities[1:]:
        entity.label[:2] = (0.0, 1.0)
    for regularized, dense_limit in itertools.product((False, True), (0, 1000)):
        model = Model(loss, l2=0.7, regularize_intercept=regularized, dense_limit=dense_limit)
        found = solve(entities, model)
        assert_optimal(entities, found, model)
        assert len(found.theta[2]) == len(found.theta[3]) == 1


def test_without_intercept_and_features_there_is_no_model():
    rng = np.random.default_rng(8)
    entity = random_entity(rng, "logistic", 4, 3)
    entity.X[:] = 0.0
    found = solve([entity], Model(intercept=False))
    assert found.status[0] == NO_DATA
    assert len(found.theta[0]) == 0


def test_an_entity_larger_than_all_others_together():
    rng = np.random.default_rng(9)
    entities = [random_entity(rng, "logistic", n, 12, density=0.2) for n in (3, 20_000, 5, 1, 40)]
    model = Model(l2=1.0, regularize_intercept=True)
    assert_optimal(entities, solve(entities, model), model)


@pytest.mark.parametrize("dense_limit", [0, 1000])
@pytest.mark.parametrize("offset", [500.0, -500.0])
@pytest.mark.parametrize("regularized", [False, True])
def test_huge_offsets(offset, regularized, dense_limit):
    rng = np.random.default_rng(10)
    entity = random_entity(rng, "logistic", 30, 4)
    entity.label[:2] = (0.0, 1.0)
    model = Model(l2=1.0, regularize_intercept=regularized, dense_limit=dense_limit)
    for offsets in (np.full(30, offset), offset * np.where(np.arange(30) % 2, 1, -1)):
        entity.offset = offsets
        found = solve([entity], model)
        assert_optimal([entity], found, model)


@pytest.mark.parametrize("loss", ["linear", "poisson"])
@pytest.mark.parametrize("offset", [500.0, -500.0])
def test_huge_offsets_of_other_losses_stay_finite_and_are_told(loss, offset):
    rng = np.random.default_rng(10)
    entity = random_entity(rng, loss, 30, 4, offsets=0.1)
    entity.label[:2] = (0.0, 1.0)
    entity.offset += offset
    for regularized in (False, True):
        model = Model(loss, l2=1.0, regularize_intercept=regularized)
        found = solve([entity], model)
        assert np.isfinite(found.theta[0]).all()
        assert np.isfinite(found.objective[0])
        if found.status[0] == CONVERGED:
            assert_optimal([entity], found, model)
        else:  # a rate of e^500 at the start
            assert (loss, offset, found.status[0]) == ("poisson", 500.0, ITERATION_LIMIT)


@pytest.mark.parametrize("loss", LOSS_NAMES)
@pytest.mark.parametrize("weight", [1e-12, 1e-6, 1e6, 1e12])
def test_tiny_and_large_weights(loss, weight):
    rng = np.random.default_rng(11)
    entity = random_entity(rng, loss, 30, 4)
    entity.label[:2] = (0.0, 1.0)
    entity.weight *= weight
    for l2 in (0.0, 1.0):
        model = Model(loss, l2=l2)
        assert_optimal([entity], solve([entity], model), model)


@pytest.mark.parametrize("dense_limit", [0, 1000])
def test_the_iteration_limit_is_told(dense_limit):
    rng = np.random.default_rng(12)
    entity = random_entity(rng, "logistic", 50, 10)
    found = solve([entity], Model(l2=0.01, max_iterations=1, dense_limit=dense_limit))
    assert found.status[0] == ITERATION_LIMIT
    assert found.iterations[0] == 1
    assert np.isfinite(found.theta[0]).all()


def test_one_step_already_lowers_the_objective():
    rng = np.random.default_rng(12)
    entity = random_entity(rng, "logistic", 50, 10)
    model = Model(l2=0.01, max_iterations=1)
    found = solve([entity], model)
    objective = Objective(entity, found.features[0], model)
    assert objective.value(found.theta[0]) < objective.value(np.zeros(len(found.theta[0])))


def test_a_prior_is_what_the_penalty_pulls_to():
    """Without data pull (tiny weights) the coefficients are the prior; the solver's own call, with its own prior."""
    from gdmix_core.solvers.entity.problem import Entities, Features, Limits, Measures, Outcome, Penalty, Rows
    from gdmix_core.solvers.entity.solve import solve_entities
    from gdmix_core.solvers.losses import LINEAR

    theta, prior = np.zeros(2), np.array([1.5, -2.0])
    status, iterations, objective = np.empty(1, np.uint8), np.empty(1, np.int32), np.empty(1)
    bag = np.array([0, 1, 2]), np.array([0, 1], np.int32), np.array([1.0, 1.0])
    solve_entities(
        LINEAR,
        Entities(np.array([0]), np.array([2]), np.array([0, 2])),
        Rows(Features(False, *bag), np.array([3.0, 4.0]), np.array([2.0, 1e-12]), np.zeros(2)),
        theta,
        Penalty(np.array([2.0, 2.0]), prior),
        None,
        Limits(1e-9, 50, 128),
        Outcome(status, iterations, objective),
        Measures(0, np.empty(0), np.empty(0, np.int32), np.empty((4, 0)), np.empty(0), np.empty(0, np.float32)),
    )
    # weight (θ − y) + λ (θ − m) = 0
    assert theta == pytest.approx([(2 * 3 + 2 * 1.5) / 4, -2.0], abs=1e-9)
    assert status[0] == CONVERGED
