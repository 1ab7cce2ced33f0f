"""L-BFGS (SciPy's L-BFGS-B) on a penalised objective, with an L1 part and bounds, stopping on the gradient only."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gdmix_core.solvers.large.nonsmooth import Constraints
from gdmix_core.solvers.large.optimize_result import OptimizeResult

Vector = NDArray[np.float64]
ValueAndGradient = Callable[[Vector], tuple[float, Vector]]

# If the line search gives up before the tolerance is met, a restart with an empty memory often makes progress.
_STARTS = 4


def minimize(
    objective: ValueAndGradient,
    start: Vector,
    *,
    gtol: float,
    max_iterations: int,
    history: int = 10,
    constraints: Constraints | None = None,
    on_iteration: Callable[[int, float, Vector], None] | None = None,
) -> OptimizeResult:
    """Minimise objective(w), or, with constraints, objective(w) + Σ l1_j |w_j| over lower ≤ w ≤ upper.

    Parameters
    ----------
    objective
        w, float64 [k], → the value and the gradient, float64 [k].
    start
        float64 [k], where to start.
    gtol
        Largest absolute entry of the gradient (with constraints: `Constraints.subgradient`) to stop at.
    max_iterations
        Iterations after which to stop.
    history
        How many steps the approximation of the Hessian is made from.
    constraints
        L1 weights and bounds; None for none.
    on_iteration
        Called as on_iteration(number, F, w) after each iteration.

    Returns
    -------
    OptimizeResult
        The point found, `w`, float64 [k], and how the search for it ended.
    """
    from scipy.optimize import minimize as scipy_minimize

    c = constraints or Constraints.none(len(start))
    w = c.inside(start)
    iterations = evaluations = 0
    value, gradient = np.nan, np.full(len(w), np.inf)  # at the point evaluated last
    message = ""

    def halves(x: Vector) -> tuple[float, Vector]:
        nonlocal evaluations, value, gradient
        evaluations += 1
        value, gradient = objective(c.join(x))
        value += c.absolute(x)
        return value, c.split_gradient(gradient)

    def size(at: Vector) -> float:
        return float(np.max(np.abs(c.subgradient(at, gradient)), initial=0.0))

    def callback(x: Vector) -> None:
        nonlocal iterations, w
        iterations += 1
        w = c.join(x)
        if on_iteration is not None:
            on_iteration(iterations, value, w)
        # SciPy's own test is of the distance to a bound, too, which says nothing where the sum is over many rows.
        if c.any and size(w) <= gtol:
            raise StopIteration

    for _ in range(_STARTS if c.any else 1):
        before = iterations
        # ftol 0: the usual test on the decrease of F stops far from the optimum when F is a sum over millions of rows.
        found = scipy_minimize(
            halves,
            c.split(w),
            jac=True,
            method="L-BFGS-B",
            bounds=c.split_bounds,
            callback=callback,
            options={
                "maxiter": max_iterations - iterations,
                "maxfun": 20 * max_iterations,
                "maxcor": history,
                "gtol": 0.0 if c.any else gtol,
                "ftol": 0.0,
            },
        )
        w, value, message = c.join(found.x), float(found.fun), str(found.message)
        if not c.any:
            largest = float(np.max(np.abs(found.jac), initial=0.0))
            break
        value, gradient = objective(w)
        value += float(c.l1 @ np.abs(w))
        evaluations += 1
        largest = size(w)
        if largest <= gtol or iterations >= max_iterations or iterations == before:
            break
    # When F cannot decrease any more in float64 the line search gives up; near it that is the optimum.
    return OptimizeResult(w, value, largest, iterations, evaluations, largest <= gtol, message)
