"""Loss functions of the margin z = x·w + offset. One small file each; `loss_terms` is what the kernels call.

A loss gives, for a margin and a label, its value and its first and second derivative in z.
"""

from __future__ import annotations

from numba import njit

from gdmix_core.solvers.losses import linear, logistic, poisson

LOGISTIC = 0
LINEAR = 1
POISSON = 2

LOSS_OF_TASK = {"logistic_regression": LOGISTIC, "linear_regression": LINEAR, "poisson_regression": POISSON}


# Numba caches compiled code across processes for plain functions, but not for functions that take functions as
# arguments; hence a number and a branch instead of a loss object. The branch is the same for every row.
@njit(cache=True, nogil=True, inline="always")
def loss_terms(loss: int, z: float, y: float) -> tuple[float, float, float]:
    """(value, first derivative, second derivative) of the loss at margin z and label y."""
    if loss == LOGISTIC:
        return logistic.terms(z, y)
    if loss == LINEAR:
        return linear.terms(z, y)
    return poisson.terms(z, y)
