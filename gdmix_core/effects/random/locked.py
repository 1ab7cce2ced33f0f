"""The initial models as they are: the scores they give all rows, and a locked random effect, which is these models."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from gdmix_core import storage
from gdmix_core.data.entity_rows import ROWS_AT_A_TIME
from gdmix_core.data.scores import shard_rows
from gdmix_core.data.shards import read_entities
from gdmix_core.effects.random.entity_models import score_entity_rows
from gdmix_core.effects.random.shard_markers import commit_shard, once_by_shards, shard_marker
from gdmix_core.models.initial.written import initial_table
from gdmix_core.models.native import write_model
from gdmix_core.models.table import CoefficientTable
from gdmix_core.pipeline.run import SPLITS
from gdmix_core.solvers.entity.newton import STATUS_NAMES
from gdmix_core.training_context import TrainingContext
from gdmix_core.workers import progress

log = logging.getLogger(__name__)

_PIECES = 8  # of the rows held at a time, spread over the threads


def use_initial(context: TrainingContext, *, group: int | None = None) -> dict[str, Any]:
    """Write models, scores of all rows, and markers of the shards of the group; return counts, with locked: True.

    group: which of the effect's groups of shards; None: all
    """
    result = once_by_shards(
        context, group, lambda todo: _use_shards(context, todo), lambda numbers: _total_counts(context, numbers)
    )
    log.info("%s: %d locked models, %d coefficients", context.id, result["entities"], result["coefficients"])
    return result


def _use_shards(context: TrainingContext, todo: Sequence[int]) -> None:
    context.remove_margin_variance()
    report = progress.reporter()
    with ThreadPoolExecutor(context.cores) as pool:
        for done, number in enumerate(todo):
            _use_shard(context, number, pool)
            report(done + 1, len(todo), context.id)


def _use_shard(context: TrainingContext, number: int, pool: ThreadPoolExecutor) -> None:
    effect, initial = context.settings.random_effect, context.config.initial_model
    assert effect is not None
    assert initial is not None
    model = initial_table(context.run, context.name, number, context.frame.id_type(effect.entity))
    if initial.entities_without_data == "drop":
        model = _with_training_rows(context, number, model)
    storage.remove(shard_marker(context, number))
    for split in SPLITS:
        scores = _scores(context, model, split, number, pool)
        if len(scores):
            storage.write_array(context.score_part(split, number), scores)
    write_model(context.model(number), model)
    counts = {"entities": len(model), "coefficients": len(model.features)}
    commit_shard(context, number, {**counts, **_NOTHING_TRAINED})


def _with_training_rows(context: TrainingContext, number: int, model: CoefficientTable) -> CoefficientTable:
    """Return the models of those entities that have training rows in the shard."""
    kept = np.zeros(len(model), np.bool_)
    for table in read_entities(context.run, context.name, "training", number, ROWS_AT_A_TIME):
        kept |= pc.is_in(model.entities, value_set=table["entity"]).to_numpy(zero_copy_only=False)
    return model.take(np.flatnonzero(kept))


# What a trained shard counts beside these: readers of markers find every key.
_NOTHING_TRAINED: dict[str, Any] = {"locked": True, "objective": 0.0, "iterations": 0} | dict.fromkeys(STATUS_NAMES, 0)


def _total_counts(context: TrainingContext, numbers: Sequence[int]) -> dict[str, Any]:
    counts = [storage.read_json(shard_marker(context, number)) for number in numbers]
    totals = {key: sum(c[key] for c in counts) for key in ("entities", "coefficients")}
    return {"shards": len(numbers), **totals, **_NOTHING_TRAINED}


def initial_scores(context: TrainingContext, split: str) -> NDArray[np.float32] | None:
    """Return float32 [rows]: what the initial models give the rows of a split; None where no entity has one."""
    scores = None
    with ThreadPoolExecutor(context.cores) as pool:
        for number in range(int(context.partition["shards"])):
            model = context.initial_model(number)
            if model is None:
                continue
            scores = np.zeros(context.frame.rows(split), np.float32) if scores is None else scores
            found = _scores(context, model, split, number, pool)
            if len(found):
                scores[shard_rows(context.run, context.name, split, number)] = found
    return scores


def _scores(
    context: TrainingContext, model: CoefficientTable, split: str, number: int, pool: ThreadPoolExecutor
) -> NDArray[np.float32]:
    """float32: the scores of a shard's rows, in its order; 0 where the entity has no model."""
    scores = [np.empty(0, np.float32)]
    for rows in context.entity_rows(split, number):
        scores += pool.map(lambda piece: score_entity_rows(piece, model, context.settings), rows.cut(_PIECES))
    return np.concatenate(scores)
