"""Newton's method for one large convex model: steps by preconditioned conjugate gradients, cut off early while the
optimum is far (Dembo and Steihaug, "Truncated-Newton algorithms for large-scale unconstrained optimization", 1983).

A step that does not help is shortened along its own direction: that costs evaluations, but no further Hessian products.
What was learnt of its length is forgotten afterwards. A trust region would remember it, and where the curvature jumps,
as the smoothed hinge's does, would creep along the edge: the step across it is too long on one side alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from gdmix_core.jit import njit
from gdmix_core.solvers.large.optimize_result import OptimizeResult

# Up to so many coefficients the Hessian is made, which costs one pass, and factored; above, it is multiplied with.
# Measured: benchmarks/fixed_effect_solvers.py --dense.
DENSE_LIMIT = 128

FORCING = 0.1  # largest relative residual at which a step is good enough
_MAX_CG_ITERATIONS = 250  # in a step
_SHORTENINGS = 40
_ACCEPT = 1e-4
# A direction whose curvature is below this share of the preconditioner's is one the data and the penalty leave open.
_SINGULAR = 1e-12
ROUNDING = 1e-13  # of F: differences below tell nothing

Vector = NDArray[np.float64]


class Objective(Protocol):
    """A convex function; second derivatives are those at the point of the latest move_to."""

    def value_and_gradient(self, u: Vector) -> tuple[float, Vector]: ...
    def move_to(self, u: Vector) -> None: ...
    def product(self, v: Vector) -> Vector: ...
    def diagonal(self) -> Vector: ...
    def hessian(self) -> NDArray[np.float64]: ...


@dataclass
class Step:
    """s; its slope g·s (< 0) and its curvature s·Hs."""

    s: Vector
    slope: float
    curvature: float


def minimize(
    objective: Objective,
    start: Vector,
    *,
    gtol: float,
    max_iterations: int,
    dense_limit: int = DENSE_LIMIT,
    on_iteration: Callable[[int, float, Vector], None] | None = None,
) -> OptimizeResult:
    """gtol: largest absolute gradient entry to stop at. on_iteration(number, F, u) is called after each iteration."""
    u = start
    value, gradient = objective.value_and_gradient(u)
    evaluations, iterations = 1, 0
    first_size = largest = float(np.max(np.abs(gradient), initial=0.0))
    message = "the gradient is at its goal"
    while largest > gtol:
        if iterations == max_iterations:
            message = "the limit of iterations is reached"
            break
        objective.move_to(u)
        forcing = min(FORCING, (largest / first_size) ** 0.5)
        step = _newton_step(objective, gradient, forcing, 0.1 * gtol, dense_limit)
        accepted = False
        for _ in range(_SHORTENINGS):
            trial = u + step.s
            new_value, new_gradient = objective.value_and_gradient(trial)
            evaluations += 1
            predicted = -(step.slope + 0.5 * step.curvature)
            accepted = _ratio(value - new_value, predicted, value, gradient, new_gradient) > _ACCEPT
            if accepted:
                break
            _shorten(step, new_value - value)
        if not accepted:
            message = "no shorter step decreases the objective"
            break
        u, value, gradient = trial, new_value, new_gradient
        largest = float(np.max(np.abs(gradient), initial=0.0))
        iterations += 1
        if on_iteration is not None:
            on_iteration(iterations, value, u)
    return OptimizeResult(u, value, largest, iterations, evaluations, largest <= gtol, message)


def _ratio(actual: float, predicted: float, value: float, gradient: Vector, new_gradient: Vector) -> float:
    """Decrease by predicted decrease. Where both drown in F's rounding the gradient decides."""
    if not np.isfinite(actual):
        return -np.inf
    if max(abs(actual), predicted) <= ROUNDING * abs(value):
        return 1.0 if np.max(np.abs(new_gradient)) < np.max(np.abs(gradient)) else -1.0
    return actual / predicted if predicted > 0.0 else -1.0


