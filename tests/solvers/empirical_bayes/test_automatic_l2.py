"""Groups, pooling, limits and the accelerated fixed point of l2: auto, by their formulas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdmix_core.solvers.empirical_bayes.fixed_point import (
    AVERAGE_COEFFICIENTS,
    MAX_VARIANCE,
    MIN_VARIANCE,
    FixedPoint,
    Sums,
    group_count,
    group_of,
    updated_variance,
)


def sums(squares, corrections, count, shrunk) -> Sums:
    return Sums.from_rows(np.array([squares, corrections, count, shrunk], np.float64))


def test_groups():
    features = np.array([-1, 0, 3, 7], np.int32)
    assert group_of("coordinate", features).tolist() == [0, 0, 0, 0]
    assert group_of("intercept_slopes", features).tolist() == [0, 1, 1, 1]
    assert group_of("feature", features).tolist() == [0, 1, 4, 8]
    assert [group_count(mode, 8) for mode in ("coordinate", "intercept_slopes", "feature")] == [1, 2, 9]
    for mode in ("coordinate", "intercept_slopes", "feature"):
        found = group_of(mode, np.arange(-1, 8, dtype=np.int32))
        assert found.dtype == np.int32
        assert sorted(set(found.tolist())) == list(range(group_count(mode, 8)))


@given(st.lists(st.integers(0, 5), max_size=30), st.integers(0, 2**32 - 1))
def test_sums_of_parts_add_up_to_those_of_the_whole(owners: list[int], seed: int):
    rows = np.random.default_rng(seed).random((len(owners), 4, 3))
    total = Sums.zero(3)
    for part in range(6):
        mine = rows[[owner == part for owner in owners]] if owners else rows
        total += Sums.from_rows(mine.sum(axis=0))
    np.testing.assert_allclose(total.rows(), rows.sum(axis=0), rtol=1e-12, atol=1e-15)


def test_the_update_is_signal_over_determined_coefficients():
    found = updated_variance(sums([8, 3], [2, -1], [10, 4], [6, 2]), np.ones(2), "intercept_slopes")
    assert found == pytest.approx([(8 - 2) / (10 - 6), (3 + 1) / (4 - 2)])


def test_a_group_without_coefficients_keeps_its_variance():
    found = updated_variance(sums([4, 0], [0, 0], [8, 0], [4, 0]), np.array([1.0, 0.37]), "intercept_slopes")
    assert found == pytest.approx([1.0, 0.37])


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ([0.0, 0.0, 10, 5], MIN_VARIANCE),  # coefficients of 0
        ([1.0, 2.0, 10, 5], MIN_VARIANCE),  # the correction eats all signal
        ([1.0, 0.0, 10, 10], MIN_VARIANCE),  # nothing determined by the data
        ([1.0, 0.0, 10, 10.5], MIN_VARIANCE),  # nor beyond rounding
        ([1e9, 0.0, 10, 5], MAX_VARIANCE),
    ],
)
def test_the_variance_is_bounded(row, expected):
    assert updated_variance(sums(*[[x] for x in row]), np.ones(1), "coordinate") == [expected]


@given(st.integers(0, 2**32 - 1))
def test_feature_mode_pools_each_feature_with_the_average_one(seed: int):
    rng = np.random.default_rng(seed)
    count = rng.integers(0, 20, 6).astype(float)
    squares, corrections, shrunk = 3 * rng.random(6) * count, 0.2 * rng.random(6) * count, 0.9 * rng.random(6) * count
    before = np.exp(rng.normal(size=6))
    found = updated_variance(sums(squares, corrections, count, shrunk), before, "feature")
    signal, determined = np.maximum(squares - corrections, 0), count - shrunk
    average = signal[1:].sum() / determined[1:].sum() if count[1:].any() else None
    for g in range(6):
        if count[g] == 0:
            expected = before[g]
        elif g == 0:  # the intercept is not one of the features
            expected = signal[0] / determined[0]
        else:
            more = AVERAGE_COEFFICIENTS
            expected = (signal[g] + more * average) / (determined[g] + more)
        assert found[g] == pytest.approx(max(expected, MIN_VARIANCE), rel=1e-12)


def test_in_feature_mode_a_feature_without_evidence_takes_the_average():
    found = updated_variance(sums([1, 30, 0], [0, 0, 0], [2, 40, 5], [1, 10, 5]), np.ones(3), "feature")
    assert found == pytest.approx([1.0, 1.0, 1.0])


def test_without_any_slope_feature_mode_does_no_harm():
    assert updated_variance(sums([2], [0], [4], [2]), np.ones(1), "feature") == pytest.approx([1.0])
    found = updated_variance(sums([2, 0, 0], [0, 0, 0], [4, 0, 0], [2, 0, 0]), np.array([1, 2, 3.0]), "feature")
    assert found == pytest.approx([1.0, 2.0, 3.0])


# The fixed point


def contraction(slopes: np.ndarray, limit: np.ndarray):
    """log σ² ↦ limit + slopes · (log σ² − limit)."""
    return lambda variance: np.exp(limit + slopes * (np.log(variance) - limit))


def rounds(update, start: np.ndarray, *, accelerated: bool, tolerance: float = 1e-6) -> tuple[int, np.ndarray]:
    point, variance = FixedPoint(start, tolerance), start
    for number in range(1, 2001):
        if accelerated:
            point.advance(update(point.variance))
            variance = point.variance
            if point.converged:
                return number, variance
        else:
            updated = update(variance)
            done = np.abs(np.log(updated / variance)).max() <= tolerance
            variance = updated
            if done:
                return number, variance
    raise AssertionError("no convergence")


@pytest.mark.parametrize("slope", [0.3, 0.7, 0.85, 0.95])
def test_it_converges_faster_than_the_plain_iteration(slope: float):
    update = contraction(np.full(3, slope), np.log([0.3, 2.0, 40.0]))
    plain, _ = rounds(update, np.ones(3), accelerated=False)
    fast, variance = rounds(update, np.ones(3), accelerated=True)
    assert fast < plain
    assert fast <= (12 if slope < 0.9 else 30)
    assert variance == pytest.approx([0.3, 2.0, 40.0], rel=1e-3)


def test_a_linear_map_is_solved_in_three_rounds():
    """The secant of the first two steps points at the limit, as far as a step may go."""
    point = FixedPoint(np.ones(2))
    update = contraction(np.array([0.5, 0.8]), np.array([0.5, -0.4]))
    for _ in range(2):
        point.advance(update(point.variance))
    assert np.log(point.variance) == pytest.approx([0.5, -0.4], abs=1e-12)
    point.advance(update(point.variance))
    assert point.converged


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_groups_converge_to_their_own_limits_from_anywhere(seed: int, groups: int):
    rng = np.random.default_rng(seed)
    limit, start = rng.uniform(-8, 8, groups), np.exp(rng.uniform(-8, 8, groups))
    _, variance = rounds(contraction(rng.uniform(-0.5, 0.9, groups), limit), start, accelerated=True)
    assert np.log(variance) == pytest.approx(limit, abs=1e-3)


@given(st.integers(0, 2**32 - 1))
def test_it_never_leaves_the_bounds_whatever_it_is_told(seed: int):
    rng = np.random.default_rng(seed)
    point = FixedPoint(np.ones(3))
    for _ in range(40):
        point.advance(np.exp(rng.uniform(np.log(MIN_VARIANCE), np.log(MAX_VARIANCE), 3)))
        assert np.isfinite(point.variance).all()
        assert (point.variance >= MIN_VARIANCE).all()
        assert (point.variance <= MAX_VARIANCE).all()


@pytest.mark.parametrize("end", [MIN_VARIANCE, MAX_VARIANCE])
def test_a_map_that_drives_to_a_bound_ends_there(end: float):
    factor = 0.5 if end == MIN_VARIANCE else 2.0
    _, variance = rounds(lambda v: np.clip(factor * v, MIN_VARIANCE, MAX_VARIANCE), np.ones(1), accelerated=True)
    assert variance == pytest.approx([end])
