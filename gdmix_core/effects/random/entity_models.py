"""Fitting one small model to every entity, and scoring rows with such models: plain functions over arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gdmix_core.config.coordinate import Coordinate, RandomEffect
from gdmix_core.config.pipeline import Task
from gdmix_core.data.checked_arrays import refuse
from gdmix_core.data.entity_rows import EntityRows
from gdmix_core.effects.random.penalties import Penalties, penalties_of
from gdmix_core.errors import ConfigError, DataError
from gdmix_core.models.alignment import look_up, positions
from gdmix_core.models.table import CoefficientTable
from gdmix_core.solvers.entity import newton, posterior, proximal
from gdmix_core.solvers.entity.feature_selection import select_features, without_unused
from gdmix_core.solvers.entity.local_index import build_local_index, look_up_local_index, score_rows
from gdmix_core.solvers.entity.problem import Constraints, Entities, Features, Limits, Measures, Outcome, Penalty, Rows
from gdmix_core.solvers.losses import LOSS_OF_TASK

_VARIANCE_MODES = {"none": posterior.NO_VARIANCES, "simple": posterior.SIMPLE, "full": posterior.FULL}


@dataclass(frozen=True)
class FittedModels:
    """Models of E entities, and what the solver said of each.

    table: their coefficients; scores: float32 [n] x·θ of every row, those that trained and those that did not
    status: uint8 [E], codes of solvers.entity.newton.STATUS_NAMES; iterations: int32 [E]; objective: float64 [E]
    sums: float64 [4, groups], of l2: auto (solvers.empirical_bayes.fixed_point.Sums); with no columns where λ is given
    leverage: float32 [n], posterior variance of each training row's x·θ, 0 of the others; empty where λ is given
    residual_squares, residual_dof: of a linear model's noise (noise_variance, in the same module); 0 where λ is given
    """

    table: CoefficientTable
    scores: NDArray[np.float32]
    status: NDArray[np.uint8]
    iterations: NDArray[np.int32]
    objective: NDArray[np.float64]
    sums: NDArray[np.float64]
    leverage: NDArray[np.float32]
    residual_squares: float = 0.0
    residual_dof: float = 0.0


@dataclass(frozen=True)
class Prior:
    """Earlier models whose means and variances are a Gaussian prior; weight multiplies its precision."""

    table: CoefficientTable
    weight: float


def fit_entity_models(
    rows: EntityRows,
    settings: Coordinate,
    task: Task,
    features: int,
    start: CoefficientTable | None = None,
    *,
    penalties: Penalties | None = None,
    prior: Prior | None = None,
) -> FittedModels:
    """Fits one model to each entity's own rows, and scores all of them.

    settings: a random effect's; features: length of its feature list
    start: models to start from; of other entities and features too, which then count for nothing
    penalties: None: those of the settings, under l2: auto with σ² = 1
    prior: replaces the penalty of every coefficient it has, weight / variance around its mean; where it has a mean but
        no variance the penalty stays, times the weight, around that mean

    Arrays of other types than EntityRows says are converted. Raises DataError for rows that EntityRows.checked refuses
    and for labels that the task does not have; for an entity with too many features for full variances, and one whose
    loss is beyond what a float64 holds. Raises ConfigError for a task or penalties that do not fit.
    """
    effect = settings.random_effect
    if effect is None:
        raise ValueError("the coordinate is no random effect")
    if task not in LOSS_OF_TASK:
        raise ConfigError(f"task {task!r} has no models per entity; it can be one of {', '.join(LOSS_OF_TASK)}")
    if isinstance(features, bool) or not isinstance(features, int | np.integer) or features < 0:
        raise ConfigError(f"features must be their number, an integer from 0 on, not {features!r}")
    penalties = penalties_of(settings, features) if penalties is None else penalties
    _check_penalties(penalties, prior, features)
    rows = rows.checked(features, trains=True)
    _check_labels(rows.label, task)
    active_end, weight = active_rows(rows, effect)
    count = len(rows)
    local = np.full(len(rows.bag.indices), -1, np.int32)  # of rows that no entity has, too
    coefficient_begin = np.empty(count + 1, np.int64)
    listed = np.empty(len(rows.bag.indices) + count, np.int32)
    used = build_local_index(
        settings.intercept, features, rows.begin, active_end, rows.end,
        rows.bag.offsets, rows.bag.indices, local, coefficient_begin, listed,
    )  # fmt: skip
    offsets, values = rows.bag.offsets, rows.bag.values
    if effect.features_to_samples is not None:
        used = select_features(
            effect.features_to_samples, settings.intercept, rows.begin, active_end, rows.end,
            offsets, local, values, rows.label, coefficient_begin, listed,
        )  # fmt: skip
        offsets, local, values = without_unused(offsets, local, values)
    listed = listed[:used].copy()
    theta = np.zeros(used)
    if start is not None:
        theta = np.nan_to_num(look_up(start, rows.ids, coefficient_begin, listed)[0], copy=False)
    penalty = penalties.l2[listed + 1]
    group = penalties.group[listed + 1] if len(penalties.group) else penalties.group
    centre = np.zeros(used)
    if prior is not None:
        _apply(prior, rows, coefficient_begin, listed, penalty, centre, group)
    mode = _VARIANCE_MODES[settings.variances]
    if mode == posterior.FULL:
        _check_sizes(rows, coefficient_begin)
    variances = np.full(used if mode != posterior.NO_VARIANCES else 0, np.nan)
    sums = np.zeros((4, len(penalties.variance)))
    status, iterations, objective = np.empty(count, np.uint8), np.empty(count, np.int32), np.empty(count)
    loss, entities = LOSS_OF_TASK[task], Entities(rows.begin, active_end, coefficient_begin)
    data = Rows(Features(settings.intercept, offsets, local, values), rows.label, weight, rows.offset)
    measured = len(rows.row) if len(penalties.variance) else 0
    leverage = np.zeros(measured, np.float32)
    others = np.zeros(measured) if rows.leverage is None else rows.leverage
    limits = Limits(effect.tolerance, effect.max_iterations, newton.DENSE_LIMIT)
    outcome = Outcome(status, iterations, objective)
    measures = Measures(mode, variances, group, sums, others, leverage)
    if penalties.is_smooth:
        newton.solve_entities(loss, entities, data, theta, Penalty(penalty, centre), limits, outcome, measures)
    else:
        constraints = Constraints(
            np.zeros(used) if penalties.l1 is None else penalties.l1[listed + 1],
            np.full(used, -np.inf) if penalties.lower is None else penalties.lower[listed + 1],
            np.full(used, np.inf) if penalties.upper is None else penalties.upper[listed + 1],
        )
        proximal.solve_entities(
            loss, entities, data, theta, Penalty(penalty, centre), constraints, limits, outcome, measures
        )
    _check_outcome(rows, coefficient_begin, theta, objective)
    scores = np.zeros(len(rows.row), np.float32)
    score_rows(
        settings.intercept, np.arange(count), rows.begin, rows.end, offsets, local, values,
        coefficient_begin, theta, scores,
    )  # fmt: skip
    noise = (0.0, 0.0)
    if measured:
        noise = _noise(rows, active_end, weight, others, objective, sums)
    # The kernel's squares and corrections are in units of each coefficient's prior variance.
    sums[:2] *= penalties.variance
    table = CoefficientTable(rows.ids, coefficient_begin, listed, theta, variances if len(variances) else None)
    return FittedModels(table, scores, status, iterations, objective, sums, leverage, *noise)


def _check_penalties(penalties: Penalties, prior: Prior | None, features: int) -> None:
    for name in ("l2", "l1", "lower", "upper"):
        of_feature = getattr(penalties, name)
        if of_feature is not None and len(of_feature) != features + 1:
            raise ConfigError(
                f"penalties.{name} has {len(of_feature)} entries; {features} features and the intercept, which comes "
                f"first, need {features + 1}"
            )
    if prior is not None and not (np.isfinite(prior.weight) and prior.weight >= 0.0):
        raise ConfigError(f"prior.weight must be a finite number from 0 on, not {prior.weight}")


def _check_labels(label: NDArray[np.float64], task: Task) -> None:
    if len(label) == 0:
        return
    if task in ("logistic_regression", "smoothed_hinge") and (label.min() < 0.0 or label.max() > 1.0):
        refuse((label < 0.0) | (label > 1.0), label, "label", f"0 or 1 in {task}")
    if task == "poisson_regression" and label.min() < 0.0:
        refuse(label < 0.0, label, "label", f"0 or more in {task}")


def _check_outcome(
    rows: EntityRows,
    coefficient_begin: NDArray[np.int64],
    theta: NDArray[np.float64],
    objective: NDArray[np.float64],
) -> None:
    """Finite numbers may be too large for sums and products of them to be finite."""
    if np.isfinite(np.sum(objective)) and np.isfinite(np.sum(theta)):
        return
    wrong = ~np.isfinite(objective)
    bad = np.flatnonzero(~np.isfinite(theta))
    wrong[np.searchsorted(coefficient_begin, bad, side="right") - 1] = True
    if wrong.any():
        first = rows.ids[int(np.argmax(wrong))].as_py()
        raise DataError(
            f"entity {first!r}: its loss is not a finite number, however small the steps ({np.count_nonzero(wrong)} "
            "entities are so); look for labels, weights, offsets or features of huge size, and scale them"
        )


def _apply(
    prior: Prior,
    rows: EntityRows,
    coefficient_begin: NDArray[np.int64],
    listed: NDArray[np.int32],
    penalty: NDArray[np.float64],
    centre: NDArray[np.float64],
    group: NDArray[np.int32],
) -> None:
    """Overwrites penalty, centre and group (−1: takes no part in l2: auto) where the prior has a coefficient."""
    means, variances = look_up(prior.table, rows.ids, coefficient_begin, listed)
    known = ~np.isnan(means)
    centre[known] = means[known]
    usable = known & (variances > 0.0) & np.isfinite(variances)
    penalty[known] *= prior.weight
    penalty[usable] = prior.weight / variances[usable]
    if len(group):
        group[known] = -1


def _noise(
    rows: EntityRows,
    active_end: NDArray[np.int64],
    weight: NDArray[np.float64],
    others: NDArray[np.float64],
    objective: NDArray[np.float64],
    sums: NDArray[np.float64],
) -> tuple[float, float]:
    """(Σ weight (y − z)², training rows − effective coefficients, those of other coordinates among them)."""
    trains = np.zeros(len(weight) + 1, np.int64)
    np.add.at(trains, rows.begin, 1)
    np.add.at(trains, active_end, -1)
    active = np.cumsum(trains[:-1]) > 0
    residual_dof = np.count_nonzero(active) - np.sum(sums[2] - sums[3]) - np.sum(weight[active] * others[active])
    return float(2.0 * np.sum(objective) - np.sum(sums[0])), float(residual_dof)


def _check_sizes(rows: EntityRows, coefficient_begin: NDArray[np.int64]) -> None:
    sizes = np.diff(coefficient_begin)
    if len(sizes) and sizes.max() > posterior.LARGEST_INVERSE:
        largest = int(np.argmax(sizes))
        raise DataError(
            f"entity {rows.ids[largest].as_py()!r} has {sizes[largest]} coefficients, and full variances need the "
            f"inverse of a matrix of as many rows, at most {posterior.LARGEST_INVERSE}; use variances: simple, or "
            "features_to_samples to train it on fewer features"
        )


def score_entity_rows(rows: EntityRows, models: CoefficientTable, settings: Coordinate) -> NDArray[np.float32]:
    """float32 [n]: x·θ of each row's entity; 0 for an entity without a model.

    Labels, weights and offsets do not count. Raises DataError for rows that EntityRows.checked refuses, and for models
    that have an intercept where the coordinate has none, or lack one.
    """
    rows = rows.checked(None, trains=False)
    models.check("models", intercept=settings.intercept)
    model_of = positions(models.entities, rows.ids)
    local = np.empty(len(rows.bag.indices), np.int32)
    look_up_local_index(
        settings.intercept, model_of, rows.begin, rows.end, rows.bag.offsets, rows.bag.indices,
        models.offsets, models.features, local,
    )  # fmt: skip
    scores = np.zeros(len(rows.row), np.float32)
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
        own = np.arange(int(count.sum())) + np.repeat(rows.begin - (np.cumsum(count) - count), count)
        weight = weight.copy()
        weight[own] *= np.repeat(count / np.maximum(kept, 1), count)
    return rows.begin + kept, weight
