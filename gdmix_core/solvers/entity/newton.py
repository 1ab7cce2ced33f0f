"""Many small penalised models at once: damped Newton, entity after entity, compiled, no Python in between.

For each entity:  F(θ) = Σ_i weight_i · loss(y_i, x_i·θ + offset_i) + ½ Σ_j penalty_j (θ_j − prior_j)²
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gdmix_core.jit import njit
from gdmix_core.solvers.entity import cg_step, dense_step, posterior
from gdmix_core.solvers.losses import LINEAR, POISSON, SMOOTHED_HINGE, loss_terms

CONVERGED = 0
ITERATION_LIMIT = 1
NO_DATA = 2
UNBOUNDED = 3  # no finite optimum (one class and a free intercept): stopped where the loss was all but zero
STATUS_NAMES = ("converged", "iteration_limit", "no_data", "unbounded")

# Up to so many coefficients a step factors the dense Hessian, above it uses conjugate gradients.
# Measured on two cores, see docs/design.md; benchmarks/random_effect.py --threshold repeats it.
DENSE_LIMIT = 192

_SUFFICIENT_DECREASE = 1e-4
_ROUNDING = 1e-15
_DECREMENT = 1e-10  # relative to F: the last full step then leaves an error of its square
# A hinge loss may come to exactly 0, and no decrease is small beside that; per unit of weight this one is.
_NO_DECREMENT = 1e-16
NEGLIGIBLE_LOSS = 1e-6  # mean loss of a model that separates its rows
LARGEST_CHANGE = 20.0  # of a margin in one step: e^20 times the odds
# Curvatures change by about the change of the margins. Below this the factored Hessian serves again: a step is off by
# a tenth at most, which costs less than factoring anew.
_LARGEST_DRIFT = 0.1
# The smoothed hinge has no curvature where it is straight; steps are taken as if it had this little.
HINGE_CURVATURE = 1e-7


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
    tolerance: float,
    max_iterations: int,
    dense_limit: int,
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
    """Solves entities 0 … E−1.

    row_begin, row_end: int64 [E] rows each entity trains on
    offsets [n + 1], local, values: its rows' features; local is the position within the entity's coefficients,
        ascending in a row (with an intercept, position 0 is the intercept's and no row lists it)
    label, weight, margin_offset: float64 [n]
    coefficient_begin: int64 [E + 1]; theta, penalty, prior: float64 [all coefficients]
    theta: in: start, out: solution
    status uint8 [E], iterations int32 [E], objective float64 [E]: out; objective is F before the last, tiny step
    variance_mode … leverage: what is measured at the solution, see posterior.measure; variances and group are float64
        and int32 [all coefficients], the leverages float64 and float32 [n], or empty where nothing is asked for
    """
    measured = variance_mode != posterior.NO_VARIANCES or sums.shape[1] > 0
    inverted = variance_mode == posterior.FULL or sums.shape[1] > 0
    entities = len(row_begin)
    most_rows = 1
    largest = 1
    largest_dense = 1
    for e in range(entities):
        most_rows = max(most_rows, row_end[e] - row_begin[e])
        size = coefficient_begin[e + 1] - coefficient_begin[e]
        largest = max(largest, size)
        if size <= dense_limit or (inverted and size <= posterior.LARGEST_INVERSE):
            largest_dense = max(largest_dense, size)
    z = np.empty(most_rows)
    dz = np.empty(most_rows)
    slope = np.empty(most_rows)
    curvature = np.empty(most_rows)
    gradient = np.empty(largest)
    step = np.empty(largest)
    H = np.empty((largest_dense, largest_dense))
    V = np.empty((largest_dense, largest_dense)) if inverted else np.empty((0, 0))
    work = np.empty((4, largest))

    # Squares and hinges reach their least value at finite margins.
    may_separate = loss != LINEAR and loss != SMOOTHED_HINGE
    for e in range(entities):
        begin, end = row_begin[e], row_end[e]
        size = coefficient_begin[e + 1] - coefficient_begin[e]
        w = theta[coefficient_begin[e] : coefficient_begin[e + 1]]
        lam = penalty[coefficient_begin[e] : coefficient_begin[e + 1]]
        m = prior[coefficient_begin[e] : coefficient_begin[e + 1]]
        iterations[e] = 0
        objective[e] = 0.0
        if begin == end or size == 0:
            status[e] = NO_DATA
            continue
        total_weight = 0.0
        for i in range(begin, end):
            total_weight += weight[i]
        gtol = tolerance * max(1.0, total_weight)
        negligible = _NO_DECREMENT * total_weight if loss == SMOOTHED_HINGE else 1e-300
        free = False
        for j in range(size):
            free = free or lam[j] == 0.0

        margins(z, w, intercept, begin, end, offsets, local, values)
        data_loss = 0.0
        for i in range(begin, end):
            z[i - begin] += margin_offset[i]
            value, first, second = loss_terms(loss, z[i - begin], label[i])
            data_loss += weight[i] * value
            slope[i - begin] = weight[i] * first
            curvature[i - begin] = weight[i] * (second if loss != SMOOTHED_HINGE else max(second, HINGE_CURVATURE))
        penalty_value = 0.0
        for j in range(size):
            penalty_value += 0.5 * lam[j] * (w[j] - m[j]) * (w[j] - m[j])
        F = data_loss + penalty_value

        status[e] = ITERATION_LIMIT
        drift = np.inf  # how far margins have moved since H was factored
        for _ in range(max_iterations):
            largest_gradient = gradient_of(
                gradient, slope, w, lam, m, size, intercept, begin, end, offsets, local, values
            )
            # What the loss may still fall by: its value; of a Poisson loss, whose value may be anything, the rates.
            left = data_loss
            if loss == POISSON:
                left = 0.0
                for i in range(end - begin):
                    left += curvature[i]
            separated = free and may_separate and left <= NEGLIGIBLE_LOSS * total_weight
            if separated and largest_gradient <= gtol and is_number(gradient, size):
                status[e] = UNBOUNDED
                break
            if size <= dense_limit:
                if drift > _LARGEST_DRIFT:
                    dense_step.hessian(H, size, intercept, begin, end, offsets, local, values, curvature, lam)
                    dense_step.cholesky(H, size)
                    drift = 0.0
                dense_step.solve(H, size, gradient, step)
            else:
                cg_step.newton_step(
                    step, gradient, work, size, intercept, begin, end, offsets, local, values, curvature, lam
                )
            decrement = 0.0
            for j in range(size):
                decrement -= gradient[j] * step[j]
            iterations[e] += 1
            if largest_gradient <= gtol and decrement <= _DECREMENT * abs(F) + negligible:
                # The step is below what a comparison of objectives can see; taken in full it squares the error.
                for j in range(size):
                    w[j] += step[j]
                status[e] = CONVERGED
                break

            margins(dz, step, intercept, begin, end, offsets, local, values)
            change = 0.0
            for i in range(end - begin):
                change = max(change, abs(dz[i]))
            # A quadratic is its own model, however far the step goes; labels of a linear model have any size.
            t = 1.0 if loss == LINEAR or change <= LARGEST_CHANGE else LARGEST_CHANGE / change
            improved = False
            for _ in range(50):
                trial_loss = 0.0
                for i in range(begin, end):
                    value, first, second = loss_terms(loss, z[i - begin] + t * dz[i - begin], label[i])
                    trial_loss += weight[i] * value
                    slope[i - begin] = weight[i] * first
                    if loss == SMOOTHED_HINGE:
                        second = max(second, HINGE_CURVATURE)
                    curvature[i - begin] = weight[i] * second
                penalty_value = 0.0
                for j in range(size):
                    moved = w[j] + t * step[j] - m[j]
                    penalty_value += 0.5 * lam[j] * moved * moved
                trial = trial_loss + penalty_value
                # Close to the optimum a decrease drowns in the rounding of F and its terms; the gradient decides there.
                if trial <= F - _SUFFICIENT_DECREASE * t * decrement + _ROUNDING * (abs(F) + left):
                    improved = True
                    break
                t *= 0.5
            if not improved:
                # No descent left in float64: the gradient decides whether this is the optimum. slope and curvature
                # are those of the last trial, but nothing reads them any more.
                if largest_gradient <= gtol and is_number(gradient, size):
                    status[e] = CONVERGED
                break
            F = trial
            data_loss = trial_loss
            for j in range(size):
                w[j] += t * step[j]
            for i in range(end - begin):
                z[i] += t * dz[i]
            drift += change if t == 1.0 and loss != SMOOTHED_HINGE else np.inf
        objective[e] = F
        if measured:
            margins(z, w, intercept, begin, end, offsets, local, values)
            for i in range(begin, end):
                z[i - begin] += margin_offset[i]
            own = slice(coefficient_begin[e], coefficient_begin[e + 1])
            posterior.measure(
                loss, variance_mode, intercept, begin, end, offsets, local, values, label, weight, z, curvature,
                w, lam, H, V, variances[own], group[own], sums, other_leverage, leverage,
            )  # fmt: skip


@njit(cache=True, nogil=True)
def margins(
    z: NDArray[np.float64],
    w: NDArray[np.float64],
    intercept: bool,
    begin: int,
    end: int,
    offsets: NDArray[np.int64],
    local: NDArray[np.int32],
    values: NDArray[np.floating],
) -> None:
    """z[i − begin] = x_i · w for the rows begin … end−1."""
    for i in range(begin, end):
        total = w[0] if intercept else 0.0
        for s in range(np.uint64(offsets[i]), np.uint64(offsets[i + 1])):
            total += values[s] * w[np.uint64(local[s])]
        z[i - begin] = total


@njit(cache=True, nogil=True)
def gradient_of(
    gradient: NDArray[np.float64],
    slope: NDArray[np.float64],
    w: NDArray[np.float64],
    penalty: NDArray[np.float64],
    prior: NDArray[np.float64],
    size: int,
    intercept: bool,
    begin: int,
    end: int,
    offsets: NDArray[np.int64],
    local: NDArray[np.int32],
    values: NDArray[np.floating],
) -> float:
    """gradient = Xᵀ slope + penalty ∘ (w − prior); returns its largest absolute entry, NaN aside."""
    for j in range(size):
        gradient[j] = penalty[j] * (w[j] - prior[j])
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


@njit(cache=True, nogil=True)
def is_number(gradient: NDArray[np.float64], size: int) -> bool:
    """Whether no entry is NaN, which is within any tolerance. Asked where an entity would be done, not before."""
    total = 0.0
    for j in range(size):
        total += abs(gradient[j])
    return not np.isnan(total)
