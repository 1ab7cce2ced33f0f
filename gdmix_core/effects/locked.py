"""A locked coordinate: the initial model as it is, in the place of a trained one, and the scores it gives."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gdmix_core import storage
from gdmix_core.data.entity_rows import ROWS_AT_A_TIME
from gdmix_core.data.frame import Frame
from gdmix_core.data.scores import LEVERAGE, remove_score_parts
from gdmix_core.data.shards import read_entities
from gdmix_core.effects.initial_scores import score_fixed, score_shard
from gdmix_core.effects.random.shard_markers import commit_shard, is_shard_done, shard_marker, shards_to_do
from gdmix_core.models.initial.written import read_initial
from gdmix_core.models.native import concatenate, write_model
from gdmix_core.models.table import CoefficientTable
from gdmix_core.pipeline.once import once
from gdmix_core.pipeline.plan import CoordinateStep
from gdmix_core.pipeline.run import SPLITS, Run
from gdmix_core.solvers.entity.newton import STATUS_NAMES
from gdmix_core.workers import progress
from gdmix_core.workers.cores import core_count

log = logging.getLogger(__name__)


def take_over(run: Run, step: CoordinateStep, *, group: int | None = None) -> dict[str, Any]:
    """Does for a locked coordinate what training does for the others: writes models, scores of all rows, and markers.

    group: of a random effect, which of its groups of shards; None: all. Returns counts, with locked: True.
    """
    settings = run.config.coordinates[step.coordinate]
    if settings.random_effect is not None:
        return _take_over_random(run, step, group)
    work = _take_over_network if settings.kind == "text" else _take_over_fixed
    return once(run, step, lambda: work(run, step))


def _remove_leverage(run: Run, step: CoordinateStep) -> None:
    """Of a model trained here before it was locked: a locked one has no known uncertainty."""
    storage.remove(run.scores(step.pass_number, step.coordinate, LEVERAGE))


def _take_over_fixed(run: Run, step: CoordinateStep) -> dict[str, Any]:
    number, name = step.pass_number, step.coordinate
    _remove_leverage(run, step)
    frame = Frame(run)
    model = _initial(run, name, 0, pa.string())
    remove_score_parts(run, step)
    for split in SPLITS:
        if frame.rows(split):
            storage.write_array(run.score_part(number, name, split, 0), score_fixed(run, frame, name, model, split))
    write_model(run.model(number, name, 0), model)
    return {"locked": True, "coefficients": len(model.features)}


def _take_over_network(run: Run, step: CoordinateStep) -> dict[str, Any]:
    """The earlier network's files, and the scores that initialize has computed, where a trained one leaves its own."""
    number, name = step.pass_number, step.coordinate
    # And what only a network that was trained here leaves.
    storage.remove(run.coordinate(number, name, "model"))
    remove_score_parts(run, step)
    for split in SPLITS:
        if storage.exists(run.scores(0, name, split)):
            storage.copy_file(run.scores(0, name, split), run.score_part(number, name, split, 0))
    storage.copy_directory(run.initial_network(name), run.coordinate(number, name, "model"))
    return {"locked": True}


def _take_over_random(run: Run, step: CoordinateStep, group: int | None) -> dict[str, Any]:
    if run.is_done(step):
        log.info("%s is done already", step.id)
        return run.result(step.id)
    _remove_leverage(run, step)
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
            _take_over_shard(run, step, number, pool)
            report(done + 1, len(todo), step.id)
    if all(is_shard_done(run, step, number) for number in everything):
        run.commit(step, _summary(run, step, everything))
    result = _summary(run, step, mine)
    log.info("%s: %d locked models, %d coefficients", step.id, result["entities"], result["coefficients"])
    return result


def _take_over_shard(run: Run, step: CoordinateStep, number: int, pool: ThreadPoolExecutor) -> None:
    name = step.coordinate
    settings = run.config.coordinates[name]
    assert settings.random_effect is not None
    initial = run.config.initial_model
    assert initial is not None
    model = _initial(run, name, number, Frame(run).id_type(settings.random_effect.entity))
    if initial.entities_without_data == "drop":
        model = _with_training_rows(run, name, number, model)
    storage.remove(shard_marker(run, step, number))
    for split in SPLITS:
        scores = score_shard(run, name, model, split, number, pool)
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


def _initial(run: Run, name: str, number: int, entity_type: pa.DataType) -> CoefficientTable:
    """The initial models of a shard; an empty table where none of its entities has one."""
    return read_initial(run, name, number) or concatenate([], entity_type)
