"""Squared loss ½ (z − y)²."""

from __future__ import annotations

from gdmix_core.jit import njit


@njit(cache=True, nogil=True)
def terms(z: float, y: float) -> tuple[float, float, float]:
    residual = z - y
    return 0.5 * residual * residual, residual, 1.0


@njit(cache=True, nogil=True)
def third_derivative(z: float) -> float:
    return 0.0