def _shorten(step: Step, increase: float) -> None:
    """Shorten the step to the minimum of the parabola through the known values, to a tenth at least, half at most."""
    t = 0.1
    if np.isfinite(increase) and increase > step.slope:
        t = float(np.clip(-step.slope / (2.0 * (increase - step.slope)), 0.1, 0.5))
    step.s = t * step.s
    step.slope *= t
    step.curvature *= t * t


def _newton_step(objective: Objective, gradient: Vector, forcing: float, floor: float, dense_limit: int) -> Step:
    if len(gradient) > dense_limit:
        diagonal = positive(objective.diagonal())
        return conjugate_gradients(gradient, objective.product, lambda r: r / diagonal, forcing, floor)
    H = objective.hessian()
    precondition = factored(H)
    # The factors are nearly exact, so conjugate gradients need a round or two, none of which touches the rows.
    return conjugate_gradients(gradient, lambda v: H @ v, precondition, 1e-6, 1e-3 * floor)


def positive(diagonal: Vector) -> Vector:
    """Return the diagonal with the average coefficient's curvature in place of none at all."""
    flat = diagonal <= 0.0
    average = float(np.mean(diagonal[~flat])) if not np.all(flat) else 1.0
    return np.where(flat, average, diagonal)


def factored(H: NDArray[np.float64]) -> Callable[[Vector], Vector]:
    """Return r → (H + D)⁻¹ r, with as little of H's diagonal in D as it takes to be positive definite."""
    diagonal = positive(np.diag(H))
    flat = np.diag(H) < diagonal
    # From the start: a direction without curvature must not be one of a little, by rounding.
    ridge = 1e-11
    while ridge <= 1.0:
        try:
            padded = H.copy()
            padded[np.diag_indices_from(padded)] += np.where(flat, diagonal, ridge * diagonal)
            factors = cho_factor(padded, overwrite_a=True, check_finite=False)
            return lambda r: cho_solve(factors, r, check_finite=False)
        except LinAlgError:
            ridge *= 100.0
    return lambda r: r / diagonal


def conjugate_gradients(
    gradient: Vector,
    product: Callable[[Vector], Vector],
    precondition: Callable[[Vector], Vector],
    forcing: float,
    floor: float,
) -> Step:
    """Return the s that (nearly) minimises gradient·s + ½ s·Hs.

    product: v → H v; precondition: r → M⁻¹ r. Stops where the residual, in the norm of M⁻¹, is `forcing` of the first,
    or its entries are within ±floor; and after a direction without curvature, along which it goes as far as M takes it.
    """
    s = np.zeros(len(gradient))
    residual = gradient.copy()
    y = precondition(residual)
    direction = -y
    rho = float(residual @ y)
    target = forcing * forcing * rho
    size = rho  # direction · M direction
    largest = float(np.max(np.abs(residual), initial=0.0))
    for _ in range(min(2 * len(gradient), _MAX_CG_ITERATIONS)):
        if rho <= target or largest <= floor:
            break
        Hd = product(direction)
        curvature = float(direction @ Hd)
        flat = curvature <= _SINGULAR * size
        alpha = rho / (size if flat else curvature)
        largest = _go(alpha, direction, Hd, s, residual)
        if flat:
            break
        y = precondition(residual)
        previous, rho = rho, float(residual @ y)
        beta = rho / previous
        _turn(beta, direction, y)
        size = rho + beta * beta * size
    slope = float(gradient @ s)
    return Step(s, slope, float(residual @ s) - slope)


@njit(cache=True, nogil=True)
def _go(alpha: float, direction: Vector, Hd: Vector, s: Vector, residual: Vector) -> float:
    """Add alpha · direction to s and alpha · Hd to the residual; return the residual's largest absolute entry."""
    largest = 0.0
    for j in range(len(s)):
        s[j] += alpha * direction[j]
        residual[j] += alpha * Hd[j]
        largest = max(largest, abs(residual[j]))
    return largest


@njit(cache=True, nogil=True)
def _turn(beta: float, direction: Vector, y: Vector) -> None:
    """Overwrite direction with beta · direction − y."""
    for j in range(len(direction)):
        direction[j] = beta * direction[j] - y[j]
