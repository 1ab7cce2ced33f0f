"""Logistic loss log(1 + e^z) − y z, for labels in [0, 1]."""

from __future__ import annotations

import math

from numba import njit


@njit(cache=True, nogil=True)
def terms(z: float, y: float) -> tuple[float, float, float]:
    """Stable for any finite z: only e^(−|z|) is ever computed."""
    e = math.exp(-abs(z))
    p = 1.0 / (1.0 + e) if z >= 0.0 else e / (1.0 + e)
    value = max(z, 0.0) + math.log1p(e) - y * z
    return value, p - y, e / ((1.0 + e) * (1.0 + e))
