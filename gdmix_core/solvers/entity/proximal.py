"""Many small models with an L1 penalty or bounds: proximal Newton with coordinate descent, entity after entity.

For each entity, with lower ≤ θ ≤ upper:

    F(θ) = Σ_i weight_i · loss(y_i, x_i·θ + offset_i) + ½ Σ_j penalty_j (θ_j − prior_j)² + Σ_j l1_j |θ_j|

Each step minimises the quadratic model of the smooth part plus the rest by coordinate descent, and searches along it
(Yuan, Ho and Lin, "An improved GLMNET for L1-regularized logistic regression", 2012). A step touches the entity's
entries only, so that its cost does not grow with the square of the coefficients.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gdmix_core.jit import njit
from gdmix_core.solvers.entity import posterior
from gdmix_core.solvers.entity.coordinate_descent import by_column, descend, min_norm_subgradient
from gdmix_core.solvers.entity.newton import (
    CONVERGED,
    HINGE_CURVATURE,
    ITERATION_LIMIT,
    LARGEST_CHANGE,
    NEGLIGIBLE_LOSS,
    NO_DATA,
    UNBOUNDED,
    gradient_of,
    is_number,
    margins,
)
from gdmix_core.solvers.losses import LINEAR, POISSON, SMOOTHED_HINGE, loss_terms

_SUFFICIENT_DECREASE = 1e-2
_INNER = 0.01  # the quadratic model is solved to this share of the gradient at hand


@njit(cache=True, nogil=True)
def solve_entities(
    loss: int,
    intercept: bool,
    row_begin: NDArray[np.int64],
    row_end: NDArray[np.int64],
    offsets: NDArray[np.int64],
    local: NDArray[np.int32],
    values: NDArray[np.floating],
    label: NDArray[np.float64],
    weight: NDArray[np.float64],
    margin_offset: NDArray[np.float64],
    coefficient_begin: NDArray[np.int64],
    theta: NDArray[np.float64],
    penalty: NDArray[np.float64],
    prior: NDArray[np.float64],
    l1: NDArray[np.float64],
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
    tolerance: float,
    max_iterations: int,
    status: NDArray[np.uint8],
    iterations: NDArray[np.int32],
    objective: NDArray[np.float64],
    variance_mode: int,
    variances: NDArray[np.float64],
    group: NDArray[np.int32],
    sums: NDArray[np.float64],
    other_leverage: NDArray[np.float64],
    leverage: NDArray[np.float32],
) -> None:
    """As newton.solve_entities, with l1, lower and upper float64 [all coefficients] (infinite: no bound).

    An entity has converged when no entry of the least subgradient that the bounds let act is above its tolerance.
    """
    measured = variance_mode != posterior.NO_VARIANCES or sums.shape[1] > 0
    inverted = variance_mode == posterior.FULL or sums.shape[1] > 0
    most_rows, most_entries, largest, largest_dense = 1, 1, 1, 1
    for e in range(len(row_begin)):
        most_rows = max(most_rows, row_end[e] - row_begin[e])
        most_entries = max(most_entries, offsets[row_end[e]] - offsets[row_begin[e]] + row_end[e] - row_begin[e])
        size = coefficient_begin[e + 1] - coefficient_begin[e]
        largest = max(largest, size)
        if inverted and size <= posterior.LARGEST_INVERSE:
            largest_dense = max(largest_dense, size)
    z, dz, slope, curvature = np.empty(most_rows), np.empty(most_rows), np.empty(most_rows), np.empty(most_rows)
    gradient, step, hessian_diagonal = np.empty(largest), np.empty(largest), np.empty(largest)
    column_begin = np.empty(largest + 1, np.int64)
    column_row, column_value = np.empty(most_entries, np.int64), np.empty(most_entries)
    H = np.empty((largest_dense, largest_dense))
    V = np.empty((largest_dense, largest_dense))

    for e in range(len(row_begin)):
        begin, end = row_begin[e], row_end[e]
        own = slice(coefficient_begin[e], coefficient_begin[e + 1])
        w, lam, m = theta[own], penalty[own], prior[own]
        kappa, low, high = l1[own], lower[own], upper[own]
        size = len(w)
        iterations[e] = 0
        objective[e] = 0.0
        if begin == end or size == 0:
            status[e] = NO_DATA
            continue
        total_weight = 0.0
        for i in range(begin, end):
            total_weight += weight[i]
        gtol = tolerance * max(1.0, total_weight)
        free = False
        for j in range(size):
            w[j] = min(max(w[j], low[j]), high[j])
            free = free or (lam[j] == 0.0 and kappa[j] == 0.0)
        by_column(column_begin, column_row, column_value, size, intercept, begin, end, offsets, local, values)

        margins(z, w, intercept, begin, end, offsets, local, values)
        for i in range(begin, end):
            z[i - begin] += margin_offset[i]
            dz[i - begin] = 0.0
        for j in range(size):
            step[j] = 0.0
        data_loss = _data_loss(loss, z, dz, 0.0, begin, end, label, weight, slope, curvature)
        F = data_loss + _penalty_value(w, step, 0.0, lam, m, kappa)
        status[e] = ITERATION_LIMIT
        for _ in range(max_iterations):
            gradient_of(gradient, slope, w, lam, m, size, intercept, begin, end, offsets, local, values)
            violation = 0.0
            for j in range(size):
                violation = max(violation, abs(min_norm_subgradient(gradient[j], w[j], kappa[j], low[j], high[j])))
            if violation <= gtol and is_number(gradient, size):
                left = data_loss
                if loss == POISSON:
                    left = 0.0
                    for i in range(end - begin):
                        left += curvature[i]
                separable = free and loss != LINEAR and loss != SMOOTHED_HINGE
                status[e] = UNBOUNDED if separable and left <= NEGLIGIBLE_LOSS * total_weight else CONVERGED
                break
            iterations[e] += 1
            for j in range(size):
                hessian_diagonal[j] = lam[j]
                for s in range(column_begin[j], column_begin[j + 1]):
                    hessian_diagonal[j] += curvature[column_row[s]] * column_value[s] * column_value[s]
                hessian_diagonal[j] = max(hessian_diagonal[j], 1e-12)
            descend(
                step, dz, gradient, hessian_diagonal, curvature, w, lam, kappa, low, high,
                column_begin, column_row, column_value, end - begin, max(_INNER * violation, 0.1 * gtol),
            )  # fmt: skip
            expected = 0.0
            for j in range(size):
                expected += gradient[j] * step[j] + kappa[j] * (abs(w[j] + step[j]) - abs(w[j]))
            change = 0.0
            for i in range(end - begin):
                change = max(change, abs(dz[i]))
            t = 1.0 if loss == LINEAR or change <= LARGEST_CHANGE else LARGEST_CHANGE / change
            improved = False
            for _ in range(50):
                data_loss = _data_loss(loss, z, dz, t, begin, end, label, weight, slope, curvature)
                trial = data_loss + _penalty_value(w, step, t, lam, m, kappa)
                # Close to the optimum a decrease drowns in the rounding of F; the subgradient decides there.
                if trial <= F + _SUFFICIENT_DECREASE * t * expected + 1e-15 * abs(F):
                    improved = True
                    break
                t *= 0.5
            if not improved:
                break
            F = trial
            for j in range(size):
                # At t = 1 what the descent put to zero is zero; at a bound a rounding error may be left.
                w[j] = min(max(w[j] + t * step[j], low[j]), high[j])
            for i in range(end - begin):
                z[i] += t * dz[i]
        objective[e] = F
        if measured:
            margins(z, w, intercept, begin, end, offsets, local, values)
            for i in range(begin, end):
                z[i - begin] += margin_offset[i]
            posterior.measure(
                loss, variance_mode, intercept, begin, end, offsets, local, values, label, weight, z, curvature,
                w, lam, H, V, variances[own], group[own], sums, other_leverage, leverage,
            )  # fmt: skip


@njit(cache=True, nogil=True)
def _data_loss(
    loss: int,
    z: NDArray[np.float64],
    dz: NDArray[np.float64],
    t: float,
    begin: int,
    end: int,
    label: NDArray[np.float64],
    weight: NDArray[np.float64],
    slope: NDArray[np.float64],
    curvature: NDArray[np.float64],
) -> float:
    """Σ weight · loss at the margins z + t dz; slope and curvature are overwritten with its derivatives there."""
    total = 0.0
    for i in range(begin, end):
        value, first, second = loss_terms(loss, z[i - begin] + t * dz[i - begin], label[i])
        if loss == SMOOTHED_HINGE:
            second = max(second, HINGE_CURVATURE)
        total += weight[i] * value
        slope[i - begin] = weight[i] * first
        curvature[i - begin] = weight[i] * second
    return total


@njit(cache=True, nogil=True)
def _penalty_value(
    w: NDArray[np.float64],
    step: NDArray[np.float64],
    t: float,
    penalty: NDArray[np.float64],
    prior: NDArray[np.float64],
    l1: NDArray[np.float64],
) -> float:
    total = 0.0
    for j in range(len(w)):
        moved = w[j] + t * step[j]
        total += 0.5 * penalty[j] * (moved - prior[j]) * (moved - prior[j]) + l1[j] * abs(moved)
    return total
