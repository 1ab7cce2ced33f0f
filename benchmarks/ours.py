"""How the library fits the problems of comparisons.py, through the functions that its steps call."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import machine
import numpy as np
import pyarrow as pa
from comparisons import Fit, Problem, Vector

from gdmix_core.config.coordinate import Coordinate
from gdmix_core.data.entity_rows import EntityRows
from gdmix_core.data.ragged import Bag
from gdmix_core.effects.random.entity_models import FittedModels, fit_entity_models
from gdmix_core.solvers.large import newton_cg
from gdmix_core.solvers.large.objective import GlobalObjective
from gdmix_core.solvers.large.scaling import Penalty, ScaledObjective
from gdmix_core.solvers.losses import LOGISTIC, LOSS_OF_TASK
from gdmix_core.workers.all_reduce import SharedObjective, SingleWorker

# Tighter than the default of 1e-6, and than any peer's, so that none ends below ours.
TOLERANCE = 1e-10


def versions(function: str) -> dict[str, str]:
    """None beside those that the table has at any rate."""
    return {}


def fixed_effect(problem: Problem, task: str) -> Fit:
    if "X" in problem:
        rows, features = problem["X"].shape
        indices = np.tile(np.arange(features, dtype=np.int32), rows)
        bag = Bag(np.arange(rows + 1) * features, indices, problem["X"].ravel())
    else:
        rows, features = len(problem["label"]), int(problem["features"])
        bag = Bag(problem["offsets"], problem["indices"], problem["values"])
    penalty = np.full(features + 1, float(problem["l2"]))
    penalty[0] = 0.0
    passes = []

    def work() -> Vector:
        own = GlobalObjective(
            LOSS_OF_TASK[task], bag, features, problem["label"], np.ones(rows), np.zeros(rows),
            intercept=True, threads=machine.cores(),
        )  # fmt: skip
        data = SharedObjective(own, SingleWorker())
        objective = ScaledObjective(data, Penalty.ridge(penalty))
        found = newton_cg.minimize(objective, np.zeros(features + 1), gtol=TOLERANCE * rows, max_iterations=500)
        passes[:] = [data.evaluations + data.hessian_products]
        return found.w

    return Fit(work, note=lambda: f"{passes[0]} passes")


def logistic(problem: Problem) -> Fit:
    return fixed_effect(problem, "logistic_regression")


def poisson(problem: Problem) -> Fit:
    return fixed_effect(problem, "poisson_regression")


def linear(problem: Problem) -> Fit:
    return fixed_effect(problem, "linear_regression")


def per_entity(problem: Problem) -> Fit:
    features, count = int(problem["features"]), len(problem["begin"])
    rows = EntityRows(
        pa.array(np.arange(count)), problem["begin"], problem["end"], np.arange(len(problem["label"])),
        problem["label"], np.ones(len(problem["label"])), np.zeros(len(problem["label"])),
        Bag(problem["offsets"], problem["indices"], problem["values"]),
    )  # fmt: skip
    settings = Coordinate.model_validate(
        {"random_effect": {"entity": "id", "tolerance": TOLERANCE}, "bag": "x", "l2": 1.0, "intercept": False}
    )

    def work() -> list[FittedModels]:
        with ThreadPoolExecutor(machine.cores()) as pool:
            fit = lambda piece: fit_entity_models(piece, settings, "logistic_regression", features)  # noqa: E731
            return list(pool.map(fit, rows.cut(64)))

    def coefficients(fitted: list[FittedModels]) -> Vector:
        W, entity = np.zeros((count, features)), 0
        for part in fitted:
            of = entity + np.repeat(np.arange(len(part.table.entities)), np.diff(part.table.offsets))
            W[of, part.table.features] = part.table.means
            entity += len(part.table.entities)
        return W.ravel()

    return Fit(work, coefficients)


def crossed(problem: Problem, beside: Vector) -> Fit:
    """Block coordinate descent, as a run's passes, until a pass gains less than a 1e-9th of the objective."""
    label, rows = problem["label"], len(problem["label"])
    variances = beside[1:3]
    blocks = [_Intercepts(problem[name], label, 1.0 / v) for name, v in zip(("user", "item"), variances, strict=True)]
    no_features = Bag(np.zeros(rows + 1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))

    def work() -> Vector:
        intercept, scores, before = np.zeros(1), [np.zeros(rows), np.zeros(rows)], np.inf
        means: list[Any] = [None, None]
        counted[:] = [0]
        while True:
            counted[0] += 1
            fixed = GlobalObjective(
                LOGISTIC, no_features, 0, label, np.ones(rows), scores[0] + scores[1],
                intercept=True, threads=machine.cores(),
            )  # fmt: skip
            data = ScaledObjective(SharedObjective(fixed, SingleWorker()), Penalty.ridge(np.zeros(1)))
            found = newton_cg.minimize(data, intercept, gtol=1e-6 * rows, max_iterations=100)
            intercept, value = found.w, found.objective
            value += sum(0.5 * (m @ m) / v for m, v in zip(means, variances, strict=True) if m is not None)
            if before - value <= 1e-9 * abs(value):
                break
            before = value
            for mine, other in ((0, 1), (1, 0)):
                means[mine], scores[mine] = blocks[mine].fit(intercept[0] + scores[other])
        return np.concatenate([intercept, variances, *means])

    counted: list[int] = []
    return Fit(work, note=lambda: f"{counted[0]} passes")


class _Intercepts:
    """An intercept for each entity; rows are grouped once, as partition does."""

    def __init__(self, entity: Any, label: Vector, l2: float) -> None:
        self._order = np.argsort(entity, kind="stable")
        self._label = label[self._order]
        self._ids, self._begin = np.unique(entity[self._order], return_index=True)
        self._end = np.append(self._begin[1:], len(label))
        self._settings = Coordinate.model_validate(
            {"random_effect": {"entity": "id"}, "l2": l2, "regularize_intercept": True}
        )

    def fit(self, offset: Vector) -> tuple[Vector, Vector]:
        """Means of the entities, and scores of the rows in their own order."""
        rows = len(offset)
        empty = Bag(np.zeros(rows + 1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))
        everybody = EntityRows(
            pa.array(self._ids), self._begin, self._end, np.arange(rows), self._label, np.ones(rows),
            offset[self._order], empty,
        )  # fmt: skip
        with ThreadPoolExecutor(machine.cores()) as pool:
            parts = list(
                pool.map(
                    lambda piece: fit_entity_models(piece, self._settings, "logistic_regression", 0), everybody.cut(8)
                )
            )
        scores = np.empty(rows)
        scores[self._order] = np.concatenate([part.scores for part in parts])
        return np.concatenate([part.table.means for part in parts]), scores
