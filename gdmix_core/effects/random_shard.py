"""One shard of a random effect: solve every entity, write the models, score training and validation rows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from gdmix_core import storage
from gdmix_core.data.entity_rows import EntityRows, read_entity_rows
from gdmix_core.data.frame import Frame
from gdmix_core.data.scores import other_scores
from gdmix_core.effects.entity_models import FittedModels, fit_entity_models, score_entity_rows
from gdmix_core.effects.random import shard_marker
from gdmix_core.models.native import concatenate, write_model
from gdmix_core.models.table import CoefficientTable
from gdmix_core.plan import Step
from gdmix_core.run import Run
from gdmix_core.search.warm_start import earlier_model
from gdmix_core.solvers.entity_newton import STATUS_NAMES

# Rows held at a time: enough to keep every thread busy, little enough for memory to stay flat.
ROWS_AT_A_TIME = 500_000
# Pieces of work per thread: entities differ in size, and no thread should wait long for the last one.
PIECES_PER_THREAD = 8


def train_shard(run: Run, step: Step, number: int, *, threads: int) -> dict[str, Any]:
    """Writes model, scores and, last, the marker of one shard; returns the marker's counts."""
    assert step.pass_number is not None
    assert step.coordinate is not None
    name = step.coordinate
    settings = run.config.coordinates[name]
    assert settings.random_effect is not None
    frame = Frame(run)
    key = frame.bag_of(name)
    features = frame.feature_count(key) if key else 0
    earlier = earlier_model(run, step, number)
    others = other_scores(run, step, "training")
    # The marker of an older result goes before any of its files does.
    storage.remove(shard_marker(run, step, number))
    fitted: list[FittedModels] = []
    done = 0
    with ThreadPoolExecutor(threads) as pool:

        def fit(piece: EntityRows, start: CoefficientTable | None) -> FittedModels:
            return fit_entity_models(piece, settings, run.config.task, features, start)

        for rows in read_entity_rows(run, name, "training", number, others, ROWS_AT_A_TIME):
            pieces = rows.cut(threads * PIECES_PER_THREAD)
            starts: list[CoefficientTable | None] = []
            for piece in pieces:
                # Entities come in the same order in every pass.
                starts.append(None if earlier is None else earlier.between(done, done + len(piece)))
                done += len(piece)
            fitted += pool.map(fit, pieces, starts)
        model = concatenate([part.table for part in fitted], frame.id_type(settings.random_effect.entity))
        validation = [
            scores
            for rows in read_entity_rows(run, name, "validation", number, None, ROWS_AT_A_TIME)
            for scores in pool.map(lambda piece: score_entity_rows(piece, model, settings), rows.cut(threads))
        ]
    write_model(run.model(step.pass_number, name, number), model)
    parts = {"training": [part.scores for part in fitted], "validation": validation}
    for split, arrays in parts.items():
        if arrays:
            storage.write_array(run.score_part(step.pass_number, name, split, number), np.concatenate(arrays))
    counts = {"key": run.keys[step.id], **_counts(fitted, model)}
    storage.write_json(shard_marker(run, step, number), counts)
    return counts


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
