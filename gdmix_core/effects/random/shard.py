"""The training of one shard of a random effect: solve every entity, write the models, score all rows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdmix_core import storage
from gdmix_core.data.scores import MARGIN_VARIANCE
from gdmix_core.effects.random.automatic_l2 import prior_variance, write_l2_statistics
from gdmix_core.effects.random.entity_models import FittedModels, score_entity_rows
from gdmix_core.effects.random.entity_problem import EntityProblem, coordinate_penalties, entity_problem
from gdmix_core.effects.random.l2_statistics import L2Statistics
from gdmix_core.effects.random.shard_markers import commit_shard, shard_marker
from gdmix_core.models.alignment import merge_models
from gdmix_core.models.native import concatenate, write_model
from gdmix_core.models.table import INTERCEPT_INDEX, CoefficientTable
from gdmix_core.solvers.empirical_bayes.fixed_point import Sums
from gdmix_core.solvers.entity.newton import STATUS_NAMES
from gdmix_core.training_context import TrainingContext

# Pieces of work: entities differ in size, and no thread should wait long for the last one. As many on any number of
# cores, because what pieces add up to is rounded by their number.
PIECES = 64


class ShardTraining:
    """The shards of a coordinate, trained one after another; what is the same for all is determined once."""

    def __init__(self, context: TrainingContext) -> None:
        self._context = context
        self._automatic = context.settings.automatic is not None
        self._penalties = coordinate_penalties(context, prior_variance(context))
        self._margin_variance = context.other_margin_variance() if self._automatic else None
        self._others = context.other_scores("training")
        assert context.settings.random_effect is not None
        self._entity_type = context.frame.id_type(context.settings.random_effect.entity)

    def train(self, number: int, *, threads: int) -> dict[str, Any]:
        """Write model, scores and, last, the marker of one shard; return the marker's counts."""
        context, settings = self._context, self._context.settings
        problem = entity_problem(context, number, self._penalties)
        # The marker of an older result goes before any of its files does.
        storage.remove(shard_marker(context, number))
        groups = len(problem.penalties.variance)
        fitted: list[FittedModels] = []
        statistics = L2Statistics(Sums.zero(groups))
        matched = np.zeros(2, np.int64)
        with ThreadPoolExecutor(threads) as pool:
            for rows in context.entity_rows("training", number, self._others, self._margin_variance):
                for part, models, coefficients in pool.map(problem.fit, rows.cut(PIECES)):
                    # Of many features the sums are large: added up at once, not kept piece by piece.
                    statistics += L2Statistics.from_fitted([part], groups)
                    fitted.append(replace(part, sums=part.sums[:, :0].copy()))
                    matched += (models, coefficients)
            model = concatenate([part.table for part in fitted], self._entity_type)
            if problem.initial is not None:
                model, _, _ = merge_models(model, problem.initial, entities=problem.keeps_entities, features=False)
            validation = [
                scores
                for rows in context.entity_rows("validation", number)
                for scores in pool.map(lambda piece: score_entity_rows(piece, model, settings), rows.cut(threads))
            ]
        write_model(context.model(number), model)
        parts: dict[str, list[NDArray[np.float32]]] = {
            "training": [part.scores for part in fitted],
            "validation": validation,
            MARGIN_VARIANCE: [part.margin_variance for part in fitted if self._automatic],
        }
        for split, arrays in parts.items():
            if arrays:
                storage.write_array(context.score_part(split, number), np.concatenate(arrays))
        if self._automatic:
            write_l2_statistics(context, number, statistics)
        return commit_shard(context, number, {**_counts(fitted, model), **_initial_counts(problem, matched)})


def _initial_counts(problem: EntityProblem, matched: NDArray[np.int64]) -> dict[str, int]:
    """Count the initial models, or parts of them, without data now, kept or dropped; {} without initial models."""
    if problem.initial is None:
        return {}
    return {
        ("kept" if problem.keeps_entities else "dropped") + "_entities": len(problem.initial) - int(matched[0]),
        ("kept" if problem.keeps_features else "dropped") + "_coefficients": int(matched[1]),
    }


def _intercepts(fitted: list[FittedModels]) -> dict[str, Any]:
    """Return how many intercepts there are of entities with data, and their sum."""
    found = [part.table.means[part.table.features == INTERCEPT_INDEX] for part in fitted]
    return {"intercepts": sum(map(len, found)), "intercept_sum": float(sum(np.sum(means) for means in found))}


def _counts(fitted: list[FittedModels], model: CoefficientTable) -> dict[str, Any]:
    status = np.concatenate([np.empty(0, np.uint8), *(part.status for part in fitted)])
    by_status = np.bincount(status, minlength=len(STATUS_NAMES))
    return {
        "entities": len(model.entities),
        "coefficients": len(model.features),
        **_intercepts(fitted),
        "objective": float(np.sum(np.concatenate([np.zeros(1), *(part.objective for part in fitted)]))),
        "iterations": max((int(part.iterations.max()) for part in fitted), default=0),
        **{name: int(by_status[code]) for code, name in enumerate(STATUS_NAMES)},
    }
