"""The losses as their definitions have them, in NumPy: value and derivatives in the margin, for any array of rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

from gdmix_core.solvers.losses import LINEAR, LOGISTIC, POISSON, SMOOTHED_HINGE

LOSSES = {"logistic": LOGISTIC, "linear": LINEAR, "poisson": POISSON, "smoothed_hinge": SMOOTHED_HINGE}
LOSS_NAMES = tuple(LOSSES)

Array = NDArray[np.float64]
# exp above it is no number any more; no test's optimum is there.
_LARGEST = 700.0


def value(loss: str, z: Array, y: Array) -> Array:
    if loss == "logistic":
        return np.asarray(np.logaddexp(0, z) - y * z)
    if loss == "linear":
        return np.asarray(0.5 * (z - y) ** 2)
    if loss == "poisson":
        return np.asarray(np.exp(np.minimum(z, _LARGEST)) - y * z)
    t = (2 * y - 1) * z
    return np.where(t <= 0, 0.5 - t, np.where(t < 1, 0.5 * (1 - t) ** 2, 0.0))


def first(loss: str, z: Array, y: Array) -> Array:
    if loss == "logistic":
        return np.asarray(special.expit(z) - y)
    if loss == "linear":
        return np.asarray(z - y)
    if loss == "poisson":
        return np.asarray(np.exp(np.minimum(z, _LARGEST)) - y)
    sign = 2 * y - 1
    return np.asarray(-sign * np.clip(1 - sign * z, 0, 1))


def second(loss: str, z: Array, y: Array) -> Array:
    if loss == "logistic":
        return np.asarray(special.expit(z) * special.expit(-z))
    if loss == "linear":
        return np.ones_like(z)
    if loss == "poisson":
        return np.asarray(np.exp(np.minimum(z, _LARGEST)))
    t = (2 * y - 1) * z
    return np.where((t > 0) & (t < 1), 1.0, 0.0)


def third(loss: str, z: Array) -> Array:
    if loss == "logistic":
        p = special.expit(z)
        return np.asarray(p * special.expit(-z) * (special.expit(-z) - p))
    return np.exp(np.minimum(z, _LARGEST)) if loss == "poisson" else np.zeros_like(z)
