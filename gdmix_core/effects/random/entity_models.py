"""Fits of one small model to every entity, and scores of rows by such models: plain functions over arrays."""

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
from gdmix_core.models.predict import predict
from gdmix_core.models.table import CoefficientTable
from gdmix_core.solvers.entity import newton, posterior
from gdmix_core.solvers.entity.feature_selection import select_features, without_unused
from gdmix_core.solvers.entity.local_index import build_local_index, score_rows
from gdmix_core.solvers.entity.problem import Constraints, Entities, Features, Limits, Measures, Outcome, Penalty, Rows
from gdmix_core.solvers.entity.solve import solve_entities
from gdmix_core.solvers.losses import LOSS_OF_TASK

_VARIANCE_MODES = {"none": posterior.NO_VARIANCES, "simple": posterior.SIMPLE, "full": posterior.FULL}


@dataclass(frozen=True)
class FittedModels:
    """Models of E entities, and how the solver fared with each.

    Parameters
    ----------
    table
        Their coefficients.
    scores
        float32 [n], x·w of every row, of those that trained and those that did not.
    status
        uint8 [E], codes of `solvers.entity.newton.STATUS_NAMES`.
    iterations
        int32 [E].
    objective
        float64 [E], the objective of each entity.
    sums
        float64 [4, groups], of `l2: auto` (`solvers.empirical_bayes.fixed_point.Sums`); no columns where λ is given.
    margin_variance
        float32 [n], posterior variance of each training row's x·w, 0 of the others; empty where λ is given.
    residual_squares, residual_dof
        Of a linear model's noise (`noise_variance`, in the same module); 0 where λ is given.
    """

    table: CoefficientTable
    scores: NDArray[np.float32]
    status: NDArray[np.uint8]
    iterations: NDArray[np.int32]
    objective: NDArray[np.float64]
    sums: NDArray[np.float64]
    margin_variance: NDArray[np.float32]
    residual_squares: float = 0.0
    residual_dof: float = 0.0


