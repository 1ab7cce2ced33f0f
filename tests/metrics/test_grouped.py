"""Per-group metrics against scikit-learn group by group, against every order of ties, and as properties."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from gdmix_core.errors import ConfigError, DataError
from gdmix_core.metrics.all_rows import MetricValue, auc
from gdmix_core.metrics.grouped import auc_per_group, precision_per_group

GroupedRows = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def columns(rows: list[tuple[float, float, float, int]]) -> GroupedRows:
    label, score, weight, group = zip(*rows, strict=True)
    return np.array(label), np.array(score), np.array(weight), np.array(group, dtype=np.int64)


grouped_rows = st.lists(
    st.tuples(
        st.sampled_from([0.0, 1.0]),
        st.one_of(st.sampled_from([-1.0, 0.0, 2.5]), st.floats(-9, 9)),
        st.one_of(st.sampled_from([0.1, 0.2, 0.3, 1.0]), st.floats(1e-3, 1e3)),
        st.integers(0, 5),
    ),
    min_size=1,
    max_size=40,
).map(columns)


def expected_precision(label: np.ndarray, score: np.ndarray, k: int) -> Fraction:
    """Mean over every order of the rows, sorted stably by descending score: the definition, spelled out."""
    shown = min(k, len(label))
    orders = list(itertools.permutations(range(len(label))))
    hits = 0
    for order in orders:
        ranked = sorted(order, key=lambda row: -score[row])
        hits += int(sum(label[row] for row in ranked[:shown]))
    return Fraction(hits, shown * len(orders))


@pytest.mark.parametrize("seed", range(3))
def test_auc_is_the_mean_of_scikit_learns(seed: int) -> None:
    random = np.random.default_rng(seed)
    n = 3000
    group = random.integers(0, 400, n)
    label = (random.random(n) < 0.3).astype(float)
    score, weight = np.round(random.normal(size=n), 1), random.gamma(2.0, size=n)
    values, one_class = [], 0
    for g in np.unique(group):
        rows = group == g
        if len(set(label[rows])) == 2:
            values.append(roc_auc_score(label[rows], score[rows], sample_weight=weight[rows]))
        else:
            one_class += 1
    assert one_class > 0
    found = auc_per_group(label, score, weight, group)
    assert found.value == pytest.approx(np.mean(values), rel=1e-12)
    assert (found.groups_counted, found.groups_left_out) == (len(values), one_class)


@settings(deadline=None)
@given(grouped_rows)
def test_one_group_is_the_global_auc(rows: GroupedRows) -> None:
    label, score, weight, _ = rows
    found = auc_per_group(label, score, weight, np.zeros(len(label), dtype=np.int64))
    np.testing.assert_equal(found.value if found.value is not None else np.nan, auc(label, score, weight))


def test_groups_with_one_class_are_left_out() -> None:
    label, score, group = [0, 1, 1, 1, 0], [1.0, 2.0, 0.0, 5.0, 3.0], [0, 0, 1, 1, 2]
    assert auc_per_group(label, score, None, group) == MetricValue(1.0, groups_counted=1, groups_left_out=2)
    assert auc_per_group(label[2:], score[2:], None, group[2:]) == MetricValue(None, 0, 2)


def test_numbers_without_rows_are_no_groups() -> None:
    assert auc_per_group([0, 1], [0.0, 1.0], None, [3, 3]) == MetricValue(1.0, 1, 0)
    assert precision_per_group([0, 1], [0.0, 1.0], None, [3, 3], k=1) == MetricValue(1.0, 1, 0)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 1.0, 2.0])), min_size=1, max_size=6),
    st.integers(1, 8),
)
def test_precision_is_the_mean_over_all_orders_of_tied_rows(rows: list[tuple[float, float]], k: int) -> None:
    label, score = (np.array(column) for column in zip(*rows, strict=True))
    found = precision_per_group(label, score, None, np.zeros(len(label), dtype=np.int64), k)
    assert found.value == pytest.approx(float(expected_precision(label, score, k)), rel=1e-15)


def test_precision_of_known_groups() -> None:
    label = [1, 0, 1, 0, 0, 1, 0]
    score = [9, 8, 7, 6, 1, 1, 5]
    group = [0, 0, 0, 0, 1, 1, 2]
    # Top 3 of group 0: 2 hits of 3; group 1 has two rows, one a hit; group 2 has no hit and counts as 0.
    assert precision_per_group(label, score, None, group, k=3).value == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    # At 1, the two tied rows of group 1 are shown in either order.
    assert precision_per_group(label, score, None, group, k=1).value == pytest.approx((1 + 1 / 2 + 0) / 3)


def test_small_groups_are_divided_by_their_size() -> None:
    assert precision_per_group([1, 1], [0.0, 1.0], None, [0, 0], k=10).value == 1.0


def test_a_constant_score_has_the_base_rate_as_precision() -> None:
    label = np.array([1.0] * 3 + [0.0] * 7)
    assert precision_per_group(label, np.zeros(10), None, np.zeros(10, dtype=int), k=4).value == pytest.approx(0.3)


@settings(deadline=None)
@given(grouped_rows, st.randoms(use_true_random=False), st.integers(1, 6))
def test_neither_row_order_nor_group_numbers_change_a_bit(rows: GroupedRows, random: object, k: int) -> None:
    order, numbers = list(range(len(rows[0]))), list(range(6))
    random.shuffle(order)  # type: ignore[attr-defined]
    random.shuffle(numbers)  # type: ignore[attr-defined]
    label, score, weight, group = (column[order] for column in rows)
    for renumbered in (np.array(numbers)[group], np.array(numbers)[group] * 10**12 - 3):
        assert auc_per_group(label, score, weight, renumbered) == auc_per_group(*rows)
        assert precision_per_group(label, score, weight, renumbered, k) == precision_per_group(*rows, k)


def test_row_order_does_not_change_a_bit_in_long_vectors() -> None:
    random = np.random.default_rng(0)
    n = 50_000
    label, score = (random.random(n) < 0.2).astype(float), np.round(random.normal(size=n), 1)
    weight, group = random.gamma(2.0, size=n), random.integers(0, 90, n)
    order = random.permutation(n)
    shuffled = label[order], score[order], weight[order], group[order]
    assert auc_per_group(*shuffled) == auc_per_group(label, score, weight, group)
    assert precision_per_group(*shuffled, 7) == precision_per_group(label, score, weight, group, 7)


@settings(deadline=None)
@given(grouped_rows, st.integers(1, 6))
def test_rows_of_weight_zero_are_absent(rows: GroupedRows, k: int) -> None:
    label, score, weight, group = rows
    padded = (
        np.append(label, [1.0, 0.0]),
        np.append(score, [99.0, 98.0]),
        np.append(weight, [0.0, 0.0]),
        np.append(group, [group[0], 77]),
    )
    assert auc_per_group(*padded) == auc_per_group(*rows)
    assert precision_per_group(*padded, k) == precision_per_group(*rows, k)


def test_no_rows_have_no_value() -> None:
    nothing = np.array([], dtype=np.int64)
    assert auc_per_group([], [], [], nothing) == MetricValue(None, 0, 0)
    assert precision_per_group([], [], [], nothing, k=3) == MetricValue(None, 0, 0)


@pytest.mark.parametrize("group", [[0], [0.0, 1.0], ["a", "b"], [[0, 1]]])
def test_unusable_group_codes_are_an_error(group: list) -> None:
    with pytest.raises(DataError, match="one integer group code a row"):
        auc_per_group([0, 1], [0.0, 1.0], None, group)


def test_a_depth_below_one_is_an_error() -> None:
    with pytest.raises(ConfigError, match="K must be at least 1"):
        precision_per_group([0, 1], [0.0, 1.0], None, [0, 0], k=0)
