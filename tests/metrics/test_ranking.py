"""NDCG and MRR per group against scikit-learn, against every order of ties, and as properties."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import label_ranking_average_precision_score, ndcg_score

from gdmix_core.errors import ConfigError, DataError
from gdmix_core.metrics.all_rows import MetricValue
from gdmix_core.metrics.ranking import mrr_per_group, ndcg_per_group

PerGroup = Callable[..., MetricValue]
both = pytest.mark.parametrize("metric", [ndcg_per_group, mrr_per_group], ids=["ndcg", "mrr"])

small_group = st.lists(
    st.tuples(st.sampled_from([0.0, 0.0, 1.0, 0.3, 2.0]), st.sampled_from([-1.0, 0.0, 0.5])), min_size=1, max_size=6
)
grouped_rows = st.lists(
    st.tuples(
        st.sampled_from([0.0, 1.0, 0.7, 3.0]),
        st.sampled_from([-1.0, 0.0, 2.5]) | st.floats(-9, 9),
        st.sampled_from([0.1, 1.0, 2.0]),
        st.integers(0, 5),
    ),
    min_size=1,
    max_size=40,
).map(lambda rows: tuple(np.array(column) for column in zip(*rows, strict=True)))


def one_group(metric: PerGroup, label: np.ndarray, score: np.ndarray, k: int) -> float | None:
    return metric(label, score, None, np.zeros(len(label), np.int64), k).value


def mean_over_orders(label: np.ndarray, score: np.ndarray, of_ranked: Callable[[np.ndarray], float]) -> float:
    """The definition: rows in every order, sorted stably by descending score."""
    orders = list(itertools.permutations(range(len(label))))
    return float(np.mean([of_ranked(label[sorted(order, key=lambda row: -score[row])]) for order in orders]))


def dcg(ranked: np.ndarray, k: int) -> float:
    return float(sum((2.0**label - 1.0) / np.log2(place + 1) for place, label in enumerate(ranked[:k], start=1)))


def reciprocal_rank(ranked: np.ndarray, k: int) -> float:
    places = [place for place, label in enumerate(ranked[:k], start=1) if label > 0.5]
    return 1.0 / places[0] if places else 0.0


@pytest.mark.parametrize("k", [1, 3, 5, 100])
@pytest.mark.parametrize("graded", [False, True])
def test_ndcg_is_the_mean_of_scikit_learns(k: int, graded: bool) -> None:
    random = np.random.default_rng(k)
    n = 2000
    group = random.integers(0, 250, n)
    label = (random.integers(0, 4, n) if graded else random.random(n) < 0.2).astype(float)
    score = np.round(random.normal(size=n), 1)
    expected, without = [], 0
    for g in np.unique(group):
        rows = group == g
        if not label[rows].any():
            without += 1
        elif rows.sum() == 1:  # which scikit-learn refuses
            expected.append(1.0)
        else:
            expected.append(ndcg_score([2.0 ** label[rows] - 1.0], [score[rows]], k=k))
    assert graded or without > 0
    found = ndcg_per_group(label, score, random.gamma(2.0, size=n), group, k)
    assert found.value == pytest.approx(np.mean(expected), rel=1e-12)
    assert (found.groups_counted, found.groups_left_out) == (len(expected), without)


def test_mrr_is_scikit_learns_ranking_precision_where_one_row_is_positive() -> None:
    """With a single positive and no ties the label ranking average precision is its reciprocal rank."""
    random = np.random.default_rng(3)
    groups, size = 200, 7
    label = np.eye(size)[random.integers(0, size, groups)]
    score = random.normal(size=(groups, size))
    found = mrr_per_group(label.ravel(), score.ravel(), None, np.repeat(np.arange(groups), size), k=size)
    assert found == MetricValue(pytest.approx(label_ranking_average_precision_score(label, score)), groups, 0)  # type: ignore[arg-type]


@given(small_group, st.integers(1, 7))
def test_ties_count_as_the_mean_over_all_their_orders(rows: list[tuple[float, float]], k: int) -> None:
    label, score = (np.array(column) for column in zip(*rows, strict=True))
    ideal = dcg(np.sort(label)[::-1], k)
    found = one_group(ndcg_per_group, label, score, k)
    if ideal == 0.0:
        assert found is None
    else:
        assert found == pytest.approx(mean_over_orders(label, score, lambda ranked: dcg(ranked, k) / ideal), rel=1e-12)
    found = one_group(mrr_per_group, label, score, k)
    if (label > 0.5).any():
        expected = mean_over_orders(label, score, lambda ranked: reciprocal_rank(ranked, k))
        assert found == pytest.approx(expected, rel=1e-12, abs=1e-15)
    else:
        assert found is None


def test_of_known_groups() -> None:
    label = [1, 0, 1, 0, 1, 0, 0]
    score = [9, 8, 7, 1, 0, 5, 4]
    group = [0, 0, 0, 1, 1, 2, 2]
    # Group 1 has its positive second; group 2 has none and is left out.
    ndcg = ((1 + 1 / 2) / (1 + 1 / np.log2(3)) + 1 / np.log2(3)) / 2
    assert ndcg_per_group(label, score, None, group, 3) == MetricValue(pytest.approx(ndcg), 2, 1)  # type: ignore[arg-type]
    assert mrr_per_group(label, score, None, group, 3) == MetricValue(0.75, 2, 1)
    assert mrr_per_group(label, score, None, group, 1) == MetricValue(0.5, 2, 1)


def test_a_long_tie_is_no_trouble() -> None:
    """C(5000, 2500) would exceed float64; the first positive of so many lies close to place 1 / (1/2)."""
    label = np.repeat([0.0, 1.0], 2500)
    expected = sum(0.5**j / j for j in range(1, 60))
    assert one_group(mrr_per_group, label, np.zeros(5000), 5000) == pytest.approx(expected, rel=1e-3)
    assert one_group(mrr_per_group, np.ones(5000), np.zeros(5000), 5000) == 1.0


@both
@given(rows=grouped_rows, random=st.randoms(use_true_random=False), k=st.integers(1, 6))
def test_neither_row_order_nor_group_numbers_change_a_bit(metric: PerGroup, rows, random, k: int) -> None:
    order, numbers = list(range(len(rows[0]))), list(range(6))
    random.shuffle(order)
    random.shuffle(numbers)
    label, score, weight, group = (column[order] for column in rows)
    for renumbered in (np.array(numbers)[group], np.array(numbers)[group] * 10**12 - 3):
        assert metric(label, score, weight, renumbered, k) == metric(*rows, k)


@both
@given(rows=grouped_rows, k=st.integers(1, 6))
def test_weights_count_rows_once_and_those_of_zero_are_absent(metric: PerGroup, rows, k: int) -> None:
    label, score, weight, group = rows
    padded = (np.append(label, [1.0, 0.0]), np.append(score, [99.0, 98.0]), np.append(group, [group[0], 77]))
    found = metric(padded[0], padded[1], np.append(weight, [0.0, 0.0]), padded[2], k)
    assert found == metric(*rows, k) == metric(label, score, None, group, k)


@both
def test_values_stay_between_zero_and_one(metric: PerGroup) -> None:
    random = np.random.default_rng(0)
    label = np.round(random.gamma(1.0, size=3000), 2)
    group = random.integers(0, 60, 3000)
    assert metric(label, label, None, group, 20) == MetricValue(1.0, 60, 0)
    assert 0.0 < (metric(label, -label, None, group, 20).value or 0.0) < 0.5


@both
def test_no_rows_have_no_value(metric: PerGroup) -> None:
    assert metric([], [], [], np.array([], np.int64), 3) == MetricValue(None, 0, 0)


def test_what_cannot_be_used_is_an_error() -> None:
    for k in (0, -1):
        with pytest.raises(ConfigError, match="K must be at least 1"):
            ndcg_per_group([0, 1], [0.0, 1.0], None, [0, 0], k)
    for label in (-0.5, 501.0):
        with pytest.raises(DataError, match=f"grades.*label {label:g}"):
            ndcg_per_group([0, label], [0.0, 1.0], None, [0, 0], 3)
    with pytest.raises(DataError, match="one integer group code a row"):
        mrr_per_group([0, 1], [0.0, 1.0], None, [0.0, 1.0], 3)
