"""What fitted entities say of λ, as it is added up over pieces, shards and workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gdmix_core.config import Task
from gdmix_core.effects.entity_models import FittedModels
from gdmix_core.solvers.automatic_l2 import Mode, Sums, noise_variance, updated_variance


@dataclass(frozen=True)
class Evidence:
    """Of disjoint entities it adds up. residual_squares, freedom: of a linear model's noise."""

    sums: Sums
    residual_squares: float = 0.0
    freedom: float = 0.0

    @classmethod
    def of(cls, fitted: Sequence[FittedModels], groups: int) -> Evidence:
        sums = sum((Sums.from_rows(part.sums) for part in fitted), Sums.zero(groups))
        return cls(sums, sum(part.residual_squares for part in fitted), sum(part.freedom for part in fitted))

    def updated(self, variance: NDArray[np.float64], mode: Mode, task: Task) -> NDArray[np.float64]:
        """float64 [groups]: σ² after a step of the fixed point from `variance`."""
        noise = noise_variance(self.residual_squares, self.freedom) if task == "linear_regression" else 1.0
        return updated_variance(self.sums, variance, mode, noise)

    def to_array(self) -> NDArray[np.float64]:
        """float64 [4 · groups + 2]"""
        return np.concatenate([self.sums.rows().ravel(), [self.residual_squares, self.freedom]])

    @classmethod
    def from_array(cls, values: NDArray[np.float64]) -> Evidence:
        return cls(Sums.from_rows(values[:-2].reshape(4, -1)), float(values[-2]), float(values[-1]))

    def __add__(self, other: Evidence) -> Evidence:
        return Evidence.from_array(self.to_array() + other.to_array())
