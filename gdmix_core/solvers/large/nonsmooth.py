"""L1 penalties and bounds: how far a point is from the optimum, and both as bounds for a solver that knows bounds.

A coefficient with an L1 weight is the difference of two that are not negative, w = w⁺ − w⁻, whose sum is |w| at the
optimum; what the solver leaves at 0 is an exact zero of the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Constraints:
    """l1 ≥ 0, lower ≤ upper (∓inf where there is no bound), each float64 [k]."""

    l1: Vector
    lower: Vector
    upper: Vector

    @classmethod
    def none(cls, size: int) -> Constraints:
        return cls(np.zeros(size), np.full(size, -np.inf), np.full(size, np.inf))

    @cached_property
    def any(self) -> bool:
        """True if there is an L1 weight or a finite bound."""
        return bool(np.any(self.l1 > 0) or np.any(np.isfinite(self.lower)) or np.any(np.isfinite(self.upper)))

    def inside(self, w: Vector) -> Vector:
        """Return the nearest point that keeps the bounds."""
        return np.clip(w, self.lower, self.upper)

    def subgradient(self, w: Vector, gradient: Vector) -> Vector:
        """Return the shortest subgradient of f(w) + Σ l1 |w|, given f's gradient, without what presses against a bound.

        It is zero at the optimum only.
        """
        subgradient = np.where(
            w == 0.0,
            np.sign(gradient) * np.maximum(np.abs(gradient) - self.l1, 0.0),
            gradient + self.l1 * np.sign(w),
        )
        active = ((w <= self.lower) & (subgradient > 0.0)) | ((w >= self.upper) & (subgradient < 0.0))
        return np.where(active, 0.0, subgradient)

    def orthant(self, w: Vector, subgradient: Vector) -> tuple[Vector, Vector]:
        """Return (lower, upper) within which the L1 part is linear.

        A coefficient at 0 is on the side to which its entry of `subgradient` moves it.
        """
        side = np.where(w == 0.0, -np.sign(subgradient), np.sign(w))
        lower = np.where((self.l1 > 0) & (side >= 0), np.maximum(self.lower, 0.0), self.lower)
        upper = np.where((self.l1 > 0) & (side <= 0), np.minimum(self.upper, 0.0), self.upper)
        return lower, upper

    # Both halves: the k coefficients, then w⁻ of those with an L1 weight

    @cached_property
    def _halved(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.l1 > 0)

    @cached_property
    def split_bounds(self) -> list[tuple[float, float]] | None:
        """The bounds that the halves have to keep; None without any."""
        if not self.any:
            return None
        lower, upper, halved = self.lower.copy(), self.upper.copy(), self._halved
        lower[halved], upper[halved] = np.maximum(lower[halved], 0.0), np.maximum(upper[halved], 0.0)
        low = np.concatenate([lower, np.maximum(-self.upper[halved], 0.0)])
        high = np.concatenate([upper, np.maximum(-self.lower[halved], 0.0)])
        return list(zip(low, high, strict=True))

    def split(self, w: Vector) -> Vector:
        x = np.concatenate([w, np.maximum(-w[self._halved], 0.0)])
        x[self._halved] = np.maximum(w[self._halved], 0.0)
        return x

    def join(self, x: Vector) -> Vector:
        w = x[: len(self.l1)].copy()
        w[self._halved] -= x[len(self.l1) :]
        return w

    def absolute(self, x: Vector) -> float:
        """Σ l1 (w⁺ + w⁻)."""
        k, weight = len(self.l1), self.l1[self._halved]
        return float(weight @ x[:k][self._halved] + weight @ x[k:])

    def split_gradient(self, gradient: Vector) -> Vector:
        return np.concatenate([gradient + self.l1, self.l1[self._halved] - gradient[self._halved]])
