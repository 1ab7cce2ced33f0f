"""Global metrics against scikit-learn, against counting pairs one by one, and as properties."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from gdmix_core.errors import DataError
from gdmix_core.metrics import all_rows

Rows = tuple[np.ndarray, np.ndarray, np.ndarray]

# Few distinct scores, so that ties are the rule; and any finite ones.
scores = st.one_of(st.sampled_from([-1.5, -0.0, 0.0, 0.25, 3.0]), st.floats(-50, 50))
weights = st.one_of(st.sampled_from([0.1, 0.2, 0.3, 1.0]), st.floats(1e-3, 1e3))


def rows_of(labels: st.SearchStrategy[float]) -> st.SearchStrategy[Rows]:
    row = st.tuples(labels, scores, weights)
    return st.lists(row, min_size=1, max_size=40).map(
        lambda rows: tuple(np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))  # type: ignore[arg-type,return-value]
    )


binary_rows = rows_of(st.sampled_from([0.0, 1.0]))


def auc_by_pairs(label: np.ndarray, score: np.ndarray, weight: np.ndarray) -> float:
    """The definition, in exact arithmetic: the weight of rightly ordered pairs over that of all pairs."""
    right, total = Fraction(0), Fraction(0)
    for i, j in itertools.product(np.flatnonzero(label == 1), np.flatnonzero(label == 0)):
        pair = Fraction(weight[i]) * Fraction(weight[j])
        total += pair
        right += pair * (Fraction(1, 2) if score[i] == score[j] else int(score[i] > score[j]))
    return float(right / total) if total else math.nan


def random_rows(n: int, seed: int, positive: float = 0.3) -> Rows:
    random = np.random.default_rng(seed)
    score = np.round(random.normal(size=n), 2)
    return (random.random(n) < positive).astype(float), score, random.gamma(2.0, size=n)


@settings(deadline=None)
@given(binary_rows)
def test_auc_counts_pairs(rows: Rows) -> None:
    assert all_rows.auc(*rows) == pytest.approx(auc_by_pairs(*rows), rel=1e-12, nan_ok=True)


@pytest.mark.parametrize("seed", range(3))
def test_auc_agrees_with_scikit_learn(seed: int) -> None:
    label, score, weight = random_rows(5000, seed)
    expected = sklearn_metrics.roc_auc_score(label, score, sample_weight=weight)
    assert all_rows.auc(label, score, weight) == pytest.approx(expected, rel=1e-12)
    assert all_rows.auc(label, score) == pytest.approx(sklearn_metrics.roc_auc_score(label, score), rel=1e-12)


@pytest.mark.parametrize(
    ("label", "score", "expected"),
    [
        ([0, 0, 1, 1], [1, 2, 3, 4], 1.0),
        ([0, 0, 1, 1], [4, 3, 2, 1], 0.0),
        ([0, 1, 0, 1], [7, 7, 7, 7], 0.5),
        ([0, 1], [0.0, -0.0], 0.5),
        ([-1, 1, 1], [0, 1, -1], 0.5),
    ],
)
def test_auc_of_known_orders(label: list[float], score: list[float], expected: float) -> None:
    assert all_rows.auc(label, score) == expected


def test_auc_never_exceeds_one() -> None:
    # Ten weights of 0.1 sum to less than one: the ratio of rounded sums could pass 1.
    for n in range(1, 200):
        label = np.repeat([0.0, 1.0], n)
        assert all_rows.auc(label, np.arange(2.0 * n), np.full(2 * n, 0.1)) <= 1.0


@pytest.mark.parametrize("label", [[1.0, 1.0], [0.0, 0.0], []])
def test_auc_of_one_class_is_undefined(label: list[float]) -> None:
    assert math.isnan(all_rows.auc(label, np.zeros(len(label))))


def test_auc_of_one_weighted_class_is_undefined() -> None:
    assert math.isnan(all_rows.auc([0.0, 1.0], [0.0, 1.0], [0.0, 2.0]))


@settings(deadline=None)
@given(binary_rows)
def test_auc_is_symmetric(rows: Rows) -> None:
    label, score, weight = rows
    mirrored = all_rows.auc(1.0 - label, -score, weight)
    assert mirrored == pytest.approx(all_rows.auc(label, score, weight), rel=1e-12, nan_ok=True)


@settings(deadline=None)
@given(binary_rows)
def test_logloss_agrees_with_scikit_learn(rows: Rows) -> None:
    label, score, weight = rows
    score = np.clip(score, -15, 15)  # beyond, scikit-learn's probabilities lose the digits that margins keep
    probability = 1.0 / (1.0 + np.exp(-score))
    expected = sklearn_metrics.log_loss(label, probability, sample_weight=weight, labels=[0, 1])
    assert all_rows.logloss(label, score, weight) == pytest.approx(expected, rel=1e-9)


def test_logloss_is_stable_far_out() -> None:
    assert all_rows.logloss([1.0], [1000.0]) == 0.0
    assert all_rows.logloss([0.0], [1000.0]) == 1000.0
    assert all_rows.logloss([1.0], [40.0]) == pytest.approx(math.exp(-40), rel=1e-12)
    assert all_rows.logloss([0.3], [0.0]) == pytest.approx(math.log(2), rel=1e-15)


@settings(deadline=None)
@given(rows_of(st.floats(-100, 100)))
def test_squared_errors_agree_with_scikit_learn(rows: Rows) -> None:
    label, score, weight = rows
    mse = sklearn_metrics.mean_squared_error(label, score, sample_weight=weight)
    rmse = sklearn_metrics.root_mean_squared_error(label, score, sample_weight=weight)
    assert all_rows.mse(label, score, weight) == pytest.approx(mse, rel=1e-12)
    assert all_rows.rmse(label, score, weight) == pytest.approx(rmse, rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_poisson_loss_is_half_the_deviance_up_to_a_constant(seed: int) -> None:
    random = np.random.default_rng(seed)
    label, score, weight = (
        random.poisson(3.0, 500) + 1.0,
        random.normal(size=500),
        random.gamma(2.0, size=500),
    )
    deviance = sklearn_metrics.mean_poisson_deviance(label, np.exp(score), sample_weight=weight)
    saturated = np.average(label - label * np.log(label), weights=weight)
    assert all_rows.poisson_loss(label, score, weight) == pytest.approx(deviance / 2 + saturated, rel=1e-12)


def test_poisson_loss_of_a_diverged_model_is_finite_and_enormous() -> None:
    loss = all_rows.poisson_loss([1.0, 2.0], [0.0, 1e6])
    assert math.isfinite(loss)
    assert loss > 1e200


@settings(deadline=None)
@given(rows_of(st.sampled_from([0.0, 1.0])))
def test_smoothed_hinge_follows_its_three_branches(rows: Rows) -> None:
    label, score, weight = rows
    losses = []
    for y, z in zip(label, score, strict=True):
        t = z if y == 1.0 else -z
        losses.append(0.5 - t if t <= 0 else 0.5 * (1 - t) ** 2 if t < 1 else 0.0)
    assert all_rows.smoothed_hinge(label, score, weight) == pytest.approx(np.average(losses, weights=weight), abs=1e-12)


@pytest.mark.parametrize("metric", all_rows.GLOBAL_METRICS.values(), ids=list(all_rows.GLOBAL_METRICS))
@settings(deadline=None)
@given(rows=binary_rows, random=st.randoms(use_true_random=False))
def test_row_order_does_not_change_a_bit(metric: Callable[..., float], rows: Rows, random: object) -> None:
    order = list(range(len(rows[0])))
    random.shuffle(order)  # type: ignore[attr-defined]
    np.testing.assert_equal(metric(*(column[order] for column in rows)), metric(*rows))


@pytest.mark.parametrize("metric", all_rows.GLOBAL_METRICS.values(), ids=list(all_rows.GLOBAL_METRICS))
def test_row_order_does_not_change_a_bit_in_long_vectors(metric: Callable[..., float]) -> None:
    rows = random_rows(100_003, seed=5)
    reference = metric(*rows)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(rows[0]))
        assert metric(*(column[order] for column in rows)) == reference


@pytest.mark.parametrize("metric", all_rows.GLOBAL_METRICS.values(), ids=list(all_rows.GLOBAL_METRICS))
@settings(deadline=None)
@given(rows=binary_rows, extra=binary_rows)
def test_rows_of_weight_zero_are_absent(metric: Callable[..., float], rows: Rows, extra: Rows) -> None:
    label, score, _ = extra
    padded = tuple(np.concatenate(pair) for pair in zip(rows, (label, score, np.zeros(len(label))), strict=True))
    np.testing.assert_equal(metric(*padded), metric(*rows))


@pytest.mark.parametrize("metric", all_rows.GLOBAL_METRICS.values(), ids=list(all_rows.GLOBAL_METRICS))
def test_no_rows_have_no_metric(metric: Callable[..., float]) -> None:
    assert math.isnan(metric([], [], []))


def test_overflow_is_infinite_not_an_error() -> None:
    assert all_rows.mse([0.0, 0.0], [1e154, 1.3e154]) == math.inf
    assert all_rows.mse([0.0], [1e200]) == math.inf


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (([0, 1], [0.5, math.nan]), "score of row 1 is nan"),
        (([0, math.inf], [0.5, 0.5]), "label of row 1 is inf"),
        (([0, 1], [0.5, 0.5], [-1, 1]), "weight of row 0 is -1.0"),
        (([0, 1], [0.5, 0.5], [1, math.nan]), "weight of row 1 is nan"),
        (([0, 1], [0.5]), "one length"),
        (([[0, 1]], [[0.5, 1]]), "one value a row"),
    ],
)
def test_unusable_columns_are_named(columns: tuple[list[float], ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        all_rows.auc(*columns)


@given(
    st.lists(st.tuples(st.floats(-3, 3).map(lambda z: round(z, 1)), st.booleans()), max_size=60),
)
def test_auc_of_rows_of_one_weight_is_that_of_rows_of_another(rows: list[tuple[float, bool]]) -> None:
    score, label = [z for z, _ in rows], [y for _, y in rows]
    np.testing.assert_equal(all_rows.auc(label, score), all_rows.auc(label, score, np.full(len(rows), 2.0)))


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=80))
def test_exact_sums_are_rounded_once(values: list[float]) -> None:
    try:
        expected = math.fsum(values)
    except OverflowError:
        expected = math.inf
    assert all_rows.exact_sum(np.array(values)) == expected
