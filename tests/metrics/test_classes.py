"""Metrics of the two tasks of classes against scikit-learn, and as properties."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_directory import Rows, make_run
from scipy.special import softmax
from sklearn import metrics as oracle

from gdmix_core import storage
from gdmix_core.data.scores import other_scores
from gdmix_core.errors import ConfigError, DataError
from gdmix_core.evaluation.evaluate import evaluate
from gdmix_core.metrics import classes
from gdmix_core.metrics.all_rows import GLOBAL_METRICS, accuracy, confusion_matrix
from gdmix_core.metrics.registry import parse_metric

K = 4
every = pytest.mark.parametrize(
    ("shape", "kind"),
    [("multiclass", kind) for kind in classes.MULTICLASS_METRICS]
    + [("multilabel", kind) for kind in classes.MULTILABEL_METRICS],
)
METRICS: dict[str, Any] = {"multiclass": classes.MULTICLASS_METRICS, "multilabel": classes.MULTILABEL_METRICS}


def rows_of(shape: str, n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    margin = np.round(random.normal(size=(n, K)), 1)
    label = random.integers(0, K, n) if shape == "multiclass" else random.random((n, K)) < [0.2, 0.5, 0.1, 0.7]
    return label.astype(np.float64 if shape == "multiclass" else np.bool_), margin, random.gamma(2.0, size=n)


@pytest.mark.parametrize("seed", range(2))
def test_multiclass_agrees_with_scikit_learn(seed: int) -> None:
    label, margin, weight = rows_of("multiclass", 3000, seed)
    predicted = margin.argmax(axis=1)
    expected = oracle.accuracy_score(label, predicted, sample_weight=weight)
    assert classes.multiclass_accuracy(label, margin, weight) == pytest.approx(expected, rel=1e-12)
    expected = oracle.log_loss(label, softmax(margin, axis=1), sample_weight=weight)
    assert classes.cross_entropy(label, margin, weight) == pytest.approx(expected, rel=1e-12)
    expected = oracle.confusion_matrix(label, predicted, sample_weight=weight)
    np.testing.assert_allclose(classes.multiclass_confusion(label, margin, weight), expected, rtol=1e-12)


@pytest.mark.parametrize("seed", range(2))
def test_multilabel_agrees_with_scikit_learn(seed: int) -> None:
    label, margin, weight = rows_of("multilabel", 3000, seed)
    predicted = margin > 0
    weighted: dict[str, Any] = {"sample_weight": weight, "average": "micro"}
    expected = {
        "accuracy": oracle.accuracy_score(label, predicted, sample_weight=weight),
        "auc": oracle.roc_auc_score(label, margin, sample_weight=weight, average="macro"),
        "micro_precision": oracle.precision_score(label, predicted, **weighted),
        "micro_recall": oracle.recall_score(label, predicted, **weighted),
        "micro_f1": oracle.f1_score(label, predicted, **weighted),
        "logloss": np.mean(
            [
                oracle.log_loss(label[:, k], 1 / (1 + np.exp(-margin[:, k])), sample_weight=weight, labels=[0, 1])
                for k in range(K)
            ]
        ),
    }
    assert set(expected) == set(classes.MULTILABEL_METRICS)
    for kind, value in expected.items():
        assert classes.MULTILABEL_METRICS[kind](label, margin, weight) == pytest.approx(value, rel=1e-12), kind


def test_binary_accuracy_and_confusion_agree_with_scikit_learn() -> None:
    random = np.random.default_rng(0)
    label, score = random.integers(0, 2, 2000), np.round(random.normal(size=2000), 1)
    weight = random.gamma(2.0, size=2000)
    expected = oracle.accuracy_score(label, score > 0, sample_weight=weight)
    assert accuracy(label, score, weight) == pytest.approx(expected, rel=1e-12)
    expected = oracle.confusion_matrix(label, score > 0, sample_weight=weight)
    np.testing.assert_allclose(confusion_matrix(label, score, weight), expected, rtol=1e-12)


def test_cross_entropy_of_two_classes_is_the_logloss_of_their_difference() -> None:
    random = np.random.default_rng(0)
    label, margin = random.integers(0, 2, 500).astype(float), random.normal(scale=30, size=(500, 2))
    logloss = GLOBAL_METRICS["logloss"](label, margin[:, 1] - margin[:, 0], None)
    assert classes.cross_entropy(label, margin) == pytest.approx(logloss, rel=1e-12)


def test_cross_entropy_is_stable_far_out() -> None:
    assert classes.cross_entropy([1.0], [[0.0, 1000.0, 0.0]]) == 0.0
    assert classes.cross_entropy([0.0], [[0.0, 1000.0, 0.0]]) == 1000.0
    assert classes.cross_entropy([1.0], [[0.0, 40.0]]) == pytest.approx(math.exp(-40), rel=1e-12)
    assert classes.cross_entropy([2.0], np.zeros((1, 8))) == pytest.approx(math.log(8), rel=1e-15)


@every
@given(st.integers(1, 40), st.integers(0, 99))
def test_row_order_does_not_change_a_bit(shape: str, kind: str, n: int, seed: int) -> None:
    rows = rows_of(shape, n, seed)
    order = np.random.default_rng(seed).permutation(n)
    function = METRICS[shape][kind]
    np.testing.assert_equal(function(*(column[order] for column in rows)), function(*rows))


def test_row_order_does_not_change_a_bit_of_a_confusion_matrix() -> None:
    label, margin, weight = rows_of("multiclass", 5000, 1)
    order = np.random.default_rng(0).permutation(5000)
    found = classes.multiclass_confusion(label[order], margin[order], weight[order])
    assert found == classes.multiclass_confusion(label, margin, weight)


@every
def test_rows_of_weight_zero_are_absent_and_no_rows_have_no_value(shape: str, kind: str) -> None:
    function: Callable[..., float] = METRICS[shape][kind]
    rows, extra = rows_of(shape, 50, 0), rows_of(shape, 20, 1)
    padded = [np.concatenate(pair) for pair in zip(rows[:2], extra[:2], strict=True)]
    assert function(*padded, np.append(rows[2], np.zeros(20))) == function(*rows)
    assert math.isnan(function(*(column[:0] for column in rows)))


def test_where_nothing_is_predicted_or_applies_is_undefined() -> None:
    nothing, margin = np.zeros((3, 2), bool), np.full((3, 2), -1.0)
    assert all(math.isnan(f(nothing, margin)) for f in (classes.micro_precision, classes.micro_recall))
    assert math.isnan(classes.micro_f1(nothing, margin))
    assert math.isnan(classes.macro_auc(nothing, margin))
    assert classes.micro_f1(~nothing, margin) == 0.0
    one_class = np.array([[True, True], [False, True]])
    assert classes.macro_auc(one_class, [[2.0, 5.0], [1.0, 0.0]]) == 1.0  # the second class is left out


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: classes.cross_entropy([0, 4], np.zeros((2, 4))), "label of row 1 is 4.0; classes are 0 to 3"),
        (lambda: classes.cross_entropy([0.5], np.zeros((1, 4))), "label of row 0 is 0.5"),
        (lambda: classes.cross_entropy([-1], np.zeros((1, 4))), "label of row 0 is -1"),
        (lambda: classes.cross_entropy([0, 1], np.zeros((3, 4))), "one class a row"),
        (lambda: classes.cross_entropy([0], [0.0]), "a margin for each class"),
        (lambda: classes.cross_entropy([0], [[0.0, math.nan]]), "row 0 has margins"),
        (lambda: classes.cross_entropy([0], [[0.0, 1.0]], [-1.0]), "row 0 has margins .* weight -1"),
        (lambda: classes.cross_entropy([0], [[0.0, 1.0]], [1.0, 1.0]), "one weight a row"),
        (lambda: classes.micro_f1([[1]], [[0.0, 1.0]]), "a label for each class"),
    ],
)
def test_unusable_columns_are_named(call: Callable[[], float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        call()


def test_evaluate_follows_the_shape_of_the_scores() -> None:
    label, margin, weight = rows_of("multiclass", 30, 0)
    assert parse_metric("accuracy").evaluate(label, margin, weight).value == classes.multiclass_accuracy(
        label, margin, weight
    )
    matrix = parse_metric("confusion_matrix").evaluate(label, margin, weight)
    assert (matrix.value, matrix.matrix) == (None, classes.multiclass_confusion(label, margin, weight))
    label, margin, weight = rows_of("multilabel", 30, 0)
    assert parse_metric("auc").evaluate(label, margin, weight).value == classes.macro_auc(label, margin, weight)
    with pytest.raises(ConfigError, match="cross_entropy cannot be computed of multilabel scores"):
        parse_metric("cross_entropy").evaluate(label, margin, weight)


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_a_run_of_classes_is_evaluated(tmp_path: Path, task: str) -> None:
    """Scores [N, K] in two parts, labels of the task: metrics.json holds numbers, and the matrix beside them."""
    label, margin, weight = rows_of(task, 50, 0)
    margin = margin.astype(np.float32)
    multiclass = task == "multiclass"
    config: dict[str, Any] = {
        "task": f"{task}_classification",
        "metrics": ["accuracy", "cross_entropy", "confusion_matrix"] if multiclass else ["micro_f1", "auc", "logloss"],
        "coordinates": {"global": {"fixed_effect": {"model": "text", "document": ["title"]}}},
    } | ({"classes": K} if multiclass else {"columns": {"label": "topics"}})
    rows = Rows(
        label if multiclass else label.sum(axis=1),
        weight=weight,
        ids={"title": ["a"] * 50},
        bags={} if multiclass else {"topics": label.astype(np.float32)},
    )
    run = make_run(tmp_path, config, rows)
    if not multiclass:
        run.commit(run.plan["validate"], run.result("validate") | {"label_bag": "topics"})
    train = run.plan["pass_01.global.train"]
    for part, span in enumerate((slice(0, 20), slice(20, 50))):
        storage.write_array(run.score_part(1, "global", "training", part), margin[span])
    run.commit(train, {})
    evaluate(run, run.plan["pass_01.global.evaluate"])
    found = run.result("pass_01.global.evaluate")
    for kind, value in found["metrics"]["training"].items():
        assert value == METRICS[task][kind](label, margin, weight)
    if multiclass:
        expected = classes.multiclass_confusion(label, margin, weight)
        assert found["matrices"] == {"training": {"confusion_matrix": expected}}
    else:
        assert "matrices" not in found
    assert other_scores(run, train, "training").span(0, 50).shape == (50,)
