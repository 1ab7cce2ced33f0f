"""Newton's method for one large convex model with an L1 penalty and bounds, by preconditioned conjugate gradients.

Within the orthant that the coefficients are in, or that the subgradient leads them into, the L1 part is linear, so a
step is a Newton step of the coefficients that are free to move, projected back onto orthant and bounds (Andrew and Gao
2007, Bertsekas 1982). Coefficients about to meet their limit go there on their own: in the Newton step they would hold
back the others, which count on where they go.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gdmix_core.solvers.large.newton_cg import FORCING, ROUNDING, Objective, Vector, conjugate_gradients, positive
from gdmix_core.solvers.large.nonsmooth import Constraints
from gdmix_core.solvers.large.optimize_result import OptimizeResult

_LENGTHS = (1.0, 0.5, 0.25, 0.1, 0.03, 0.01, 1e-3, 1e-4, 1e-6)
_SUFFICIENT_DECREASE = 1e-4


def minimize(
    objective: Objective,
    start: Vector,
    *,
    gtol: float,
    max_iterations: int,
    constraints: Constraints,
    on_iteration: Callable[[int, float, Vector], None] | None = None,
) -> OptimizeResult:
    """Minimise objective(u) + Σ l1_j |u_j| over lower ≤ u ≤ upper.

    gtol: largest absolute entry of Constraints.subgradient to stop at. on_iteration(number, F, u) is called after each
    iteration.
    """
    c = constraints

    def evaluate(u: Vector) -> tuple[float, Vector, Vector, float]:
        """Return F, the smooth part's gradient, the shortest subgradient, and its largest entry."""
        value, gradient = objective.value_and_gradient(u)
        subgradient = c.subgradient(u, gradient)
        return value + float(c.l1 @ np.abs(u)), gradient, subgradient, float(np.max(np.abs(subgradient), initial=0.0))

    u = c.inside(start)
    value, _, subgradient, largest = evaluate(u)
    evaluations, iterations, first_size = 1, 0, largest
    message = "the gradient is at its goal"
    while largest > gtol:
        if iterations == max_iterations:
            message = "the limit of iterations is reached"
            break
        objective.move_to(u)
        lower, upper = c.orthant(u, subgradient)
        forcing = min(FORCING, (largest / first_size) ** 0.5)
        newton, alone = _directions(objective, u, subgradient, lower, upper, forcing, 0.1 * gtol)
        for t, direction in (*((t, newton) for t in _LENGTHS), *((t, alone) for t in _LENGTHS)):
            trial = np.clip(u + t * direction, lower, upper)
            found = evaluate(trial)
            evaluations += 1
            expected = float(subgradient @ (trial - u))
            if abs(found[0] - value) <= ROUNDING * abs(value):
                accepted = found[3] < largest
            else:
                accepted = expected < 0.0 and found[0] <= value + _SUFFICIENT_DECREASE * expected
            if accepted:
                break
        else:
            message = "no shorter step decreases the objective"
            break
        u = trial
        value, _, subgradient, largest = found
        iterations += 1
        if on_iteration is not None:
            on_iteration(iterations, value, u)
    return OptimizeResult(u, value, largest, iterations, evaluations, largest <= gtol, message)


def _directions(
    objective: Objective, u: Vector, subgradient: Vector, lower: Vector, upper: Vector, forcing: float, floor: float
) -> tuple[Vector, Vector]:
    """Newton's, and that of each coefficient on its own, which still leads down where projection spoils the first."""
    diagonal = positive(objective.diagonal())
    alone = -subgradient / diagonal
    meets_limit = (u + alone <= lower) | (u + alone >= upper)
    free = (subgradient != 0.0) & ~meets_limit

    def product(v: Vector) -> Vector:
        return np.where(free, objective.product(v), 0.0)

    step = conjugate_gradients(np.where(free, subgradient, 0.0), product, lambda r: r / diagonal, forcing, floor)
    return np.where(free, step.s, alone), alone
