"""The training problem of a shard's entities: penalties, prior, start, and what is kept of earlier models."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gdmix_core.config.coordinate import Coordinate
from gdmix_core.config.pipeline import InitialModel, Task
from gdmix_core.data.entity_rows import EntityRows
from gdmix_core.effects.bounds import limits_of
from gdmix_core.effects.normalization import scaling
from gdmix_core.effects.random.entity_models import FittedModels, Prior, fit_entity_models, score_entity_rows
from gdmix_core.effects.random.penalties import Penalties, penalties_of
from gdmix_core.models.alignment import merge_models, slice_entities
from gdmix_core.models.table import CoefficientTable
from gdmix_core.training_context import TrainingContext


@dataclass(frozen=True)
class EntityProblem:
    """features: length of the feature list; earlier: models to start from; initial: those of initial_model."""

    settings: Coordinate
    task: Task
    features: int
    penalties: Penalties
    earlier: CoefficientTable | None
    initial: CoefficientTable | None
    choice: InitialModel | None

    def fit(self, rows: EntityRows) -> tuple[FittedModels, int, int]:
        """Return (models of the rows' entities, how many the initial model has too, coefficients only it has in these).

        What is to be kept of the initial models is in the table, and counts in the scores.
        """
        fitted = self.fit_anew(rows, None)
        if self.initial is None:
            return fitted, 0, 0
        initial = slice_entities(self.initial, rows.ids)
        table, models, coefficients = merge_models(
            fitted.table, initial, entities=self.keeps_entities, features=self.keeps_features
        )
        return replace(fitted, table=table, scores=score_entity_rows(rows, table, self.settings)), models, coefficients

    def fit_anew(self, rows: EntityRows, start: CoefficientTable | None) -> FittedModels:
        """Return the models of the rows alone; start: None for the earlier or the initial models."""
        initial = None if self.initial is None else slice_entities(self.initial, rows.ids)
        if start is None:
            start = initial if self.earlier is None else slice_entities(self.earlier, rows.ids)
        weight = 0.0 if self.choice is None else self.choice.prior_weight
        prior = Prior(initial, weight) if initial is not None and weight > 0.0 else None
        return fit_entity_models(
            rows, self.settings, self.task, self.features, start, penalties=self.penalties, prior=prior
        )

    @property
    def keeps_entities(self) -> bool:
        return self.choice is not None and self.choice.entities_without_data == "keep"

    @property
    def keeps_features(self) -> bool:
        return self.choice is not None and self.choice.keeps_features

    def with_variance(self, variance: NDArray[np.float64]) -> EntityProblem:
        """Return the same problem under other prior variances of l2: auto."""
        return replace(self, penalties=self.penalties.with_variance(variance))


def entity_problem(
    context: TrainingContext, number: int, penalties: Penalties, *, settings: Coordinate | None = None
) -> EntityProblem:
    """Return the problem of shard `number`. settings: None for the configuration's."""
    return EntityProblem(
        context.settings if settings is None else settings,
        context.config.task,
        context.features,
        penalties,
        context.start_model(number),
        context.initial_model(number),
        context.config.initial_model,
    )


def coordinate_penalties(
    context: TrainingContext, variance: NDArray[np.float64] | None, *, settings: Coordinate | None = None
) -> Penalties:
    """Return the penalties of all shards.

    variance: σ² under l2: auto, else None; settings: None for the configuration's
    """
    settings = context.settings if settings is None else settings
    factor = scaling(context)[0] if settings.normalization != "none" else None
    bounded = None
    if settings.bounds:
        bounded = limits_of(context.name, settings, context.frame.feature_list_of(context.name))
    return penalties_of(settings, context.features, variance=variance, factor=factor, limits=bounded)
