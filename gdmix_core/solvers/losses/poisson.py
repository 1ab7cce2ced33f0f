"""Poisson loss e^z − y z, the negative log-likelihood of a count y ≥ 0 up to a constant."""

from __future__ import annotations

import math

from gdmix_core.jit import njit

# e^z above this margin would overflow within a sum. Data do not have a rate of e^300, and the line search steps back
# from it.
LARGEST_MARGIN = 300.0


@njit(cache=True, nogil=True)
def terms(z: float, y: float) -> tuple[float, float, float]:
    rate = math.exp(min(z, LARGEST_MARGIN))
    return rate - y * z, rate - y, rate


@njit(cache=True, nogil=True)
def third_derivative(z: float) -> float:
    return math.exp(min(z, LARGEST_MARGIN))
