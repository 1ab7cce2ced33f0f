"""One shard of a random effect: solve every entity, write the models, score training and validation rows."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gdmix_core import storage
from gdmix_core.config import Config, Coordinate, RandomEffect
from gdmix_core.data import bags
from gdmix_core.data.frame import Frame
from gdmix_core.data.ragged import Bag
from gdmix_core.data.scores import ScoreSum, other_scores
from gdmix_core.data.shards import entity_runs, read_entities
from gdmix_core.effects.random import shard_marker
from gdmix_core.errors import DataError
from gdmix_core.models.native import concatenate, read_model, write_model
from gdmix_core.models.table import INTERCEPT_INDEX, CoefficientTable
from gdmix_core.plan import Step
from gdmix_core.run import Run
from gdmix_core.solvers.entity_newton import DENSE_LIMIT, STATUS_NAMES, solve_entities
from gdmix_core.solvers.local_index import build_local_index, look_up_local_index, score_rows
from gdmix_core.solvers.losses import LOSS_OF_TASK

# Rows held at a time: enough to keep every thread busy, little enough for memory to stay flat.
_ROWS_AT_A_TIME = 500_000
# Pieces of work per thread: entities differ in size, and no thread should wait long for the last one.
_PIECES_PER_THREAD = 8


@dataclass(frozen=True)
class Entities:
    """Rows of whole entities. begin, end: int64 [E] rows of each; bag: of all rows (empty for an intercept-only model)."""

    ids: pa.Array
    begin: NDArray[np.int64]
    end: NDArray[np.int64]
    row: NDArray[np.int64]
    label: NDArray[np.float64]
    weight: NDArray[np.float64]
    offset: NDArray[np.float64]
    bag: Bag


@dataclass(frozen=True)
class Solved:
    """Models of entities, and what the solver said of each."""

    table: CoefficientTable
    scores: NDArray[np.float32]
    status: NDArray[np.uint8]
    iterations: NDArray[np.int32]
    objective: NDArray[np.float64]


def train_shard(run: Run, step: Step, number: int, *, threads: int) -> dict[str, Any]:
    """Writes model, scores and, last, the marker of one shard; returns the marker's counts."""
    assert step.pass_number is not None
    assert step.coordinate is not None
    config, name = run.config, step.coordinate
    frame = Frame(run)
    key = frame.bag_of(name)
    features = frame.feature_count(key) if key else 0
    before = _earlier_model(run, step, number)
    others = other_scores(run, step, "training")
    solved: list[Solved] = []
    done = 0
    with ThreadPoolExecutor(threads) as pool:
        for chunk in _chunks(run, name, "training", number, others):
            start = _starting_point(before, done, chunk)
            pieces = _cut(chunk, threads * _PIECES_PER_THREAD)
            solved += pool.map(lambda piece: solve(piece, config, name, features, start), pieces)  # noqa: B023
            done += len(chunk.ids)
        entity_type = solved[0].table.entities.type if solved else pa.int64()
        model = concatenate([part.table for part in solved], entity_type)
        validation = [
            scores
            for chunk in _chunks(run, name, "validation", number, None)
            for scores in pool.map(lambda piece: score(piece, model, config.coordinates[name]), _cut(chunk, threads))
        ]
    write_model(run.model(step.pass_number, name, number), model)
    parts = {"training": [part.scores for part in solved], "validation": validation}
    for split, arrays in parts.items():
        if arrays:
            path = run.score_part(step.pass_number, name, split, number)
            storage.write_array(path, np.concatenate(arrays))
    counts = {"key": run.keys[step.id], **_counts(solved, model)}
    storage.write_json(shard_marker(run, step, number), counts)
    return counts


def solve(entities: Entities, config: Config, coordinate: str, features: int, start: CoefficientTable | None = None) -> Solved:
    """Fits one model to each entity's own rows, and scores all of them.

    features: length of the feature list; start: models of at least these entities to start from.
    """
    settings = config.coordinates[coordinate]
    effect = settings.random_effect
    assert effect is not None
    active_end, weight = _active(entities, effect)
    count = len(entities.ids)
    local = np.empty(len(entities.bag.indices), np.int32)
    coefficient_begin = np.empty(count + 1, np.int64)
    listed = np.empty(len(entities.bag.indices) + count, np.int32)
    used = build_local_index(
        settings.intercept, features, entities.begin, active_end, entities.end,
        entities.bag.offsets, entities.bag.indices, local, coefficient_begin, listed,
    )  # fmt: skip
    listed = listed[:used].copy()
    theta = np.zeros(used) if start is None else _start_values(start, entities.ids, coefficient_begin, listed)
    penalty = np.full(used, settings.l2)
    if not settings.regularize_intercept:
        penalty[listed == INTERCEPT_INDEX] = 0.0
    status, iterations, objective = np.empty(count, np.uint8), np.empty(count, np.int32), np.empty(count)
    solve_entities(
        LOSS_OF_TASK[config.task], settings.intercept, entities.begin, active_end,
        entities.bag.offsets, local, entities.bag.values, entities.label, weight, entities.offset,
        coefficient_begin, theta, penalty, np.zeros(used),
        effect.tolerance, effect.max_iterations, DENSE_LIMIT, status, iterations, objective,
    )  # fmt: skip
    scores = np.empty(len(entities.row), np.float32)
    own = np.arange(count)
    score_rows(
        settings.intercept, own, entities.begin, entities.end, entities.bag.offsets, local, entities.bag.values,
        coefficient_begin, theta, scores,
    )  # fmt: skip
    table = CoefficientTable(entities.ids, coefficient_begin, listed, theta)
    return Solved(table, scores, status, iterations, objective)


