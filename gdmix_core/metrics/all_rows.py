"""Metrics over all rows. Each takes what a model gives before any link function: the margin with offsets.

No metric depends on the order of the rows, not even in the last bit: sums are rounded once (math.fsum). The
same scores give the same number however many workers wrote them. A row of weight 0 counts as absent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gdmix_core.errors import DataError
from gdmix_core.jit import njit
from gdmix_core.metrics.roc import area_under_roc, area_under_unweighted_roc

Floats = NDArray[np.float64]

# Larger margins count as exp(500) ~ 1e217 in the Poisson loss: beyond any sane mean, and any data can sum it.
_LARGEST_POISSON_MARGIN = 500.0


@dataclass(frozen=True)
class MetricValue:
    """value: None where undefined (one class only, no rows), and of a matrix.

    The counts are set for metrics per group. matrix: of a metric that is one, a list for each of its rows.
    """

    value: float | None
    groups_counted: int | None = None
    groups_left_out: int | None = None
    matrix: list[list[float]] | None = None


@dataclass(frozen=True)
class Rows:
    """The rows that every metric looks at: float64 [n] each, finite, weights >= 0."""

    label: Floats
    score: Floats
    weight: Floats

    @classmethod
    def checked(cls, label: ArrayLike, score: ArrayLike, weight: ArrayLike | None = None) -> Rows:
        """Check the columns; raises DataError for unequal lengths, values that are not finite and negative weights."""
        columns = {"label": label, "score": score}
        columns["weight"] = np.ones(np.shape(label)) if weight is None else weight
        arrays = {name: np.asarray(column, dtype=np.float64) for name, column in columns.items()}
        shapes = {name: array.shape for name, array in arrays.items()}
        if len(set(shapes.values())) != 1 or arrays["label"].ndim != 1:
            raise DataError(f"metrics need label, score and weight of one length, one value a row; got {shapes}")
        for name, array in arrays.items():
            usable = np.isfinite(array)
            if name == "weight":
                usable &= array >= 0
            if not usable.all():
                row = int(np.argmin(usable))
                kind = "finite and not negative" if name == "weight" else "finite"
                raise DataError(
                    f"metrics: {name} of row {row} is {array[row]}, but every {name} must be {kind}; "
                    "look at the step that wrote it"
                )
        return cls(**arrays)

    @property
    def signed_weight(self) -> Floats:
        """The weight of positives (label > 0.5), less than nothing for the others."""
        return np.where(self.label > 0.5, self.weight, -self.weight)


def auc(label: ArrayLike, score: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Weighted area under the ROC curve, exact, equal scores counted half; positives have label > 0.5.

    label, score, weight: float64 [n]. nan when one class has no weight. Raises DataError (see Rows.checked).
    """
    rows = Rows.checked(label, score, weight)
    if np.all(rows.weight == 1.0):
        positive = rows.label > 0.5
        return float(area_under_unweighted_roc(np.sort(rows.score[positive]), np.sort(rows.score[~positive])))
    order = np.argsort(rows.score)
    return float(area_under_roc(rows.score[order], rows.signed_weight[order]))


