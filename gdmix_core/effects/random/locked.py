"""The initial models as they are: the scores they give all rows, and a locked random effect, which is these models."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from gdmix_core import storage
from gdmix_core.data.entity_rows import ROWS_AT_A_TIME, read_entity_rows
from gdmix_core.data.frame import Frame
from gdmix_core.data.scores import remove_leverage, shard_rows
from gdmix_core.data.shards import read_entities
from gdmix_core.effects.random.entity_models import score_entity_rows
from gdmix_core.effects.random.shard_markers import commit_shard, is_shard_done, shard_marker, shards_to_do
from gdmix_core.models.initial.written import initial_table, read_initial
from gdmix_core.models.native import write_model
from gdmix_core.models.table import CoefficientTable
from gdmix_core.pipeline.plan import CoordinateStep
from gdmix_core.pipeline.run import SPLITS, Run
from gdmix_core.solvers.entity.newton import STATUS_NAMES
from gdmix_core.workers import progress
from gdmix_core.workers.cores import core_count

log = logging.getLogger(__name__)

_PIECES = 8  # of the rows held at a time, spread over the threads


def use_initial(run: Run, step: CoordinateStep, *, group: int | None = None) -> dict[str, Any]:
    """Writes models, scores of all rows, and markers of the shards of the group; returns counts, with locked: True.

    group: which of the effect's groups of shards; None: all
    """
    if run.is_done(step):
        log.info("%s is done already", step.id)
        return run.result(step.id)
    remove_leverage(run, step)
    effect = run.config.coordinates[step.coordinate].random_effect
    assert effect is not None
    everything = list(range(run.result("partition")["coordinates"][step.coordinate]["shards"]))
    mine = everything if group is None else everything[group :: effect.groups]
    todo = shards_to_do(run, step, everything, mine)
    if todo:
        run.drop(step)
    report = progress.reporter()
    with ThreadPoolExecutor(core_count(run.config)) as pool:
        for done, number in enumerate(todo):
            _use_initial_shard(run, step, number, pool)
            report(done + 1, len(todo), step.id)
    if all(is_shard_done(run, step, number) for number in everything):
        run.commit(step, _summary(run, step, everything))
    result = _summary(run, step, mine)
    log.info("%s: %d locked models, %d coefficients", step.id, result["entities"], result["coefficients"])
    return result


def _use_initial_shard(run: Run, step: CoordinateStep, number: int, pool: ThreadPoolExecutor) -> None:
    name = step.coordinate
    settings = run.config.coordinates[name]
    assert settings.random_effect is not None
    initial = run.config.initial_model
    assert initial is not None
    model = initial_table(run, name, number, Frame(run).id_type(settings.random_effect.entity))
    if initial.entities_without_data == "drop":
        model = _with_training_rows(run, name, number, model)
    storage.remove(shard_marker(run, step, number))
    for split in SPLITS:
        scores = _scores(run, name, model, split, number, pool)
        if len(scores):
            storage.write_array(run.score_part(step.pass_number, name, split, number), scores)
    write_model(run.model(step.pass_number, name, number), model)
    counts = {"entities": len(model), "coefficients": len(model.features)}
    commit_shard(run, step, number, {**counts, **_NOTHING_TRAINED})


def _with_training_rows(run: Run, name: str, number: int, model: CoefficientTable) -> CoefficientTable:
    """The models of those entities that have training rows in the shard."""
    kept = np.zeros(len(model), np.bool_)
    for table in read_entities(run, name, "training", number, ROWS_AT_A_TIME):
        kept |= pc.is_in(model.entities, value_set=table["entity"]).to_numpy(zero_copy_only=False)
    return model.take(np.flatnonzero(kept))


# What a trained shard counts beside these: readers of markers find every key.
_NOTHING_TRAINED: dict[str, Any] = {"locked": True, "objective": 0.0, "iterations": 0} | dict.fromkeys(STATUS_NAMES, 0)


def _summary(run: Run, step: CoordinateStep, numbers: list[int]) -> dict[str, Any]:
    counts = [storage.read_json(shard_marker(run, step, number)) for number in numbers]
    totals = {key: sum(c[key] for c in counts) for key in ("entities", "coefficients")}
    return {"shards": len(numbers), **totals, **_NOTHING_TRAINED}


def initial_scores(run: Run, frame: Frame, name: str, split: str) -> NDArray[np.float32] | None:
    """float32 [rows]: what the initial models give the rows of a split; None where no entity has one."""
    scores = None
    with ThreadPoolExecutor(core_count(run.config)) as pool:
        for number in range(int(run.result("partition")["coordinates"][name]["shards"])):
            model = read_initial(run, name, number)
            if model is None:
                continue
            scores = np.zeros(frame.rows(split), np.float32) if scores is None else scores
            found = _scores(run, name, model, split, number, pool)
            if len(found):
                scores[shard_rows(run, name, split, number)] = found
    return scores


def _scores(
    run: Run, name: str, model: CoefficientTable, split: str, number: int, pool: ThreadPoolExecutor
) -> NDArray[np.float32]:
    """float32: the scores of a shard's rows, in its order; 0 where the entity has no model."""
    settings = run.config.coordinates[name]
    scores = [np.empty(0, np.float32)]
    for rows in read_entity_rows(run, name, split, number, None, ROWS_AT_A_TIME):
        scores += pool.map(lambda piece: score_entity_rows(piece, model, settings), rows.cut(_PIECES))
    return np.concatenate(scores)
