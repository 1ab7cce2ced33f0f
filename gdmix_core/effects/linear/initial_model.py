"""The model a fixed effect starts from, or stays close to: from another run, in this run's features."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gdmix_core.models.table import CoefficientTable
from gdmix_core.training_context import TrainingContext


@dataclass(frozen=True)
class InitialCoefficients:
    """All [features + 1], the intercept first.

    known: whether the initial model has the coefficient; means float64, 0 where it has not; variances float64, nan
    where it has not or does not say
    beyond: (indices, means, variances) of its features that are not in this run's list
    """

    known: NDArray[np.bool_]
    means: NDArray[np.float64]
    variances: NDArray[np.float64]
    beyond: tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.float64]]

    @classmethod
    def read(cls, context: TrainingContext) -> InitialCoefficients:
        table, features = context.initial_model(0), context.features
        return cls.none(features) if table is None else cls.from_table(table, features, context.settings.intercept)

    @classmethod
    def none(cls, features: int) -> InitialCoefficients:
        nothing = (np.empty(0, np.int32), np.empty(0), np.empty(0))
        return cls(np.zeros(features + 1, bool), np.zeros(features + 1), np.full(features + 1, np.nan), nothing)

    @classmethod
    def from_table(cls, table: CoefficientTable, features: int, intercept: bool) -> InitialCoefficients:
        """Return the table's one model; its intercept counts where this run's model has one, too."""
        found = cls.none(features)
        stored = table.variances if table.variances is not None else np.full(len(table.means), np.nan)
        here = table.features < features
        if not intercept:
            here &= table.features >= 0
        at = table.features[here] + 1
        found.known[at] = True
        found.means[at] = table.means[here]
        found.variances[at] = stored[here]
        new = table.features >= features
        return replace(found, beyond=(table.features[new], table.means[new], stored[new]))

    @cached_property
    def usable_variance(self) -> NDArray[np.bool_]:
        return self.known & np.isfinite(self.variances) & (self.variances > 0.0)

    @property
    def size(self) -> int:
        """The number of coefficients."""
        return int(np.count_nonzero(self.known)) + len(self.beyond[0])

    def without(self, dropped: NDArray[np.bool_]) -> InitialCoefficients:
        """Return the model without these coefficients, and without any beyond this run's list."""
        return InitialCoefficients(
            self.known & ~dropped,
            np.where(dropped, 0.0, self.means),
            np.where(dropped, np.nan, self.variances),
            InitialCoefficients.none(0).beyond,
        )
