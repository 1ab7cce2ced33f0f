"""Fitting one small model to every entity, and scoring rows with such models: plain functions over arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from gdmix_core.config import Task
from gdmix_core.coordinate_config import Coordinate, RandomEffect
from gdmix_core.data.entity_rows import EntityRows
from gdmix_core.errors import DataError
from gdmix_core.models.table import INTERCEPT_INDEX, CoefficientTable
from gdmix_core.solvers.entity_newton import DENSE_LIMIT, solve_entities
from gdmix_core.solvers.local_index import build_local_index, look_up_local_index, score_rows
from gdmix_core.solvers.losses import LOSS_OF_TASK


@dataclass(frozen=True)
class FittedModels:
    """Models of E entities, and what the solver said of each.

    table: their coefficients; scores: float32 [n] x·θ of every row, those that trained and those that did not
    status: uint8 [E], codes of solvers.entity_newton.STATUS_NAMES; iterations: int32 [E]; objective: float64 [E]
    """

    table: CoefficientTable
    scores: NDArray[np.float32]
    status: NDArray[np.uint8]
    iterations: NDArray[np.int32]
    objective: NDArray[np.float64]


def fit_entity_models(
    rows: EntityRows, settings: Coordinate, task: Task, features: int, start: CoefficientTable | None = None
) -> FittedModels:
    """Fits one model to each entity's own rows, and scores all of them.

    settings: a random effect's; features: length of its feature list; start: models of the same entities, with the same
    features, to start from. Raises DataError when they have others.
    """
    effect = settings.random_effect
    if effect is None:
        raise ValueError("the coordinate is no random effect")
    active_end, weight = active_rows(rows, effect)
    count = len(rows)
    local = np.empty(len(rows.bag.indices), np.int32)
    coefficient_begin = np.empty(count + 1, np.int64)
    listed = np.empty(len(rows.bag.indices) + count, np.int32)
    used = build_local_index(
        settings.intercept, features, rows.begin, active_end, rows.end,
        rows.bag.offsets, rows.bag.indices, local, coefficient_begin, listed,
    )  # fmt: skip
    listed = listed[:used].copy()
    theta = np.zeros(used)
    if start is not None:
        if not np.array_equal(start.features, listed) or not start.entities.equals(rows.ids):
            raise DataError("the models to start from have other features or entities than the rows; fit them again")
        theta[:] = start.means
    penalty = np.full(used, settings.l2_weight)
    if not settings.regularize_intercept:
        penalty[listed == INTERCEPT_INDEX] = 0.0
    status, iterations, objective = np.empty(count, np.uint8), np.empty(count, np.int32), np.empty(count)
    solve_entities(
        LOSS_OF_TASK[task], settings.intercept, rows.begin, active_end,
        rows.bag.offsets, local, rows.bag.values, rows.label, weight, rows.offset,
        coefficient_begin, theta, penalty, np.zeros(used),
        effect.tolerance, effect.max_iterations, DENSE_LIMIT, status, iterations, objective,
    )  # fmt: skip
    scores = np.empty(len(rows.row), np.float32)
    score_rows(
        settings.intercept, np.arange(count), rows.begin, rows.end, rows.bag.offsets, local, rows.bag.values,
        coefficient_begin, theta, scores,
    )  # fmt: skip
    return FittedModels(
        CoefficientTable(rows.ids, coefficient_begin, listed, theta), scores, status, iterations, objective
    )


def score_entity_rows(rows: EntityRows, models: CoefficientTable, settings: Coordinate) -> NDArray[np.float32]:
    """float32 [n]: x·θ of each row's entity; 0 for an entity without a model."""
    found = pc.index_in(rows.ids, value_set=models.entities).fill_null(-1)
    model_of = found.to_numpy(zero_copy_only=False).astype(np.int64)
    local = np.empty(len(rows.bag.indices), np.int32)
    look_up_local_index(
        settings.intercept, model_of, rows.begin, rows.end, rows.bag.offsets, rows.bag.indices,
        models.offsets, models.features, local,
    )  # fmt: skip
    scores = np.empty(len(rows.row), np.float32)
    score_rows(
        settings.intercept, model_of, rows.begin, rows.end, rows.bag.offsets, local, rows.bag.values,
        models.offsets, models.means, scores,
    )  # fmt: skip
    return scores


def active_rows(rows: EntityRows, effect: RandomEffect) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(int64 [E] end of each entity's training rows, float64 [n] weights).

    None below samples.min; at most the first samples.max, whose weights are multiplied by count / kept.
    """
    count = rows.end - rows.begin
    kept = np.where(count >= effect.samples.min, count, 0)
    weight = rows.weight
    if effect.samples.max is not None:
        kept = np.minimum(kept, effect.samples.max)
        weight = weight * np.repeat(count / np.maximum(kept, 1), count)
    return rows.begin + kept, weight
