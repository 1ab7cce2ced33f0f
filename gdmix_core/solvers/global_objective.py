"""Loss and gradient of one global model over many rows: compiled, on all cores, the same bits on any number of them.

    F(w) = Σ_i weight_i · loss(y_i, x_i·w + b + offset_i) + ½ Σ_j λ_j w_j²

The rows are cut into a fixed number of lanes. Each lane sums its own loss and gradient, and the lanes are added in
their order, so that the result does not depend on which thread did what.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import njit
from numpy.typing import NDArray

from gdmix_core.data.ragged import Bag
from gdmix_core.solvers.losses import loss_terms

# Each lane owns a dense gradient: few lanes for many features, or memory and adding up would cost more than they save.
_LANE_BYTES = 64 << 20
_MOST_LANES = 16


def lane_count(features: int) -> int:
    """Depends on the number of features only, never on the machine."""
    return int(np.clip(_LANE_BYTES // (8 * max(features, 1)), 2, _MOST_LANES))


class GlobalObjective:
    """The data term of a fixed effect on one worker's rows.

    bag: its rows' features; label, weight, offset: float64 [n]
    The coefficients are float64 [features + 1], the intercept first; without one its entry stays 0.
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
    ) -> None:
        self._data = (loss, intercept, bag.offsets, bag.indices, bag.values, label, weight, offset)
        self._bag = bag
        self._intercept = intercept
        self._lanes = lane_count(features)
        self._bounds = np.linspace(0, len(label), self._lanes + 1).astype(np.int64)
        self._gradients = np.zeros((self._lanes, features + 1))
        self._pool = ThreadPoolExecutor(threads)

    def value_and_gradient(self, w: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        def lane(k: int) -> float:
            value: float = _accumulate(*self._data, self._bounds[k], self._bounds[k + 1], w, self._gradients[k])
            return value

        value = 0.0
        for part in self._pool.map(lane, range(self._lanes)):
            value += part
        cuts = np.linspace(0, len(w), 2 * self._lanes + 1).astype(np.int64)
        total = np.empty(len(w))
        list(self._pool.map(lambda c: _add_lanes(self._gradients, cuts[c], cuts[c + 1], total), range(2 * self._lanes)))
        return value, total

    def scores(self, w: NDArray[np.float64]) -> NDArray[np.float32]:
        """float32 [n]: x·w + b, without offset."""
        return score_bag(self._bag, w, self._intercept)


def score_bag(bag: Bag, w: NDArray[np.float64], intercept: bool) -> NDArray[np.float32]:
    scores = np.empty(len(bag), np.float32)
    _score(intercept, bag.offsets, bag.indices, bag.values, w, scores)
    return scores


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
) -> float:
    """Overwrites gradient with Σ weight · loss' · (1, x) over the rows begin … end−1; returns Σ weight · loss."""
    gradient[:] = 0.0
    total = 0.0
    slopes = 0.0
    bias = w[0] if intercept else 0.0
    work = np.empty(_ROWS_AT_A_TIME)
    for first_row in range(begin, end, _ROWS_AT_A_TIME):
        last_row = min(first_row + _ROWS_AT_A_TIME, end)
        for i in range(first_row, last_row):
            z = offset[i] + bias
            # Unsigned positions: see dense_newton.hessian.
            for s in range(np.uint64(offsets[i]), np.uint64(offsets[i + 1])):
                z += values[s] * w[np.uint64(indices[s]) + np.uint64(1)]
            work[i - first_row] = z
        for i in range(first_row, last_row):
            value, first, _ = loss_terms(loss, work[i - first_row], label[i])
            total += weight[i] * value
            work[i - first_row] = weight[i] * first
            slopes += work[i - first_row]
        for i in range(first_row, last_row):
            slope = work[i - first_row]
            for s in range(np.uint64(offsets[i]), np.uint64(offsets[i + 1])):
                gradient[np.uint64(indices[s]) + np.uint64(1)] += slope * values[s]
    if intercept:
        gradient[0] = slopes
    return total


@njit(cache=True, nogil=True)
def _add_lanes(gradients: NDArray[np.float64], begin: int, end: int, total: NDArray[np.float64]) -> None:
    for j in range(begin, end):
        total[j] = gradients[0, j]
    for k in range(1, gradients.shape[0]):
        for j in range(begin, end):
            total[j] += gradients[k, j]


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _score(
    intercept: bool,
    offsets: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.floating],
    w: NDArray[np.float64],
    scores: NDArray[np.float32],
) -> None:
    for i in range(len(offsets) - 1):
        total = w[0] if intercept else 0.0
        for s in range(np.uint64(offsets[i]), np.uint64(offsets[i + 1])):
            total += values[s] * w[np.uint64(indices[s]) + np.uint64(1)]
        scores[i] = total
