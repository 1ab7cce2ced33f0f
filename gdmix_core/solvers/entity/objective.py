"""F of one entity and its gradient, as all solvers of small models and the posterior take them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gdmix_core.jit import njit
from gdmix_core.solvers.entity.problem import Features, Penalty, Rows
from gdmix_core.solvers.losses import SMOOTHED_HINGE, loss_terms

# The smoothed hinge has no curvature where it is straight; steps are taken as if it had this little.
HINGE_CURVATURE = 1e-7


@njit(cache=True, nogil=True, inline="always")
def margins(z: NDArray[np.float64], w: NDArray[np.float64], features: Features, begin: int, end: int) -> None:
    """z[i − begin] = x_i · w for the rows begin … end−1."""
    intercept, offsets, local, values = features
    for i in range(begin, end):
        total = w[0] if intercept else 0.0
        for s in range(np.uint64(offsets[i]), np.uint64(offsets[i + 1])):
            total += values[s] * w[np.uint64(local[s])]
        z[i - begin] = total


@njit(cache=True, nogil=True)
def move_to(z: NDArray[np.float64], w: NDArray[np.float64], rows: Rows, begin: int, end: int) -> None:
    """z = margins at w, the offsets included."""
    margin_offset = rows.margin_offset
    margins(z, w, rows.features, begin, end)
    for i in range(begin, end):
        z[i - begin] += margin_offset[i]


@njit(cache=True, nogil=True, inline="always")
def loss_along(
    loss: int,
    z: NDArray[np.float64],
    dz: NDArray[np.float64],
    t: float,
    rows: Rows,
    begin: int,
    end: int,
    slope: NDArray[np.float64],
    curvature: NDArray[np.float64],
) -> float:
    """Σ weight · loss at the margins z + t dz; slope and curvature are overwritten with its derivatives there."""
    label, weight = rows.label, rows.weight
    total = 0.0
    for i in range(begin, end):
        value, first, second = loss_terms(loss, z[i - begin] + t * dz[i - begin], label[i])
        if loss == SMOOTHED_HINGE:
            second = max(second, HINGE_CURVATURE)
        total += weight[i] * value
        slope[i - begin] = weight[i] * first
        curvature[i - begin] = weight[i] * second
    return total


@njit(cache=True, nogil=True, inline="always")
def gradient_of(
    gradient: NDArray[np.float64],
    slope: NDArray[np.float64],
    w: NDArray[np.float64],
    penalty: Penalty,
    features: Features,
    begin: int,
    end: int,
) -> float:
    """Set gradient = Xᵀ slope + precision ∘ (w − prior_mean); return its largest absolute entry, without NaN."""
    intercept, offsets, local, values = features
    precision, prior_mean = penalty.precision, penalty.prior_mean
    size = len(w)
    for j in range(size):
        gradient[j] = precision[j] * (w[j] - prior_mean[j])
    for i in range(begin, end):
        g = slope[i - begin]
        if intercept:
            gradient[0] += g
        for s in range(np.uint64(offsets[i]), np.uint64(offsets[i + 1])):
            gradient[np.uint64(local[s])] += g * values[s]
    largest = 0.0
    for j in range(size):
        largest = max(largest, abs(gradient[j]))
    return largest


@njit(cache=True, nogil=True, inline="always")
def penalty_along(
    w: NDArray[np.float64], step: NDArray[np.float64], t: float, penalty: Penalty, l1: NDArray[np.float64] | None
) -> float:
    """½ Σ precision (w + t step − prior_mean)² + Σ l1 |w + t step|."""
    precision, prior_mean = penalty.precision, penalty.prior_mean
    total = 0.0
    for j in range(len(w)):
        moved = w[j] + t * step[j]
        off = moved - prior_mean[j]
        term = 0.5 * precision[j] * off * off
        if l1 is not None:
            term += l1[j] * abs(moved)
        total += term
    return total