def logloss(label: ArrayLike, score: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Weighted mean of log(1 + e^z) - y z, with labels y in [0, 1] and margins z; nan without rows.

    label, score, weight: float64 [n]. Raises DataError (see Rows.checked).
    """
    rows = Rows.checked(label, score, weight)
    return weighted_mean(logistic_loss(rows.label, rows.score), rows.weight)


def logistic_loss(label: NDArray[Any], margin: Floats) -> Floats:
    """Compute log(1 + e^z) - y z of each margin z; y in [0, 1] or bool."""
    # max(z, 0) - y z is formed first: it is exactly 0 for a right answer, whose logarithm may be tiny.
    certain = np.maximum(margin, 0.0) - label * margin
    return certain + np.log1p(np.exp(-np.abs(margin)))


def mse(label: ArrayLike, score: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Weighted mean of (z - y)²; nan without rows. label, score, weight: float64 [n]. Raises DataError."""
    rows = Rows.checked(label, score, weight)
    with np.errstate(over="ignore"):
        return weighted_mean(np.square(rows.score - rows.label), rows.weight)


def rmse(label: ArrayLike, score: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Square root of mse, in the label's units; nan without rows."""
    return math.sqrt(mse(label, score, weight))


def poisson_loss(label: ArrayLike, score: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Weighted mean of e^z - y z, the negative Poisson log-likelihood without its constant; nan without rows.

    label (counts >= 0), score (log of the mean), weight: float64 [n]. e^z is held at e^500: a diverged model
    gets an enormous loss, not an overflow. Raises DataError (see Rows.checked).
    """
    rows = Rows.checked(label, score, weight)
    mean = np.exp(np.minimum(rows.score, _LARGEST_POISSON_MARGIN))
    return weighted_mean(mean - rows.label * rows.score, rows.weight)


def smoothed_hinge(label: ArrayLike, score: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Weighted mean of the smooth hinge loss of t = y z, y = +1 where label > 0.5, else -1; nan without rows.

    0.5 - t for t <= 0, (1 - t)² / 2 for 0 < t < 1, 0 from there on (Rennie 2005, "Smooth Hinge
    Classification"). label, score, weight: float64 [n]. Raises DataError (see Rows.checked).
    """
    rows = Rows.checked(label, score, weight)
    t = np.where(rows.label > 0.5, rows.score, -rows.score)
    # Between its kinks the loss is quadratic in the clipped margin; below 0 it goes on with slope -1.
    loss = 0.5 * np.square(1.0 - np.clip(t, 0.0, 1.0)) - np.minimum(t, 0.0)
    return weighted_mean(loss, rows.weight)


def accuracy(label: ArrayLike, score: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Weighted share of rows on the right side: margin > 0 where label > 0.5, else margin <= 0; nan without rows.

    label, score, weight: float64 [n]. Raises DataError (see Rows.checked).
    """
    rows = Rows.checked(label, score, weight)
    return weighted_mean(((rows.score > 0.0) == (rows.label > 0.5)).astype(np.float64), rows.weight)


def confusion_matrix(label: ArrayLike, score: ArrayLike, weight: ArrayLike | None = None) -> list[list[float]]:
    """[[true negatives, false positives], [false negatives, true positives]], sums of weights; positive: margin > 0.

    label, score, weight: float64 [n]. Raises DataError (see Rows.checked).
    """
    rows = Rows.checked(label, score, weight)
    return confusion(rows.label > 0.5, rows.score > 0.0, rows.weight, 2)


def confusion(actual: NDArray[Any], predicted: NDArray[Any], weight: Floats, classes: int) -> list[list[float]]:
    """Sum the weights of rows by their class (down) and the predicted one (across); classes: integer or bool [n]."""
    cell = actual.astype(np.int64) * classes + predicted
    # In order of cell and weight, so that a cell's sum does not depend on the order of the rows.
    order = np.lexsort((weight, cell))
    sums = np.bincount(cell[order], weight[order], minlength=classes * classes)
    return [[float(value) for value in row] for row in sums.reshape(classes, classes)]


def exact_sum(values: Floats) -> float:
    """Sum float64 [n] and round once, so that the result does not depend on the order; inf where it exceeds float64."""
    partials = np.empty(_MOST_PARTIALS)
    count = _expansion(np.ascontiguousarray(values, np.float64), partials)
    try:
        return math.fsum(partials[:count] if count >= 0 else values)
    except OverflowError:
        return math.inf


# Numbers of 53 bits that do not overlap, from 2^-1074 to 2^1024: no more than 40.
_MOST_PARTIALS = 48


@njit(cache=True, nogil=True)
def _expansion(values: Floats, partials: Floats) -> int:
    """Fill partials with numbers that do not overlap and have the same sum, exactly; return how many there are.

    By Shewchuk's "Adaptive Precision Floating-Point Arithmetic" (1997), as math.fsum does it. -1 where a sum exceeds
    float64 on the way.
    """
    count = 0
    for value in values:
        x = value
        kept = 0
        for k in range(count):
            y = partials[k]
            if abs(x) < abs(y):
                x, y = y, x
            high = x + y
            low = y - (high - x)
            if low != 0.0:
                partials[kept] = low
                kept += 1
            x = high
        if not np.isfinite(x):
            return -1
        partials[kept] = x
        count = kept + 1
    return count


def weighted_mean(loss: Floats, weight: Floats) -> float:
    """Compute the weighted mean of float64 [n], both sums rounded once; nan without weight."""
    total = exact_sum(weight)
    with np.errstate(over="ignore"):
        return exact_sum(weight * loss) / total if total > 0.0 else math.nan


GLOBAL_METRICS: Mapping[str, Callable[[ArrayLike, ArrayLike, ArrayLike | None], float]] = {
    "auc": auc,
    "logloss": logloss,
    "rmse": rmse,
    "mse": mse,
    "poisson_loss": poisson_loss,
    "smoothed_hinge": smoothed_hinge,
    "accuracy": accuracy,
}
