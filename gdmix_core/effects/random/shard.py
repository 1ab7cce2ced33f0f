"""One shard of a random effect: solve every entity, write the models, score training and validation rows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdmix_core import storage
from gdmix_core.data.entity_rows import ROWS_AT_A_TIME, read_entity_rows
from gdmix_core.data.frame import Frame
from gdmix_core.data.scores import LEVERAGE, other_leverage, other_scores
from gdmix_core.effects.random.automatic_l2 import prior_variance, write_evidence
from gdmix_core.effects.random.entity_models import FittedModels, score_entity_rows
from gdmix_core.effects.random.entity_problem import Conditions, conditions_of
from gdmix_core.effects.random.l2_statistics import Evidence
from gdmix_core.effects.random.shard_markers import commit_shard, shard_marker
from gdmix_core.models.alignment import completed
from gdmix_core.models.native import concatenate, write_model
from gdmix_core.models.table import CoefficientTable
from gdmix_core.pipeline.plan import CoordinateStep
from gdmix_core.pipeline.run import Run
from gdmix_core.solvers.empirical_bayes.fixed_point import Sums
from gdmix_core.solvers.entity.newton import STATUS_NAMES

# Pieces of work: entities differ in size, and no thread should wait long for the last one. As many on any number of
# cores, because what pieces add up to is rounded by their number.
PIECES = 64


def train_shard(run: Run, step: CoordinateStep, number: int, *, threads: int) -> dict[str, Any]:
    """Writes model, scores and, last, the marker of one shard; returns the marker's counts."""
    name = step.coordinate
    settings = run.config.coordinates[name]
    assert settings.random_effect is not None
    conditions = conditions_of(run, step, number, prior_variance(run, step))
    leverage = None if settings.automatic is None else other_leverage(run, step)
    others = other_scores(run, step, "training")
    # The marker of an older result goes before any of its files does.
    storage.remove(shard_marker(run, step, number))
    fitted: list[FittedModels] = []
    evidence = Evidence(Sums.zero(len(conditions.penalties.variance)))
    matched = np.zeros(2, np.int64)
    with ThreadPoolExecutor(threads) as pool:
        for rows in read_entity_rows(run, name, "training", number, others, ROWS_AT_A_TIME, leverage):
            for part, models, coefficients in pool.map(conditions.fit, rows.cut(PIECES)):
                # Of many features the sums are large: added up at once, not kept piece by piece.
                evidence += Evidence.of([part], len(conditions.penalties.variance))
                fitted.append(replace(part, sums=part.sums[:, :0].copy()))
                matched += (models, coefficients)
        entity_type = Frame(run).id_type(settings.random_effect.entity)
        model = concatenate([part.table for part in fitted], entity_type)
        if conditions.initial is not None:
            model, _, _ = completed(model, conditions.initial, entities=conditions.keeps_entities, features=False)
        validation = [
            scores
            for rows in read_entity_rows(run, name, "validation", number, None, ROWS_AT_A_TIME)
            for scores in pool.map(lambda piece: score_entity_rows(piece, model, settings), rows.cut(threads))
        ]
    write_model(run.model(step.pass_number, name, number), model)
    parts: dict[str, list[NDArray[np.float32]]] = {
        "training": [part.scores for part in fitted],
        "validation": validation,
        LEVERAGE: [part.leverage for part in fitted if settings.automatic is not None],
    }
    for split, arrays in parts.items():
        if arrays:
            storage.write_array(run.score_part(step.pass_number, name, split, number), np.concatenate(arrays))
    if settings.automatic is not None:
        write_evidence(run, step, number, evidence)
    return commit_shard(run, step, number, {**_counts(fitted, model), **_initial_counts(conditions, matched)})


def _initial_counts(conditions: Conditions, matched: NDArray[np.int64]) -> dict[str, int]:
    """What became of the initial models that have no data now, in whole or in part; {} without initial models."""
    if conditions.initial is None:
        return {}
    return {
        ("kept" if conditions.keeps_entities else "dropped") + "_entities": len(conditions.initial) - int(matched[0]),
        ("kept" if conditions.keeps_features else "dropped") + "_coefficients": int(matched[1]),
    }


def _counts(fitted: list[FittedModels], model: CoefficientTable) -> dict[str, Any]:
    status = np.concatenate([np.empty(0, np.uint8), *(part.status for part in fitted)])
    by_status = np.bincount(status, minlength=len(STATUS_NAMES))
    return {
        "entities": len(model.entities),
        "coefficients": len(model.features),
        "objective": float(np.sum(np.concatenate([np.zeros(1), *(part.objective for part in fitted)]))),
        "iterations": max((int(part.iterations.max()) for part in fitted), default=0),
        **{name: int(by_status[code]) for code, name in enumerate(STATUS_NAMES)},
    }