@dataclass(frozen=True)
class Prior:
    """Initial models whose means and variances are a Gaussian prior.

    Parameters
    ----------
    table
        The models.
    weight
        What multiplies the precision 1 / variance of each coefficient, 0 or more.
    """

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
    """Fit one model to each entity's own rows, and score all of them.

    Parameters
    ----------
    rows
        Rows of E entities; arrays of other types than `EntityRows` says are converted.
    settings
        A random effect's.
    task
        One with one margin a row.
    features
        Length of the feature list.
    start
        Models to start from; other entities and features in them count for nothing.
    penalties
        None for those of the settings, under `l2: auto` with σ² = 1.
    prior
        Replaces the penalty of every coefficient that it has: weight / variance, around its mean. Where it has a mean
        but no variance, the penalty stays, times the weight, around that mean.

    Returns
    -------
    FittedModels
        The models, in the order of the entities.

    Raises
    ------
    DataError
        For rows that `EntityRows.checked` refuses, labels that the task does not have, an entity with too many features
        for full variances, and one whose loss is beyond what a float64 holds.
    ConfigError
        For a task or penalties that do not fit.
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
    offsets, values = rows.bag.offsets, rows.bag.values
    local = np.full(len(rows.bag.indices), -1, np.int32)  # of rows that no entity has, too
    coefficient_begin = np.empty(count + 1, np.int64)
    listed = np.empty(len(rows.bag.indices) + count, np.int32)
    used = build_local_index(
        settings.intercept, features, rows.begin, active_end, rows.end,
        offsets, rows.bag.indices, local, coefficient_begin, listed,
    )  # fmt: skip
    if effect.features_to_samples is not None:
        used = select_features(
            effect.features_to_samples, settings.intercept, rows.begin, active_end, rows.end,
            offsets, local, values, rows.label, coefficient_begin, listed,
        )  # fmt: skip
        offsets, local, values = without_unused(offsets, local, values)
    listed = listed[:used].copy()
    w = np.zeros(used)
    if start is not None:
        w = np.nan_to_num(look_up(start, rows.ids, coefficient_begin, listed)[0], copy=False)
    penalty = Penalty(penalties.l2[listed + 1], np.zeros(used))
    group = penalties.group[listed + 1] if len(penalties.group) else penalties.group
    if prior is not None:
        _apply(prior, rows, coefficient_begin, listed, penalty, group)
    mode = _VARIANCE_MODES[settings.variances]
    if mode == posterior.FULL:
        _check_sizes(rows, coefficient_begin)
    variances = np.full(used if mode != posterior.NO_VARIANCES else 0, np.nan)
    sums = np.zeros((4, len(penalties.variance)))
    measured = len(rows.row) if len(penalties.variance) else 0
    others = np.zeros(measured) if rows.margin_variance is None else rows.margin_variance
    measures = Measures(mode, variances, group, sums, others, np.zeros(measured, np.float32))
    outcome = Outcome(np.empty(count, np.uint8), np.empty(count, np.int32), np.empty(count))
    constraints = None
    if not penalties.is_smooth:
        constraints = Constraints(
            np.zeros(used) if penalties.l1 is None else penalties.l1[listed + 1],
            np.full(used, -np.inf) if penalties.lower is None else penalties.lower[listed + 1],
            np.full(used, np.inf) if penalties.upper is None else penalties.upper[listed + 1],
        )
    solve_entities(
        LOSS_OF_TASK[task],
        Entities(rows.begin, active_end, coefficient_begin),
        Rows(Features(settings.intercept, offsets, local, values), rows.label, weight, rows.offset),
        w,
        penalty,
        constraints,
        Limits(effect.tolerance, effect.max_iterations, newton.DENSE_LIMIT),
        outcome,
        measures,
    )
    _check_outcome(rows, coefficient_begin, w, outcome.objective)
    scores = np.zeros(len(rows.row), np.float32)
    score_rows(
        settings.intercept, np.arange(count), rows.begin, rows.end, offsets, local, values,
        coefficient_begin, w, scores,
    )  # fmt: skip
    noise = _noise(rows, active_end, weight, others, outcome.objective, sums) if measured else (0.0, 0.0)
    # The kernel's squares and corrections are in units of each coefficient's prior variance.
    sums[:2] *= penalties.variance
    table = CoefficientTable(rows.ids, coefficient_begin, listed, w, variances if len(variances) else None)
    return FittedModels(table, scores, *outcome, sums, measures.margin_variance, *noise)


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
    w: NDArray[np.float64],
    objective: NDArray[np.float64],
) -> None:
    """Raise DataError for a model that is not finite: finite numbers may be too large for their sums and products."""
    if np.isfinite(np.sum(objective)) and np.isfinite(np.sum(w)):
        return
    wrong = ~np.isfinite(objective)
    bad = np.flatnonzero(~np.isfinite(w))
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
    penalty: Penalty,
    group: NDArray[np.int32],
) -> None:
    """Overwrite penalty and group (−1: takes no part in l2: auto) where the prior has a coefficient."""
    means, variances = look_up(prior.table, rows.ids, coefficient_begin, listed)
    known = ~np.isnan(means)
    penalty.prior_mean[known] = means[known]
    usable = known & (variances > 0.0) & np.isfinite(variances)
    penalty.precision[known] *= prior.weight
    penalty.precision[usable] = prior.weight / variances[usable]
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
    """Return Σ weight (y − z)², and training rows − effective parameters, those of other coordinates among them."""
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
    """Score rows with the models of their entities.

    Parameters
    ----------
    rows
        n rows, whose labels, weights and offsets do not count.
    models
        The models, of these and other entities.
    settings
        The random effect's.

    Returns
    -------
    NDArray[np.float32]
        [n], x·w of each row's entity, without offset; 0 for an entity without a model.

    Raises
    ------
    DataError
        For rows that `EntityRows.checked` refuses, and for models that have an intercept where the coordinate has
        none, or lack one.
    """
    rows = rows.checked(None, trains=False)
    models.check("models", intercept=settings.intercept)
    model_of = positions(models.entities, rows.ids)
    return predict(models, rows.bag, model_of, rows.begin, rows.end, intercept=settings.intercept)


def active_rows(rows: EntityRows, effect: RandomEffect) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the end of each entity's training rows, int64 [E], and the rows' weights, float64 [n].

    An entity has none below samples.min; at most the first samples.max, with weights times count / kept.
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
