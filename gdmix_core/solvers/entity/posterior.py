"""The measures of curvature at an entity's optimum: variances of its coefficients, and its part in choosing λ.

H = Xᵀ diag(weight · loss'') X + diag(precision) at the solution, V = H⁻¹. The formulas of the sums are those of
empirical_bayes/fixed_point.py.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gdmix_core.jit import njit
from gdmix_core.solvers.entity import cg_step, dense_step
from gdmix_core.solvers.entity.objective import move_to
from gdmix_core.solvers.entity.problem import Measures, Penalty, Rows, Scratch
from gdmix_core.solvers.losses import loss_terms, third_derivative

NO_VARIANCES = 0
SIMPLE = 1
FULL = 2

# The inverse of a larger Hessian is not computed: its matrices would take more than 100 MB for each thread.
LARGEST_INVERSE = 2048


@njit(cache=True, nogil=True)
def measure(
    loss: int,
    rows: Rows,
    begin: int,
    end: int,
    w: NDArray[np.float64],
    penalty: Penalty,
    first: int,
    scratch: Scratch,
    measures: Measures,
) -> None:
    """One entity, at its solution w. first: of its coefficients among all, of which measures are

    variances: nan where a direction has no curvature; models larger than scratch.H are measured by diag(H) alone
    group: the prior each coefficient has in common with others, −1 for one of its own; sums [4, G], added to:
        Σ precision w², Σ precision c, Σ 1, Σ precision V; with G = 0 nothing is
    other_margin_variance: posterior variance of each row's margin that comes from the other coordinates
    margin_variance: out, what comes from this one; both are only touched where sums are
    """
    size, precision = len(w), penalty.precision
    z, curvature, H, V = scratch.z, scratch.curvature, scratch.H, scratch.V
    variances, group, sums = (
        measures.variances[first : first + size],
        measures.group[first : first + size],
        measures.sums,
    )
    estimate = sums.shape[1] > 0
    move_to(z, w, rows, begin, end)
    for i in range(begin, end):
        _, _, second = loss_terms(loss, z[i - begin], rows.label[i])
        curvature[i - begin] = rows.weight[i] * second
    dense = size <= len(H) and (measures.variance_mode == FULL or estimate)
    diagonal = np.empty(size)
    if dense:
        dense_step.hessian(H, size, rows.features, begin, end, curvature, precision)
        for j in range(size):
            diagonal[j] = H[j, j]
        dense_step.cholesky(H, size)
        invert(H, V, size)
    else:
        cg_step.hessian_diagonal(diagonal, size, rows.features, begin, end, curvature, precision)
    if measures.variance_mode == FULL and dense:
        for j in range(size):
            variances[j] = V[j, j] if diagonal[j] > 0.0 else np.nan
    elif measures.variance_mode != NO_VARIANCES:
        for j in range(size):
            variances[j] = 1.0 / diagonal[j] if diagonal[j] > 0.0 else np.nan
    if not estimate:
        return
    for j in range(size):
        g = group[j]
        if g >= 0:
            variance = V[j, j] if dense else 1.0 / diagonal[j]
            sums[0, g] += precision[j] * w[j] * w[j]
            sums[2, g] += 1.0
            sums[3, g] += variance * precision[j]
    if dense:
        slope = diagonal  # no longer needed; r of the module's formula
        margin_variance_slope(loss, slope, size, rows, begin, end, z, V, measures)
        for j in range(size):
            g = group[j]
            if g >= 0:
                moved = 0.0
                for k in range(size):
                    moved += (V[j, k] if k <= j else V[k, j]) * slope[k]
                sums[1, g] += precision[j] * moved * w[j]


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
def margin_variance_slope(
    loss: int,
    slope: NDArray[np.float64],
    size: int,
    rows: Rows,
    begin: int,
    end: int,
    z: NDArray[np.float64],
    V: NDArray[np.float64],
    measures: Measures,
) -> None:
    """slope = r = Σ_i h_i d_i x_i, with d_i = weight_i · loss'''(z_i) and h_i = x_i·V x_i + other_margin_variance_i."""
    intercept, offsets, local, values = rows.features
    for j in range(size):
        slope[j] = 0.0
    for i in range(begin, end):
        first, last = np.uint64(offsets[i]), np.uint64(offsets[i + 1])
        h = V[0, 0] if intercept else 0.0
        for s in range(first, last):
            a = np.uint64(local[s])
            inner = V[a, 0] if intercept else 0.0
            for t in range(first, s):
                inner += V[a, np.uint64(local[t])] * values[t]
            h += values[s] * (2.0 * inner + V[a, a] * values[s])
        measures.margin_variance[i] = h
        change = (h + measures.other_margin_variance[i]) * rows.weight[i] * third_derivative(loss, z[i - begin])
        if intercept:
            slope[0] += change
        for s in range(first, last):
            slope[np.uint64(local[s])] += change * values[s]
