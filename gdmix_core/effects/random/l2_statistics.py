"""The statistics of fitted entities about λ: summed over pieces and shards, and iterated to a self-consistent λ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gdmix_core.config.pipeline import Task
from gdmix_core.data.entity_rows import EntityRows
from gdmix_core.effects.random.entity_models import FittedModels
from gdmix_core.models.table import CoefficientTable
from gdmix_core.solvers.empirical_bayes.fixed_point import FixedPoint, Mode, Sums, noise_variance, updated_variance

Fit = Callable[[EntityRows, CoefficientTable | None, NDArray[np.float64]], FittedModels]

_ROUNDS = 12
# A part of many entities tells about where to begin, at a part of the cost.
_COARSE = 8
_ENOUGH_ENTITIES = 500


@dataclass(frozen=True)
class L2Statistics:
    """Statistics that add up over disjoint entities. residual_squares, residual_dof: of a linear model's noise."""

    sums: Sums
    residual_squares: float = 0.0
    residual_dof: float = 0.0

    @classmethod
    def from_fitted(cls, fitted: Sequence[FittedModels], groups: int) -> L2Statistics:
        sums = sum((Sums.from_rows(part.sums) for part in fitted), Sums.zero(groups))
        return cls(sums, sum(part.residual_squares for part in fitted), sum(part.residual_dof for part in fitted))

    def updated(self, variance: NDArray[np.float64], mode: Mode, task: Task) -> NDArray[np.float64]:
        """Return float64 [groups]: σ² after a step of the fixed point from `variance`."""
        noise = noise_variance(self.residual_squares, self.residual_dof) if task == "linear_regression" else 1.0
        return updated_variance(self.sums, variance, mode, noise)

    def to_array(self) -> NDArray[np.float64]:
        """Return float64 [4 · groups + 2]."""
        return np.concatenate([self.sums.rows().ravel(), [self.residual_squares, self.residual_dof]])

    @classmethod
    def from_array(cls, values: NDArray[np.float64]) -> L2Statistics:
        return cls(Sums.from_rows(values[:-2].reshape(4, -1)), float(values[-2]), float(values[-1]))

    def __add__(self, other: L2Statistics) -> L2Statistics:
        return L2Statistics.from_array(self.to_array() + other.to_array())


def settle(
    pieces: Sequence[EntityRows],
    fit: Fit,
    variance: NDArray[np.float64],
    mode: Mode,
    task: Task,
    pool: Executor,
    tolerance: float = 1e-3,
) -> tuple[NDArray[np.float64], int, L2Statistics]:
    """(σ² that the pieces' models ask for when trained with it, rounds, what they said last), from a first `variance`.

    fit: (rows, models to start from, σ²) → models; tolerance: relative change of σ² at which to stop
    """
    coarse = pieces[::_COARSE]
    if sum(map(len, pieces)) >= _ENOUGH_ENTITIES and len(coarse) < len(pieces):
        variance, _, _ = settle(coarse, fit, variance, mode, task, pool, _COARSE * tolerance)
    point = FixedPoint(variance, tolerance)
    starts: list[CoefficientTable | None] = [None] * len(pieces)
    statistics = L2Statistics(Sums.zero(len(variance)))
    rounds = 0
    while rounds < _ROUNDS and not point.converged:
        fitted = list(pool.map(fit, pieces, starts, [point.variance] * len(pieces)))
        starts = [part.table for part in fitted]
        statistics = L2Statistics.from_fitted(fitted, len(variance))
        point.advance(statistics.updated(point.variance, mode, task))
        rounds += 1
    return point.variance, rounds, statistics
