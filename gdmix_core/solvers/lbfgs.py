"""L-BFGS (SciPy's L-BFGS-B, without bounds) on a penalised objective, stopping on the gradient alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ValueAndGradient = Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]]


@dataclass(frozen=True)
class Minimum:
    """w float64 [k]; objective F(w); gradient: its max-norm there; evaluations: of loss and gradient; converged."""

    w: NDArray[np.float64]
    objective: float
    gradient: float
    iterations: int
    evaluations: int
    converged: bool
    message: str


def minimize(
    data_term: ValueAndGradient,
    penalty: NDArray[np.float64],
    start: NDArray[np.float64],
    *,
    goal: float,
    max_iterations: int,
    history: int,
    on_iteration: Callable[[int, float, NDArray[np.float64]], None] | None = None,
) -> Minimum:
    """Minimises data_term(w) + ½ Σ penalty_j w_j².

    goal: largest absolute gradient entry to stop at. on_iteration(number, objective, w) is called after each one.
    """
    from scipy.optimize import minimize as scipy_minimize

    latest = [float("nan")]

    def objective(w: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value, gradient = data_term(w)
        latest[0] = value + 0.5 * float(penalty @ (w * w))
        return latest[0], gradient + penalty * w

    iteration = 0

    def callback(w: NDArray[np.float64]) -> None:
        nonlocal iteration
        iteration += 1
        if on_iteration is not None:
            on_iteration(iteration, latest[0], w)

    # ftol 0: the usual test on the decrease of F stops far from the optimum when F is a sum over millions of rows.
    found = scipy_minimize(
        objective,
        start,
        jac=True,
        method="L-BFGS-B",
        callback=callback,
        options={
            "maxiter": max_iterations,
            "maxfun": 20 * max_iterations,
            "maxcor": history,
            "gtol": goal,
            "ftol": 0.0,
        },
    )
    largest = float(np.max(np.abs(found.jac), initial=0.0))
    # When F cannot decrease any more in float64 the line search gives up; near the goal that is the optimum.
    return Minimum(
        found.x, float(found.fun), largest, int(found.nit), int(found.nfev), largest <= goal, str(found.message)
    )
