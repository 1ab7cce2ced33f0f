"""The data term of one global model over many rows, with its first and second derivatives: compiled, on all cores.

    D(w) = Σ_i weight_i · loss(y_i, x_i·w + b + offset_i)

Everything is summed in blocks (blocked_sum.py): the same bits on any number of cores.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gdmix_core.data.checked_arrays import reals
from gdmix_core.data.mapped_arrays import Empty
from gdmix_core.data.ragged import ROWS_OF_A_PIECE, Bag
from gdmix_core.errors import ConfigError, DataError
from gdmix_core.jit import njit
from gdmix_core.solvers.empirical_bayes import third_derivatives
from gdmix_core.solvers.large import curvature
from gdmix_core.solvers.large.blocked_sum import BlockedSum
from gdmix_core.solvers.losses import LOSS_OF_TASK, loss_terms
from gdmix_core.workers.threads import Threads

LOSSES = frozenset(LOSS_OF_TASK.values())


class GlobalObjective:
    """The data term D of a fixed effect on one worker's rows, with its derivatives.

    Coefficients are float64 [features + 1], the intercept first; without one its entry stays 0. So are the rows of
    vectors and matrices. Second derivatives are those at the w of the latest `move_to`.

    Parameters
    ----------
    loss
        One of `LOSS_OF_TASK` of gdmix_core.solvers.losses.
    bag
        Features of the n rows.
    features
        Length of the feature list.
    label, weight, offset
        float64 [n]; offsets are in units of the margin.
    intercept
        Whether the model has one.
    threads
        How many cores to use; the result is the same to the bit on any number.
    empty
        Makes the array of the loss's curvature, float64 [n]: `np.empty`, or what maps one from a file.

    Raises
    ------
    DataError
        For arrays that do not fit together, indices beyond the features, and numbers that are not finite.
    ConfigError
        For a loss or a number of features that cannot be.
    """

    def __init__(
        self,
        loss: int,
        bag: Bag,
        features: int,
        label: NDArray[np.float64],
        weight: NDArray[np.float64],
        offset: NDArray[np.float64],
        *,
        intercept: bool,
        threads: int,
        empty: Empty = np.empty,
    ) -> None:
        if isinstance(features, bool) or not isinstance(features, int | np.integer) or features < 0:
            raise ConfigError(f"features must be their number, an integer from 0 on, not {features!r}")
        rows = len(bag)
        self._threads = Threads(threads)
        bag = bag.checked(features, ascending=True, threads=self._threads)
        label, weight, offset = (
            reals(array, f"{name} (of {rows} rows of the bag)", rows)
            for name, array in (("label", label), ("weight", weight), ("offset", offset))
        )
        if loss not in LOSSES or isinstance(loss, bool):
            raise ConfigError(f"loss must be one of {sorted(LOSSES)} (LOSS_OF_TASK of the task), not {loss!r}")
        self._loss, self._intercept = loss, intercept
        self._rows = (bag.offsets, bag.indices, bag.values)
        self._targets = (label, weight, offset)
        self._size = features + 1
        self._blocks = self._sum_of(self._size)
        # weight · loss'' of each row, made on the way when loss and gradient are; at which w, `_at` says.
        self._curvature = empty(len(label), np.float64)
        self._at: NDArray[np.float64] | None = None

    def value_and_gradient(self, w: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Return D(w) and its gradient, float64 [features + 1]."""
        w = self._of_coefficients(w, "w")
        self._at = w.copy()
        return self._blocks.sum(
            lambda begin, end, out: _accumulate(
                self._loss, self._intercept, *self._rows, *self._targets, begin, end, w, out, self._curvature
            )
        )

    def move_to(self, w: NDArray[np.float64]) -> None:
        """Take second derivatives at w from now on; costs nothing where w was evaluated last."""
        if self._at is None or not np.array_equal(self._at, w):
            self.value_and_gradient(w)

    def product(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the Hessian times v, float64 [features + 1]."""
        return self._sum_curvature(curvature.product, (self._size,), self._of_coefficients(v, "v"))

    def diagonal(self) -> NDArray[np.float64]:
        """Return the Hessian's diagonal, and its first row (that of the intercept): float64 [2, features + 1]."""
        return np.ascontiguousarray(self._sum_curvature(curvature.diagonal, (self._size, 2)).T)

    def hessian(self) -> NDArray[np.float64]:
        """Return the Hessian, float64 [features + 1, features + 1], symmetric. It takes three times its memory."""
        offsets = self._rows[0]
        dense = offsets[-1] > _DENSE_SHARE * (len(offsets) - 1) * self._size
        add = curvature.half_hessian_of_dense_rows if dense else curvature.half_hessian
        half = self._sum_curvature(add, (self._size, self._size))
        on_diagonal = np.diag(half).copy()
        half += half.T.copy()
        np.fill_diagonal(half, on_diagonal)
        return half

    def third_product(self, q: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the third derivative in the directions q and v: Σ_i weight_i loss''' (x_i·q) (x_i·v) x_i."""
        return self._sum_third_derivatives(
            third_derivatives.product, self._moved(), self._of_coefficients(q, "q"), self._of_coefficients(v, "v")
        )

    def margin_variance_gradient(self, V: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return Σ_i weight_i loss''' (x_i·V x_i) x_i; V is float64 [features + 1, features + 1], symmetric."""
        return self._sum_third_derivatives(
            third_derivatives.margin_variance_gradient, self._moved(), self._of_coefficients(V, "V", dimensions=2)
        )

    def leverage_gradient(self, V: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return `margin_variance_gradient`, under the name that it had."""
        warnings.warn("leverage_gradient is called margin_variance_gradient", DeprecationWarning, stacklevel=2)
        return self.margin_variance_gradient(V)

    def _of_coefficients(self, values: NDArray[np.float64], what: str, dimensions: int = 1) -> NDArray[np.float64]:
        """Return it as the kernels take it. It need not be finite: a step may be too far, which the loss then says."""
        array = np.ascontiguousarray(values, np.float64)
        if array.shape != (self._size,) * dimensions:
            raise DataError(
                f"{what}: must be of shape {[self._size] * dimensions}, the intercept and {self._size - 1} features, "
                f"not {list(array.shape)}"
            )
        return array

    def _moved(self) -> NDArray[np.float64]:
        if self._at is None:
            raise DataError("second derivatives are those at a w: call move_to(w) first")
        return self._at

    def _sum_of(self, width: int) -> BlockedSum:
        offsets, indices, _ = self._rows
        return BlockedSum(len(offsets) - 1, len(indices), width, self._threads)

    def _sum_curvature(
        self, kernel: Callable[..., float], shape: tuple[int, ...], *vectors: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Sum a kernel of curvature.py over all rows; float64 [shape]."""
        self._moved()
        width = math.prod(shape)
        blocks = self._blocks if width == self._size else self._sum_of(width)
        _, total = blocks.sum(
            lambda begin, end, out: kernel(
                self._intercept, *self._rows, self._curvature, begin, end, *vectors, out.reshape(shape)
            )
        )
        return total.reshape(shape)

    def _sum_third_derivatives(self, kernel: Callable[..., float], *arrays: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum a kernel of third_derivatives.py over all rows; float64 [features + 1]."""
        _, weight, offset = self._targets
        _, total = self._blocks.sum(
            lambda begin, end, out: kernel(
                self._loss, self._intercept, *self._rows, weight, offset, begin, end, *arrays, out
            )
        )
        return total


def score_bag(bag: Bag, w: NDArray[np.float64], intercept: bool, threads: int = 1) -> NDArray[np.float32]:
    """Return x·w + b of each row, float32 [n]. w: float64 [features + 1], the intercept first."""
    sharing = Threads(threads)
    bag = bag.checked(len(w) - 1, threads=sharing)
    scores = np.empty(len(bag), np.float32)
    sharing.each_span(
        lambda begin, end: _score(intercept, bag.offsets, bag.indices, bag.values, begin, end, w, scores),
        len(bag),
        ROWS_OF_A_PIECE,
    )
    return scores


# Share of the features that rows must have for dense products to be faster than the rows' own pairs of features.
_DENSE_SHARE = 0.3

# Rows whose margins are in hand at a time: row by row, a loss would wait for its margin and a scatter for its loss.
_ROWS_AT_A_TIME = 256


# reassoc: a sum of products may be taken in the order that keeps the processor busy; the same one every time.
@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _accumulate(
    loss: int,
    intercept: bool,
    offsets: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.floating],
    label: NDArray[np.float64],
    weight: NDArray[np.float64],
    offset: NDArray[np.float64],
    begin: int,
    end: int,
    w: NDArray[np.float64],
    gradient: NDArray[np.float64],
    curvature: NDArray[np.float64],
) -> float:
    """Overwrite gradient with Σ weight · loss' · (1, x) over the rows begin … end−1; return Σ weight · loss.

    curvature: of each of these rows, weight · loss''.
    """
    gradient[:] = 0.0
    total = 0.0
    slopes = 0.0
    bias = w[0] if intercept else 0.0
    work = np.empty(_ROWS_AT_A_TIME)
    for first_row in range(begin, end, _ROWS_AT_A_TIME):
        last_row = min(first_row + _ROWS_AT_A_TIME, end)
        for i in range(first_row, last_row):
            z = offset[i] + bias
            # Unsigned positions: see dense_step.hessian.
            for s in range(np.uint64(offsets[i]), np.uint64(offsets[i + 1])):
                z += values[s] * w[np.uint64(indices[s]) + np.uint64(1)]
            work[i - first_row] = z
        for i in range(first_row, last_row):
            value, first, second = loss_terms(loss, work[i - first_row], label[i])
            total += weight[i] * value
            curvature[i] = weight[i] * second
            work[i - first_row] = weight[i] * first
            slopes += work[i - first_row]
        for i in range(first_row, last_row):
            slope = work[i - first_row]
            for s in range(np.uint64(offsets[i]), np.uint64(offsets[i + 1])):
                gradient[np.uint64(indices[s]) + np.uint64(1)] += slope * values[s]
    if intercept:
        gradient[0] = slopes
    return total


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _score(
    intercept: bool,
    offsets: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.floating],
    begin: int,
    end: int,
    w: NDArray[np.float64],
    scores: NDArray[np.float32],
) -> None:
    for i in range(begin, end):
        total = w[0] if intercept else 0.0
        for s in range(np.uint64(offsets[i]), np.uint64(offsets[i + 1])):
            total += values[s] * w[np.uint64(indices[s]) + np.uint64(1)]
        scores[i] = total
