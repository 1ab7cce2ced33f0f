"""Damped Newton for one entity's smooth objective, by a dense Hessian or by conjugate gradients.

F(w) = Σ_i weight_i · loss(y_i, x_i·w + offset_i) + ½ Σ_j precision_j (w_j − prior_mean_j)²
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gdmix_core.jit import njit
from gdmix_core.solvers.entity import cg_step, dense_step
from gdmix_core.solvers.entity.objective import gradient_of, loss_along, margins, move_to, penalty_along
from gdmix_core.solvers.entity.problem import Features, Limits, Penalty, Rows, Scratch
from gdmix_core.solvers.losses import LINEAR, POISSON, SMOOTHED_HINGE

CONVERGED = 0
ITERATION_LIMIT = 1
NO_DATA = 2
SEPARATED = 3  # no finite optimum (one class and a free intercept): stopped where the loss was almost zero
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
SHORTENINGS = 50
# Curvatures change by about the change of the margins. Below this the factored Hessian serves again: a step is off by
# a tenth at most, which costs less than factoring anew.
_LARGEST_DRIFT = 0.1


@njit(cache=True, nogil=True, inline="always")
def minimize(
    loss: int,
    rows: Rows,
    begin: int,
    end: int,
    w: NDArray[np.float64],
    penalty: Penalty,
    limits: Limits,
    scratch: Scratch,
) -> tuple[int, int, float]:
    """Move w to the optimum of one entity; (status, iterations, F)."""
    z, dz, slope, curvature, gradient, step = (
        scratch.z, scratch.dz, scratch.slope, scratch.curvature, scratch.gradient, scratch.step,
    )  # fmt: skip
    size, count = len(w), end - begin
    total_weight, free = 0.0, False
    for i in range(begin, end):
        total_weight += rows.weight[i]
    for j in range(size):
        step[j] = 0.0
        free = free or penalty.precision[j] == 0.0
    # Squares and hinges reach their least value at finite margins.
    free = free and loss != LINEAR and loss != SMOOTHED_HINGE
    gtol = limits.tolerance * max(1.0, total_weight)
    negligible = _NO_DECREMENT * total_weight if loss == SMOOTHED_HINGE else 1e-300

    move_to(z, w, rows, begin, end)
    data_loss = loss_along(loss, z, z, 0.0, rows, begin, end, slope, curvature)
    F = data_loss + penalty_along(w, step, 0.0, penalty, None)
    iterations = 0
    drift = np.inf  # how far margins have moved since H was factored
    for _ in range(limits.max_iterations):
        largest_gradient = gradient_of(gradient, slope, w, penalty, rows.features, begin, end)
        left = left_to_lose(loss, data_loss, curvature, count)
        separated = free and left <= NEGLIGIBLE_LOSS * total_weight
        if separated and largest_gradient <= gtol and is_number(gradient, size):
            return SEPARATED, iterations, F
        drift = _newton_step(drift, rows.features, begin, end, penalty.precision, size, limits.dense_limit, scratch)
        decrement = 0.0
        for j in range(size):
            decrement -= gradient[j] * step[j]
        iterations += 1
        if largest_gradient <= gtol and decrement <= _DECREMENT * abs(F) + negligible:
            # The step is below what a comparison of objectives can see; taken in full it squares the error.
            for j in range(size):
                w[j] += step[j]
            return CONVERGED, iterations, F

        margins(dz, step, rows.features, begin, end)
        change = largest_change(dz, count)
        # A quadratic is its own model, however far the step goes; labels of a linear model have any size.
        t = 1.0 if loss == LINEAR or change <= LARGEST_CHANGE else LARGEST_CHANGE / change
        improved = False
        # As in proximal.py. A separate function would cost 3 to 5 % of a fit: Numba counts references to each array
        # that it is given, at every step.
        for _ in range(SHORTENINGS):
            data_loss = loss_along(loss, z, dz, t, rows, begin, end, slope, curvature)
            trial = data_loss + penalty_along(w, step, t, penalty, None)
            # Close to the optimum a decrease drowns in the rounding of F and its terms; the gradient decides there.
            if trial <= F - _SUFFICIENT_DECREASE * t * decrement + _ROUNDING * (abs(F) + left):
                improved = True
                break
            t *= 0.5
        if not improved:
            # No descent left in float64: the gradient decides whether this is the optimum. slope and curvature
            # are those of the last trial, but nothing reads them any more.
            optimal = largest_gradient <= gtol and is_number(gradient, size)
            return CONVERGED if optimal else ITERATION_LIMIT, iterations, F
        F = trial
        for j in range(size):
            w[j] += t * step[j]
        for i in range(count):
            z[i] += t * dz[i]
        drift += change if t == 1.0 and loss != SMOOTHED_HINGE else np.inf
    return ITERATION_LIMIT, iterations, F


@njit(cache=True, nogil=True, inline="always")
def _newton_step(
    drift: float,
    features: Features,
    begin: int,
    end: int,
    precision: NDArray[np.float64],
    size: int,
    dense_limit: int,
    scratch: Scratch,
) -> float:
    """scratch.step = −H⁻¹ gradient, by the factors of the last H where margins have hardly moved; the drift since."""
    if size > dense_limit:
        cg_step.newton_step(
            scratch.step,
            scratch.gradient,
            scratch.work,
            size,
            features,
            begin,
            end,
            scratch.curvature,
            precision,
        )
        return drift
    if drift > _LARGEST_DRIFT:
        dense_step.hessian(scratch.H, size, features, begin, end, scratch.curvature, precision)
        dense_step.cholesky(scratch.H, size)
        drift = 0.0
    dense_step.solve(scratch.H, size, scratch.gradient, scratch.step)
    return drift


@njit(cache=True, nogil=True, inline="always")
def left_to_lose(loss: int, data_loss: float, curvature: NDArray[np.float64], count: int) -> float:
    """Return what the loss may still fall by: its value; for Poisson, whose value may be anything, the rates' sum."""
    if loss != POISSON:
        return data_loss
    left = 0.0
    for i in range(count):
        left += curvature[i]
    return left


@njit(cache=True, nogil=True, inline="always")
def largest_change(dz: NDArray[np.float64], count: int) -> float:
    change = 0.0
    for i in range(count):
        change = max(change, abs(dz[i]))
    return change


@njit(cache=True, nogil=True)
def is_number(gradient: NDArray[np.float64], size: int) -> bool:
    """Check that no entry is NaN, which would pass any tolerance. Called only when an entity would be done."""
    total = 0.0
    for j in range(size):
        total += abs(gradient[j])
    return not np.isnan(total)
