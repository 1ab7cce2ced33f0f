"""Smoothed hinge loss for labels 0 and 1 (Rennie, "Smooth hinge classification", 2005), with t = (2y − 1) z:

½ − t for t ≤ 0,  ½ (1 − t)² for 0 < t < 1,  0 for t ≥ 1.
"""

from __future__ import annotations

from gdmix_core.jit import njit


@njit(cache=True, nogil=True)
def terms(z: float, y: float) -> tuple[float, float, float]:
    """The second derivative jumps at t = 0 and t = 1; between them it is 1, elsewhere 0."""
    sign = 2.0 * y - 1.0
    t = sign * z
    if t >= 1.0:
        return 0.0, 0.0, 0.0
    if t <= 0.0:
        return 0.5 - t, -sign, 0.0
    return 0.5 * (1.0 - t) * (1.0 - t), sign * (t - 1.0), 1.0


@njit(cache=True, nogil=True)
def third_derivative(z: float) -> float:
    return 0.0
