"""Feature selection of small entities against NumPy's correlations over the dense rows."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gdmix_core.config.coordinate import Coordinate
from gdmix_core.data.entity_rows import EntityRows
from gdmix_core.data.ragged import Bag
from gdmix_core.effects.random.entity_models import FittedModels, fit_entity_models
from gdmix_core.solvers.entity.feature_selection import correlations, select_features, without_unused
from gdmix_core.solvers.entity.local_index import build_local_index


def packed(X: NDArray[np.float64]) -> Bag:
    """Zeros are features that a row does not have."""
    listed = [np.flatnonzero(row) for row in X]
    offsets = np.concatenate([[0], np.cumsum([len(i) for i in listed])]).astype(np.int64)
    indices = np.concatenate([np.empty(0), *listed]).astype(np.int32)
    return Bag(offsets, indices, np.concatenate([np.empty(0), *(r[i] for r, i in zip(X, listed, strict=True))]))


def strengths(X: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """|Pearson's r| of each column with y by NumPy; 0 where either is constant."""
    found = np.zeros(X.shape[1])
    for j in range(X.shape[1]):
        if np.ptp(X[:, j]) > 0 and np.ptp(y) > 0:
            found[j] = abs(np.corrcoef(X[:, j], y)[0, 1])
    return found


def selected(
    X: NDArray[np.float64], y: NDArray[np.float64], ratio: float, intercept: bool, lengths: list[tuple[int, int]]
) -> tuple[list[list[int]], NDArray[np.float64]]:
    """(features kept of each entity, the rows as its model sees them, dense). lengths: (rows, of them training)."""
    bag = packed(X)
    end = np.cumsum([n for n, _ in lengths])
    begin = end - [n for n, _ in lengths]
    active = begin + [n for _, n in lengths]
    local = np.empty(len(bag.indices), np.int32)
    coefficient_begin, listed = (
        np.empty(len(lengths) + 1, np.int64),
        np.empty(len(bag.indices) + len(lengths), np.int32),
    )
    build_local_index(
        intercept, X.shape[1], begin, active, end, bag.offsets, bag.indices, local, coefficient_begin, listed
    )
    used = select_features(
        ratio, intercept, begin, active, end, bag.offsets, local, bag.values, y, coefficient_begin, listed
    )
    assert used == coefficient_begin[-1]
    kept = [listed[a:b].tolist() for a, b in pairwise(coefficient_begin)]
    offsets, local, values = without_unused(bag.offsets, local, bag.values)
    assert (local >= 0).all()
    dense = np.zeros_like(X)
    for e in range(len(lengths)):
        for i in range(begin[e], end[e]):
            for s in range(offsets[i], offsets[i + 1]):
                dense[i, kept[e][local[s]]] = values[s]
    return kept, dense


@settings(max_examples=60, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    lengths=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 3)), min_size=1, max_size=4),
    ratio=st.sampled_from([0.1, 0.25, 0.5, 1.0, 2.0]),
    intercept=st.booleans(),
    continuous=st.booleans(),
)
def test_the_most_correlated_features_are_kept(seed, lengths, ratio, intercept, continuous):
    rng = np.random.default_rng(seed)
    lengths = [(rows + passive, rows) for rows, passive in lengths]
    total = sum(n for n, _ in lengths)
    X = np.round(rng.normal(size=(total, 10)), 6 if continuous else 0) * (rng.random((total, 10)) < 0.6)
    y = rng.integers(0, 2, total).astype(float)
    kept, dense = selected(X, y, ratio, intercept, lengths)
    first = 0
    for found, (rows, training) in zip(kept, lengths, strict=True):
        mine = slice(first, first + training)
        present = np.flatnonzero(X[mine].any(axis=0))
        strength = strengths(X[mine], y[mine])
        wanted = min(math.ceil(ratio * training), len(present))
        features = found[1:] if intercept else found
        assert not intercept or found[0] == -1
        assert features == sorted(set(features))
        assert set(features) <= set(present.tolist())
        assert len(features) == wanted
        rest = [j for j in present if j not in features]
        if features and rest:
            assert strength[features].min() >= strength[rest].max() - 1e-9
        # Rows beyond the training ones are scored with the same features.
        expected = np.where(np.isin(np.arange(10), features), X[first : first + rows], 0.0)
        np.testing.assert_array_equal(dense[first : first + rows], expected)
        first += rows


