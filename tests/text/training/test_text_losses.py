"""Losses of a batch against loops over rows and pairs, and what weights and groups must and must not do."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gdmix_core.solvers.losses import LOSS_OF_TASK, loss_terms
from gdmix_core.text.training.losses import loss_sums
from tests.text.text_model import text_model

POINTWISE = [*LOSS_OF_TASK, "multiclass_classification", "multilabel_classification"]
RANKING = ["pairwise", "listwise"]
CLASSES = 3
Arrays = dict[str, NDArray[Any]]


def settings_of(kind: str) -> Any:
    return text_model(loss=kind, group="search") if kind in RANKING else text_model()


def rows_of(kind: str, rows: int, seed: int) -> Arrays:
    """Labels as the task has them; weights of which some are 0; three groups, of any codes."""
    random = np.random.default_rng(seed)
    classes = kind in ("multiclass_classification", "multilabel_classification")
    labels = random.integers(0, 2, rows).astype(np.float32)
    if kind == "multiclass_classification":
        labels = random.integers(0, CLASSES, rows).astype(np.int32)
    if kind == "multilabel_classification":
        labels = random.integers(0, 2, (rows, CLASSES)).astype(np.float32)
    if kind in ("linear_regression", "poisson_regression", *RANKING):
        labels = random.integers(0, 4, rows).astype(np.float32)
    return {
        "logits": 2 * random.standard_normal((rows, CLASSES) if classes else rows).astype(np.float32),
        "labels": labels,
        "weights": random.choice([0.0, 0.5, 1.0, 3.0], rows).astype(np.float32),
        "offsets": random.standard_normal(rows).astype(np.float32),
        "groups": random.choice([-7, 0, 1 << 30], rows).astype(np.int32),
    }


def sums(kind: str, arrays: Arrays) -> tuple[Any, Any, Any]:
    """(numerator, denominator, gradient of the numerator in the logits)."""
    logits = tf.constant(arrays["logits"])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        given_arrays = (tf.constant(arrays[name]) for name in ("labels", "weights", "offsets", "groups"))
        numerator, denominator = loss_sums(settings_of(kind), kind, logits, *given_arrays)
    assert numerator.dtype == denominator.dtype == tf.float32
    return float(numerator), float(denominator), tape.gradient(numerator, logits).numpy()


def brute_force(kind: str, arrays: Arrays) -> tuple[float, float]:
    y, w, g = arrays["labels"].astype(float), arrays["weights"].astype(float), arrays["groups"]
    offsets = arrays["offsets"].astype(float)
    s = arrays["logits"].astype(float) + (offsets if arrays["logits"].ndim == 1 else offsets[:, np.newaxis])
    rows = range(len(w))
    if kind == "pairwise":
        pairs = [(i, j) for i in rows for j in rows if g[i] == g[j] and y[i] > y[j]]
        return (
            sum(w[i] * w[j] * math.log1p(math.exp(-(s[i] - s[j]))) for i, j in pairs),
            sum(w[i] * w[j] for i, j in pairs),
        )
    if kind == "listwise":
        total = 0.0
        for i in rows:
            if w[i]:
                total -= w[i] * y[i] * (s[i] - math.log(sum(w[j] * math.exp(s[j]) for j in rows if g[j] == g[i])))
        return total, float(sum(w * y))
    losses = []
    for i in rows:
        if kind == "multiclass_classification":
            losses.append(-math.log(np.exp(s[i])[int(y[i])] / np.exp(s[i]).sum()))
        elif kind == "multilabel_classification":
            p = 1 / (1 + np.exp(-s[i]))
            losses.append(-np.mean(y[i] * np.log(p) + (1 - y[i]) * np.log(1 - p)))
        else:
            losses.append(loss_terms(LOSS_OF_TASK[kind], s[i], y[i])[0])
    return float(np.dot(w, losses)), float(sum(w))


@pytest.mark.parametrize("kind", POINTWISE + RANKING)
@settings(max_examples=15)
@given(rows=st.integers(1, 12), seed=st.integers(0, 999))
def test_sums_are_those_of_a_loop(kind: str, rows: int, seed: int) -> None:
    arrays = rows_of(kind, rows, seed)
    numerator, denominator, _ = sums(kind, arrays)
    np.testing.assert_allclose((numerator, denominator), brute_force(kind, arrays), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", POINTWISE + RANKING)
def test_a_row_of_weight_two_is_the_row_twice(kind: str) -> None:
    once = rows_of(kind, 9, seed=1)
    once["weights"] = np.ones(9, np.float32)
    double = once | {"weights": np.where(np.arange(9) == 4, 2, 1).astype(np.float32)}
    twice = {name: np.append(values, values[4:5], axis=0) for name, values in once.items()}
    numerator, denominator, gradient = sums(kind, double)
    expected = sums(kind, twice)
    np.testing.assert_allclose((numerator, denominator), expected[:2], rtol=1e-5)
    copies = expected[2][:9].copy()
    copies[4] += expected[2][9]
    np.testing.assert_allclose(gradient, copies, atol=1e-5)


@pytest.mark.parametrize("kind", POINTWISE)
def test_the_weight_of_a_row_changes_its_own_gradient_alone(kind: str) -> None:
    """The predecessor multiplied a [B] loss by a [B, 1] weight, and so every loss by the mean weight."""
    arrays = rows_of(kind, 8, seed=2)
    arrays["weights"] = np.linspace(1, 2, 8, dtype=np.float32)
    heavier = arrays | {"weights": arrays["weights"] * np.where(np.arange(8) == 3, 5, 1).astype(np.float32)}
    before, after = sums(kind, arrays)[2], sums(kind, heavier)[2]
    np.testing.assert_array_equal(np.delete(before, 3, 0), np.delete(after, 3, 0))
    np.testing.assert_allclose(after[3], 5 * before[3], rtol=1e-5)
    assert np.abs(before[3]).max() > 1e-3


@pytest.mark.parametrize("kind", RANKING)
def test_groups_do_not_meet(kind: str) -> None:
    arrays = rows_of(kind, 30, seed=3)
    parts = [
        sums(kind, {name: values[arrays["groups"] == group] for name, values in arrays.items()})
        for group in np.unique(arrays["groups"])
    ]
    together = sums(kind, arrays)
    np.testing.assert_allclose(together[:2], np.sum([part[:2] for part in parts], axis=0), rtol=1e-5)
    shifted = arrays | {"offsets": arrays["offsets"] + np.float32(3) * (arrays["groups"] == 0)}
    np.testing.assert_allclose(sums(kind, shifted)[0], together[0], rtol=1e-4)


@pytest.mark.parametrize("kind", POINTWISE + RANKING)
def test_the_order_of_rows_does_not_matter(kind: str) -> None:
    arrays = rows_of(kind, 20, seed=4)
    order = np.random.default_rng(0).permutation(20)
    numerator, denominator, gradient = sums(kind, arrays)
    other = sums(kind, {name: values[order] for name, values in arrays.items()})
    np.testing.assert_allclose(other[:2], (numerator, denominator), rtol=1e-5)
    np.testing.assert_allclose(other[2], gradient[order], atol=1e-5)


@pytest.mark.parametrize("kind", RANKING)
def test_a_row_of_weight_zero_is_not_there(kind: str) -> None:
    """However large its score: the others' must not vanish beside it."""
    arrays = rows_of(kind, 12, seed=5)
    arrays["weights"][:] = 1
    with_row = {name: np.append(values, values[:1], axis=0) for name, values in arrays.items()}
    with_row["weights"][-1] = 0
    with_row["logits"][-1] = 1e4
    numerator, denominator, gradient = sums(kind, arrays)
    other = sums(kind, with_row)
    np.testing.assert_allclose(other[:2], (numerator, denominator), rtol=1e-6)
    np.testing.assert_allclose(other[2], np.append(gradient, 0), atol=1e-6)


@pytest.mark.parametrize("kind", POINTWISE + RANKING)
@pytest.mark.parametrize("rows", [0, 5])
def test_nothing_to_learn_from_is_zero(kind: str, rows: int) -> None:
    arrays = rows_of(kind, rows, seed=6)
    arrays["weights"][:] = 0
    numerator, denominator, gradient = sums(kind, arrays)
    assert (numerator, denominator) == (0.0, 0.0)
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("kind", [*LOSS_OF_TASK, *RANKING])
def test_large_scores_have_finite_losses_and_gradients(kind: str) -> None:
    arrays = rows_of(kind, 6, seed=7)
    arrays["logits"] = np.array([200, -200, 1e3, -1e3, 0, 50], np.float32)
    arrays["weights"][:] = 1
    numerator, denominator, gradient = sums(kind, arrays)
    assert np.isfinite([numerator, denominator]).all()
    assert np.isfinite(gradient).all()
    if kind == "poisson_regression":
        assert gradient[2] > 1e20
