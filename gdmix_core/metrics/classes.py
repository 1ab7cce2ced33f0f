"""Metrics of the two tasks with a score for each class: one class a row (multiclass), or any number (multilabel).

What they take: margins float64 [n, K], the logits of the classes; weight float64 [n] or None (1 each). Labels are

- multiclass: float64 or integer [n], the row's class, 0 … K - 1
- multilabel: bool or 0/1 [n, K], which classes apply to the row

No metric depends on the order of the rows, and a row of weight 0 counts as absent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gdmix_core.errors import DataError
from gdmix_core.metrics.all_rows import Floats, confusion, exact_sum, logistic_loss, weighted_mean
from gdmix_core.metrics.roc import area_under_roc


@dataclass(frozen=True)
class ClassRows:
    """Checked rows of a task of classes; margin: float64 [n, K]; weight: float64 [n].

    label, predicted: of multiclass int64 [n], the row's class and that of its largest margin (the first of equals);
    of multilabel bool [n, K], the classes that apply to the row, and those whose margin is above 0
    """

    label: NDArray[Any]
    predicted: NDArray[Any]
    margin: Floats
    weight: Floats

    def weight_where(self, cells: NDArray[np.bool_]) -> float:
        """Add up the weight of the row of each cell of bool [n, K]."""
        return exact_sum(self.weight * np.count_nonzero(cells, axis=1))


def multiclass_rows(label: ArrayLike, margin: ArrayLike, weight: ArrayLike | None) -> ClassRows:
    """Check the columns; raises DataError for wrong shapes, labels that are no class, and values not finite."""
    margins, weights = _checked_margins(margin, weight)
    labels = np.asarray(label, dtype=np.float64)
    if labels.shape != margins.shape[:1]:
        raise DataError(f"metrics need one class a row: {len(margins)} rows, labels of shape {labels.shape}")
    known = (labels >= 0) & (labels < margins.shape[1]) & (labels == np.floor(labels))
    if not known.all():
        row = int(np.argmin(known))
        raise DataError(f"metrics: label of row {row} is {labels[row]}; classes are 0 to {margins.shape[1] - 1}")
    predicted = np.argmax(margins, axis=1) if len(labels) else np.empty(0, np.int64)
    return ClassRows(labels.astype(np.int64), predicted, margins, weights)


def multilabel_rows(label: ArrayLike, margin: ArrayLike, weight: ArrayLike | None) -> ClassRows:
    """Check the columns; raises DataError for wrong shapes and values that are not finite."""
    margins, weights = _checked_margins(margin, weight)
    labels = np.asarray(label)
    if labels.shape != margins.shape:
        raise DataError(f"metrics need a label for each class: {labels.shape} labels, {margins.shape} margins")
    return ClassRows(labels.astype(np.bool_), margins > 0.0, margins, weights)


def multiclass_accuracy(label: ArrayLike, margin: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Weighted share of rows whose class has the largest margin (the first of equals); nan without rows."""
    rows = multiclass_rows(label, margin, weight)
    return weighted_mean((rows.predicted == rows.label).astype(np.float64), rows.weight)