@settings(max_examples=100, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 12), shift=st.sampled_from([0.0, 1e4]))
def test_correlations_are_numpys_with_absent_entries_as_0(seed, rows, shift):
    rng = np.random.default_rng(seed)
    X = (rng.normal(size=(rows, 6)) + shift) * (rng.random((rows, 6)) < 0.7)
    X[:, 2] = 3.5  # constant and present
    X[:, 3] = 0.0
    y = rng.normal(size=rows)
    bag = packed(X)
    found = correlations(6, 0, rows, bag.offsets, bag.indices, bag.values, y)
    np.testing.assert_allclose(np.abs(found), strengths(X, y), atol=1e-7)
    assert found[2] == found[3] == 0.0


def test_signs_are_those_of_pearson():
    X = np.array([[1.0, -1.0], [2.0, -2.0], [3.0, -3.5]])
    bag = packed(X)
    y = np.array([0.0, 1.0, 2.0])
    found = correlations(2, 0, 3, bag.offsets, bag.indices, bag.values, y)
    np.testing.assert_allclose(found, [np.corrcoef(X[:, j], y)[0, 1] for j in (0, 1)], atol=1e-12)


def test_of_equals_the_first_are_kept():
    y = np.array([0.0, 1.0, 0.0, 1.0])
    column = y + 0.5
    X = np.column_stack([np.full(4, 2.0), column, column, -column, column])
    kept, _ = selected(X, y, 0.5, True, [(4, 4)])
    assert kept == [[-1, 1, 2]]


def test_constants_come_last():
    y = np.array([0.0, 1.0, 0.0, 1.0])
    weak = np.array([0.0, 0.1, 0.1, 0.1])
    X = np.column_stack([np.full(4, 0.1), np.full(4, 7.0), weak])
    assert selected(X, y, 0.25, True, [(4, 4)])[0] == [[-1, 2]]
    assert selected(X, y, 0.5, True, [(4, 4)])[0] == [[-1, 0, 2]]


def test_with_one_class_the_first_features_are_kept():
    X = np.random.default_rng(0).normal(size=(3, 5))
    assert selected(X, np.ones(3), 0.5, True, [(3, 3)])[0] == [[-1, 0, 1]]


@pytest.mark.parametrize(("ratio", "rows", "wanted"), [(0.3, 3, 1), (0.34, 3, 2), (0.001, 4, 1), (1.0, 4, 4)])
def test_the_number_is_rounded_up(ratio: float, rows: int, wanted: int):
    rng = np.random.default_rng(1)
    kept, _ = selected(rng.normal(size=(rows, 8)), rng.random(rows), ratio, False, [(rows, rows)])
    assert len(kept[0]) == wanted


def test_an_entity_without_training_rows_has_no_features():
    rng = np.random.default_rng(2)
    kept, dense = selected(rng.normal(size=(5, 4)), rng.random(5), 0.5, True, [(2, 0), (3, 3)])
    assert kept[0] == []
    assert not dense[:2].any()
    assert len(kept[1]) == 3


def test_training_on_selected_features_is_training_on_a_bag_of_these_alone():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(12, 8)) * (rng.random((12, 8)) < 0.8)
    y = rng.integers(0, 2, 12).astype(float)
    lengths = [(7, 7), (5, 5)]
    kept, only = selected(X, y, 0.4, True, lengths)
    assert [len(k) - 1 for k in kept] == [3, 2]

    def fitted(rows: NDArray[np.float64], **effect: float) -> FittedModels:
        coordinate = Coordinate.model_validate({"random_effect": {"entity": "u", **effect}, "bag": "b", "l2": 0.3})
        begin, end, row = np.array([0, 7]), np.array([7, 12]), np.arange(12)
        data = EntityRows(pa.array([1, 2]), begin, end, row, y, np.ones(12), np.zeros(12), packed(rows))
        return fit_entity_models(data, coordinate, "logistic_regression", 8)

    found, expected = fitted(X, features_to_samples=0.4), fitted(only)
    assert found.table.features.tolist() == expected.table.features.tolist() == kept[0] + kept[1]
    np.testing.assert_array_equal(found.table.means, expected.table.means)
    np.testing.assert_array_equal(found.scores, expected.scores)
