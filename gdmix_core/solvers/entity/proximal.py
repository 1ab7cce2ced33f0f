"""Proximal Newton with coordinate descent, for one entity's objective with an L1 penalty or bounds.

With lower ≤ w ≤ upper:

    F(w) = Σ_i weight_i · loss(y_i, x_i·w + offset_i) + ½ Σ_j precision_j (w_j − prior_mean_j)² + Σ_j l1_j |w_j|

Each step minimises the quadratic model of the smooth part plus the rest by coordinate descent, and searches along it
(Yuan, Ho and Lin, "An improved GLMNET for L1-regularized logistic regression", 2012). A step touches the entity's
entries only, so that its cost does not grow with the square of the coefficients.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gdmix_core.jit import njit
from gdmix_core.solvers.entity.coordinate_descent import Columns, by_column, descend, min_norm_subgradient
from gdmix_core.solvers.entity.newton import (
    CONVERGED,
    ITERATION_LIMIT,
    LARGEST_CHANGE,
    NEGLIGIBLE_LOSS,
    SEPARATED,
    SHORTENINGS,
    is_number,
    largest_change,
    left_to_lose,
)
from gdmix_core.solvers.entity.objective import gradient_of, loss_along, move_to, penalty_along
from gdmix_core.solvers.entity.problem import Constraints, Entities, Limits, Penalty, Rows, Scratch
from gdmix_core.solvers.losses import LINEAR, SMOOTHED_HINGE

_SUFFICIENT_DECREASE = 1e-2
_INNER = 0.01  # the quadratic model is solved to this share of the gradient at hand


@njit(cache=True, nogil=True)
def columns_for(entities: Entities, rows: Rows) -> Columns:
    entries, largest = 1, 1
    for e in range(len(entities.row_begin)):
        begin, end = entities.row_begin[e], entities.row_end[e]
        entries = max(entries, rows.features.offsets[end] - rows.features.offsets[begin] + end - begin)
        largest = max(largest, entities.coefficient_begin[e + 1] - entities.coefficient_begin[e])
    return Columns(np.empty(largest + 1, np.int64), np.empty(entries, np.int64), np.empty(entries))


@njit(cache=True, nogil=True)
def minimize(
    loss: int,
    rows: Rows,
    begin: int,
    end: int,
    w: NDArray[np.float64],
    penalty: Penalty,
    constraints: Constraints,
    limits: Limits,
    scratch: Scratch,
    columns: Columns,
) -> tuple[int, int, float]:
    """Move w to the optimum of one entity; (status, iterations, F)."""
    z, dz, slope, curvature, gradient, step = (
        scratch.z, scratch.dz, scratch.slope, scratch.curvature, scratch.gradient, scratch.step,
    )  # fmt: skip
    l1, lower, upper = constraints.l1, constraints.lower, constraints.upper
    size, count = len(w), end - begin
    by_column(columns, size, rows.features, begin, end)
    total_weight, free = 0.0, False
    for i in range(begin, end):
        total_weight += rows.weight[i]
    for j in range(size):
        w[j] = min(max(w[j], lower[j]), upper[j])
        step[j] = 0.0
        free = free or (penalty.precision[j] == 0.0 and l1[j] == 0.0)
    free = free and loss != LINEAR and loss != SMOOTHED_HINGE
    gtol = limits.tolerance * max(1.0, total_weight)

    move_to(z, w, rows, begin, end)
    data_loss = loss_along(loss, z, z, 0.0, rows, begin, end, slope, curvature)
    F = data_loss + penalty_along(w, step, 0.0, penalty, l1)
    iterations = 0
    for _ in range(limits.max_iterations):
        gradient_of(gradient, slope, w, penalty, rows.features, begin, end)
        violation = 0.0
        for j in range(size):
            violation = max(violation, abs(min_norm_subgradient(gradient[j], w[j], l1[j], lower[j], upper[j])))
        if violation <= gtol and is_number(gradient, size):
            left = left_to_lose(loss, data_loss, curvature, count)
            return SEPARATED if free and left <= NEGLIGIBLE_LOSS * total_weight else CONVERGED, iterations, F
        iterations += 1
        inner = max(_INNER * violation, 0.1 * gtol)
        descend(
            step, dz, gradient, curvature, w, penalty.precision, constraints, columns, count, scratch.work[0], inner
        )
        expected = 0.0
        for j in range(size):
            expected += gradient[j] * step[j] + l1[j] * (abs(w[j] + step[j]) - abs(w[j]))
        change = largest_change(dz, count)
        t = 1.0 if loss == LINEAR or change <= LARGEST_CHANGE else LARGEST_CHANGE / change
        improved = False
        for _ in range(SHORTENINGS):
            data_loss = loss_along(loss, z, dz, t, rows, begin, end, slope, curvature)
            trial = data_loss + penalty_along(w, step, t, penalty, l1)
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
            w[j] = min(max(w[j] + t * step[j], lower[j]), upper[j])
        for i in range(count):
            z[i] += t * dz[i]
    return ITERATION_LIMIT, iterations, F