def score(entities: Entities, model: CoefficientTable, settings: Coordinate) -> NDArray[np.float32]:
    """float32 [rows]: x·θ of each row's entity, 0 for one without a model."""
    found = pc.index_in(entities.ids, value_set=model.entities).fill_null(-1)
    model_of = found.to_numpy(zero_copy_only=False).astype(np.int64)
    local = np.empty(len(entities.bag.indices), np.int32)
    look_up_local_index(
        settings.intercept, model_of, entities.begin, entities.end, entities.bag.offsets, entities.bag.indices,
        model.offsets, model.features, local,
    )  # fmt: skip
    scores = np.empty(int(entities.end[-1]), np.float32)
    score_rows(
        settings.intercept, model_of, entities.begin, entities.end, entities.bag.offsets, local, entities.bag.values,
        model.offsets, model.means, scores,
    )  # fmt: skip
    return scores


def _active(entities: Entities, effect: RandomEffect) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(end of each entity's training rows, weights): none below samples.min, at most samples.max, weighted up."""
    rows = entities.end - entities.begin
    kept = np.where(rows >= effect.samples.min, rows, 0)
    weight = entities.weight
    if effect.samples.max is not None:
        kept = np.minimum(kept, effect.samples.max)
        factor = np.where(kept > 0, rows / np.maximum(kept, 1), 1.0)
        weight = weight * np.repeat(factor, rows)
    return entities.begin + kept, weight


def _start_values(
    start: CoefficientTable, ids: pa.Array, coefficient_begin: NDArray[np.int64], listed: NDArray[np.int32]
) -> NDArray[np.float64]:
    """The earlier models' coefficients; features and entities are the same in every pass of a run."""
    first = pc.index_in(ids[:1], value_set=start.entities)[0].as_py()
    low, high = start.offsets[first], start.offsets[first + len(ids)]
    if high - low != coefficient_begin[-1] or not np.array_equal(start.features[low:high], listed):
        raise DataError("the earlier pass's model has other features than the shard; run that pass again")
    return start.means[low:high].copy()


def _earlier_model(run: Run, step: Step, number: int) -> CoefficientTable | None:
    assert step.pass_number is not None
    assert step.coordinate is not None
    if step.pass_number == 1:
        return None
    return read_model(run.model(step.pass_number - 1, step.coordinate, number))


def _starting_point(before: CoefficientTable | None, done: int, chunk: Entities) -> CoefficientTable | None:
    """The part of the earlier model that belongs to the chunk: entities come in the same order in every pass."""
    if before is None:
        return None
    stop = done + len(chunk.ids)
    low, high = before.offsets[done], before.offsets[stop]
    return CoefficientTable(
        before.entities[done:stop], before.offsets[done : stop + 1] - low, before.features[low:high], before.means[low:high]
    )


def _chunks(run: Run, coordinate: str, split: str, number: int, others: ScoreSum | None) -> Iterator[Entities]:
    """The shard's entities, some at a time. others: scores that are part of the offset, None where no offset matters."""
    for table in read_entities(run, coordinate, split, number, _ROWS_AT_A_TIME):
        ids = table["entity"].combine_chunks()
        ids = ids.chunk(0) if isinstance(ids, pa.ChunkedArray) else ids
        begin, lengths = entity_runs(ids)
        row = table["row"].to_numpy()
        offset = table["offset"].to_numpy()
        if others is not None:
            offset = offset + others.gather(row)
        if "indices" in table.column_names:
            bag = bags.from_arrow(table["indices"], table["values"])
        else:
            bag = Bag(np.zeros(len(row) + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))
        yield Entities(
            ids.take(pa.array(begin)), begin, begin + lengths, row,
            table["label"].to_numpy(), table["weight"].to_numpy(), offset, bag,
        )  # fmt: skip


def _cut(entities: Entities, parts: int) -> list[Entities]:
    """At most `parts` pieces of whole entities with about as many rows each."""
    count = len(entities.ids)
    goals = np.arange(1, parts) * (int(entities.end[-1]) / parts)
    cuts = np.unique(np.concatenate([[0], np.searchsorted(entities.end, goals), [count]]))
    pieces = []
    for low, high in zip(cuts[:-1], cuts[1:], strict=True):
        first, last = int(entities.begin[low]), int(entities.end[high - 1])
        offsets = entities.bag.offsets[first : last + 1]
        span = slice(int(offsets[0]), int(offsets[-1]))
        bag = Bag(offsets - offsets[0], entities.bag.indices[span], entities.bag.values[span])
        rows = slice(first, last)
        pieces.append(
            Entities(
                entities.ids[int(low) : int(high)], entities.begin[low:high] - first, entities.end[low:high] - first,
                entities.row[rows], entities.label[rows], entities.weight[rows], entities.offset[rows], bag,
            )  # fmt: skip
        )
    return pieces


def _counts(solved: list[Solved], model: CoefficientTable) -> dict[str, Any]:
    status = np.concatenate([np.empty(0, np.uint8), *(part.status for part in solved)])
    by_status = np.bincount(status, minlength=len(STATUS_NAMES))
    return {
        "entities": len(model.entities),
        "coefficients": len(model.features),
        "objective": float(np.sum(np.concatenate([np.zeros(1), *(part.objective for part in solved)]))),
        "iterations": max((int(part.iterations.max()) for part in solved), default=0),
        **{name: int(by_status[code]) for code, name in enumerate(STATUS_NAMES)},
    }