def cross_entropy(label: ArrayLike, margin: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Weighted mean of log sum_c e^z_c - z_y, the negative log-likelihood of the softmax; nan without rows."""
    rows = multiclass_rows(label, margin, weight)
    if not len(rows.label):
        return float("nan")
    own = np.take_along_axis(rows.margin, rows.label[:, None], axis=1)
    # The others relative to the row's own class: no cancellation where it is nearly certain.
    relative = rows.margin - own
    largest = relative.max(axis=1)
    np.put_along_axis(relative, rows.label[:, None], -np.inf, axis=1)
    others = np.exp(relative - largest[:, None]).sum(axis=1)
    # largest >= 0, as the own class has 0: log(e^0 + sum of others) in two ways, each exact in its range.
    loss = np.where(largest > 0.0, largest + np.log(np.exp(-largest) + others), np.log1p(others))
    return weighted_mean(loss, rows.weight)


def multiclass_confusion(label: ArrayLike, margin: ArrayLike, weight: ArrayLike | None = None) -> list[list[float]]:
    """[K][K] sums of weights: the row's class down, the class of the largest margin across."""
    rows = multiclass_rows(label, margin, weight)
    return confusion(rows.label, rows.predicted, rows.weight, rows.margin.shape[1])


def subset_accuracy(label: ArrayLike, margin: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Weighted share of rows of which every class is right (margin > 0 where it applies); nan without rows."""
    rows = multilabel_rows(label, margin, weight)
    return weighted_mean((rows.predicted == rows.label).all(axis=1).astype(np.float64), rows.weight)


def multilabel_logloss(label: ArrayLike, margin: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Weighted mean over rows of the mean over classes of log(1 + e^z) - y z; nan without rows."""
    rows = multilabel_rows(label, margin, weight)
    return weighted_mean(logistic_loss(rows.label, rows.margin).mean(axis=1), rows.weight)


def macro_auc(label: ArrayLike, margin: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Mean over classes of the class's weighted AUC; classes that apply to all rows or none are left out.

    nan when every class is.
    """
    rows = multilabel_rows(label, margin, weight)
    values = []
    for k in range(rows.margin.shape[1]):
        order = np.argsort(rows.margin[:, k])
        signed = np.where(rows.label[:, k], rows.weight, -rows.weight)
        values.append(area_under_roc(rows.margin[order, k], signed[order]))
    defined = np.array([value for value in values if not np.isnan(value)])
    return exact_sum(defined) / len(defined) if len(defined) else float("nan")


def micro_precision(label: ArrayLike, margin: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Weighted share that applies, of all (row, class) that are predicted (margin > 0); nan without any."""
    rows = multilabel_rows(label, margin, weight)
    return _ratio(rows.weight_where(rows.predicted & rows.label), rows.weight_where(rows.predicted))


def micro_recall(label: ArrayLike, margin: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Weighted share that is predicted (margin > 0), of all (row, class) that apply; nan without any."""
    rows = multilabel_rows(label, margin, weight)
    return _ratio(rows.weight_where(rows.predicted & rows.label), rows.weight_where(rows.label))


def micro_f1(label: ArrayLike, margin: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Harmonic mean of micro precision and recall, 2 TP / (2 TP + FP + FN); nan where nothing applies or is said to."""
    rows = multilabel_rows(label, margin, weight)
    right = rows.weight_where(rows.predicted & rows.label)
    return _ratio(2.0 * right, rows.weight_where(rows.predicted) + rows.weight_where(rows.label))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0.0 else float("nan")


def _checked_margins(margin: ArrayLike, weight: ArrayLike | None) -> tuple[Floats, Floats]:
    margins = np.asarray(margin, dtype=np.float64)
    if margins.ndim != 2:
        raise DataError(f"metrics of classes need a margin for each class, [rows, classes]; got {margins.shape}")
    weights = np.ones(len(margins)) if weight is None else np.asarray(weight, dtype=np.float64)
    if weights.shape != margins.shape[:1]:
        raise DataError(f"metrics need one weight a row: {len(margins)} rows, weights of shape {weights.shape}")
    usable = np.isfinite(margins).all(axis=1)
    usable &= np.isfinite(weights) & (weights >= 0.0)
    if not usable.all():
        row = int(np.argmin(usable))
        raise DataError(
            f"metrics: row {row} has margins {margins[row]} and weight {weights[row]}, but they must be finite and no "
            "weight negative; look at the step that wrote them"
        )
    return margins, weights


MULTICLASS_METRICS: Mapping[str, Callable[[ArrayLike, ArrayLike, ArrayLike | None], float]] = {
    "accuracy": multiclass_accuracy,
    "cross_entropy": cross_entropy,
}
MULTILABEL_METRICS: Mapping[str, Callable[[ArrayLike, ArrayLike, ArrayLike | None], float]] = {
    "accuracy": subset_accuracy,
    "auc": macro_auc,
    "logloss": multilabel_logloss,
    "micro_precision": micro_precision,
    "micro_recall": micro_recall,
    "micro_f1": micro_f1,
}
