"""Loss functions of the margin z = x·w + offset. One small file each; `loss_terms` is what the kernels call.

A loss gives, for a margin and a label, its value and its first and second derivative in z.
"""

from __future__ import annotations

from gdmix_core.jit import njit
from gdmix_core.solvers.losses import linear, logistic, poisson, smoothed_hinge

LOGISTIC = 0
LINEAR = 1
POISSON = 2
SMOOTHED_HINGE = 3

LOSS_OF_TASK = {
    "logistic_regression": LOGISTIC,
    "linear_regression": LINEAR,
    "poisson_regression": POISSON,
    "smoothed_hinge": SMOOTHED_HINGE,
}


# Numba caches compiled code across processes for plain functions, but not for functions that take functions as
# arguments; hence a number and a branch instead of a loss object. The branch is the same for every row.
@njit(cache=True, nogil=True, inline="always")
def loss_terms(loss: int, z: float, y: float) -> tuple[float, float, float]:
    """Return (value, first derivative, second derivative) of the loss at margin z and label y."""
    if loss == LOGISTIC:
        return logistic.terms(z, y)
    if loss == LINEAR:
        return linear.terms(z, y)
    if loss == POISSON:
        return poisson.terms(z, y)
    return smoothed_hinge.terms(z, y)


@njit(cache=True, nogil=True)
def third_derivative(loss: int, z: float) -> float:
    """Return the third derivative of the loss with respect to the margin.

    It does not depend on the label. For the smoothed hinge it is 0 wherever it exists.
    """
    if loss == LOGISTIC:
        return logistic.third_derivative(z)
    if loss == LINEAR:
        return linear.third_derivative(z)
    if loss == POISSON:
        return poisson.third_derivative(z)
    return smoothed_hinge.third_derivative(z)
