"""What the curvature at an entity's optimum says: variances of its coefficients, and its part in choosing λ.

H = Xᵀ diag(weight · loss'') X + diag(penalty) at the solution, V = H⁻¹. The formulas of the sums are those of
empirical_bayes/fixed_point.py.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gdmix_core.jit import njit
from gdmix_core.solvers.entity import cg_step, dense_step
from gdmix_core.solvers.losses import loss_terms, third_derivative

NO_VARIANCES = 0
SIMPLE = 1
FULL = 2

# The inverse of a larger Hessian is not computed: its matrices would take more than 100 MB for each thread.
LARGEST_INVERSE = 2048


@njit(cache=True, nogil=True)
def measure(
    loss: int,
    variance_mode: int,
    intercept: bool,
    begin: int,
    end: int,
    offsets: NDArray[np.int64],
    local: NDArray[np.int32],
    values: NDArray[np.floating],
    label: NDArray[np.float64],
    weight: NDArray[np.float64],
    z: NDArray[np.float64],
    curvature: NDArray[np.float64],
    w: NDArray[np.float64],
    penalty: NDArray[np.float64],
    H: NDArray[np.float64],
    U: NDArray[np.float64],
    variances: NDArray[np.float64],
    group: NDArray[np.int32],
    sums: NDArray[np.float64],
    other_leverage: NDArray[np.float64],
    leverage: NDArray[np.float32],
) -> None:
    """One entity, at its solution w.

    z: its rows' margins, the offset included; curvature: scratch of the same length
    H, U: scratch [≥ k, ≥ k] for k coefficients; larger models than H has room for are measured by diag(H) alone
    variances: out, float64 [k], or empty for NO_VARIANCES; nan where a direction has no curvature
    group: the prior each coefficient has in common with others, −1 for one of its own; sums: float64 [4, G], added
        to: Σ penalty θ², Σ penalty c, Σ 1, Σ penalty V; with G = 0 nothing is
    other_leverage: float64 [n], posterior variance of each row's margin that comes from the other coordinates;
        leverage: float32 [n], out, what comes from this one; both are only touched where sums are
    """
    size = len(w)
    estimate = sums.shape[1] > 0
    for i in range(begin, end):
        _, _, second = loss_terms(loss, z[i - begin], label[i])
        curvature[i - begin] = weight[i] * second
    dense = size <= len(H) and (variance_mode == FULL or estimate)
    diagonal = np.empty(size)
    if dense:
        dense_step.hessian(H, size, intercept, begin, end, offsets, local, values, curvature, penalty)
        for j in range(size):
            diagonal[j] = H[j, j]
        dense_step.cholesky(H, size)
        invert(H, U, size)
    else:
        cg_step.hessian_diagonal(diagonal, size, intercept, begin, end, offsets, local, values, curvature, penalty)
    if variance_mode == FULL and dense:
        for j in range(size):
            variances[j] = U[j, j] if diagonal[j] > 0.0 else np.nan
    elif variance_mode != NO_VARIANCES:
        for j in range(size):
            variances[j] = 1.0 / diagonal[j] if diagonal[j] > 0.0 else np.nan
    if not estimate:
        return
    for j in range(size):
        g = group[j]
        if g >= 0:
            variance = U[j, j] if dense else 1.0 / diagonal[j]
            sums[0, g] += penalty[j] * w[j] * w[j]
            sums[2, g] += 1.0
            sums[3, g] += variance * penalty[j]
    if dense:
        pull = diagonal  # no longer needed; r of the module's formula
        leverage_slope(
            loss, pull, size, intercept, begin, end, offsets, local, values, weight, z, U, other_leverage, leverage
        )
        for j in range(size):
            g = group[j]
            if g >= 0:
                moved = 0.0
                for k in range(size):
                    moved += (U[j, k] if k <= j else U[k, j]) * pull[k]
                sums[1, g] += penalty[j] * moved * w[j]


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def invert(L: NDArray[np.float64], V: NDArray[np.float64], size: int) -> None:
    """Lower triangle of V = (L Lᵀ)⁻¹, from a factor whose diagonal holds its entries' inverses; overwrites L.

    Column j of L⁻¹ first goes into row j of V, so that all sums run along rows.
    """
    for j in range(size):
        V[j, j] = L[j, j]
        for i in range(j + 1, size):
            total = 0.0
            for k in range(j, i):
                total += L[i, k] * V[j, k]
            V[j, i] = -total * L[i, i]
    for j in range(size):
        for k in range(j + 1):
            total = 0.0
            for i in range(j, size):
                total += V[j, i] * V[k, i]
            L[j, k] = total
    for j in range(size):
        for k in range(j + 1):
            V[j, k] = L[j, k]


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def leverage_slope(
    loss: int,
    pull: NDArray[np.float64],
    size: int,
    intercept: bool,
    begin: int,
    end: int,
    offsets: NDArray[np.int64],
    local: NDArray[np.int32],
    values: NDArray[np.floating],
    weight: NDArray[np.float64],
    z: NDArray[np.float64],
    V: NDArray[np.float64],
    other_leverage: NDArray[np.float64],
    leverage: NDArray[np.float32],
) -> None:
    """pull = r = Σ_i h_i w'_i x_i, with w'_i = weight_i · loss'''(z_i) and h_i = x_i·V x_i + other_leverage_i."""
    for j in range(size):
        pull[j] = 0.0
    for i in range(begin, end):
        first, last = np.uint64(offsets[i]), np.uint64(offsets[i + 1])
        h = V[0, 0] if intercept else 0.0
        for s in range(first, last):
            a = np.uint64(local[s])
            inner = V[a, 0] if intercept else 0.0
            for t in range(first, s):
                inner += V[a, np.uint64(local[t])] * values[t]
            h += values[s] * (2.0 * inner + V[a, a] * values[s])
        leverage[i] = h
        change = (h + other_leverage[i]) * weight[i] * third_derivative(loss, z[i - begin])
        if intercept:
            pull[0] += change
        for s in range(first, last):
            pull[np.uint64(local[s])] += change * values[s]
