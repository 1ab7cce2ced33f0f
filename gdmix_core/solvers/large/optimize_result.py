"""The result of a minimiser."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class OptimizeResult:
    """w float64 [k]; objective F(w); gradient: its max-norm there; evaluations: of loss and gradient; converged.

    Where F has an L1 part or w bounds, the gradient is the shortest of the subgradients, without what presses against
    a bound: zero at the optimum, and nowhere else.
    """

    w: NDArray[np.float64]
    objective: float
    gradient: float
    iterations: int
    evaluations: int
    converged: bool
    message: str
