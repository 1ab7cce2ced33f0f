"""Training a fixed effect: one model of all rows, by one process, or by several that share the rows."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gdmix_core import progress, storage
from gdmix_core.data.frame import Frame
from gdmix_core.data.ragged import Bag
from gdmix_core.data.scores import other_scores
from gdmix_core.effects.random import core_count
from gdmix_core.models.native import read_model, write_model
from gdmix_core.models.table import INTERCEPT_INDEX, CoefficientTable
from gdmix_core.plan import Step
from gdmix_core.run import SPLITS, Run
from gdmix_core.solvers.global_objective import GlobalObjective, score_bag
from gdmix_core.solvers.lbfgs import Minimum, minimize
from gdmix_core.solvers.losses import LOSS_OF_TASK

log = logging.getLogger("gdmix_core.fixed_effect")

GLOBAL = "global"  # the one entity of a fixed effect


def train(run: Run, step: Step) -> dict[str, Any]:
    """Trains and scores the fixed effect; returns objective, iterations and whether it converged."""
    if run.is_done(step):
        log.info("%s is done already", step.id)
        return run.result(step.id)
    assert step.coordinate is not None
    effect = run.config.coordinates[step.coordinate].fixed_effect
    assert effect is not None
    if effect.workers > 1:
        from gdmix_core.effects.fixed_workers import train_with_workers

        result = train_with_workers(run, step)
    else:
        result = _train_alone(run, step)
    if not result["converged"]:
        log.warning(
            "%s did not converge: gradient %.3g after %d iterations (goal %.3g); raise max_iterations or l2",
            step.id, result["gradient"], result["iterations"], result["goal"],
        )  # fmt: skip
    log.info("%s: objective %.8g, %d iterations, gradient %.2g", step.id, *_shown(result))
    return run.commit(step, result)


def _shown(result: dict[str, Any]) -> tuple[float, int, float]:
    return result["objective"], result["iterations"], result["gradient"]


def _train_alone(run: Run, step: Step) -> dict[str, Any]:
    data = TrainingRows(run, step, 0, 1)
    objective = data.objective(threads=core_count(run.config))
    effect = data.effect
    report = progress.reporter()

    def on_iteration(number: int, value: float, w: NDArray[np.float64]) -> None:
        report(number, effect.max_iterations, f"{step.id}: objective {value:.6g}")

    goal = effect.tolerance * max(1.0, data.total_weight)
    minimum = minimize(
        objective.value_and_gradient, data.penalty, start_value(run, step, data.features), goal=goal,
        max_iterations=effect.max_iterations, history=effect.history, on_iteration=on_iteration,
    )  # fmt: skip
    write_result(run, step, data, minimum.w)
    return outcome(minimum, goal)


def outcome(minimum: Minimum, goal: float) -> dict[str, Any]:
    return {
        "objective": minimum.objective,
        "gradient": minimum.gradient,
        "goal": goal,
        "iterations": minimum.iterations,
        "evaluations": minimum.evaluations,
        "converged": minimum.converged,
        "coefficients": len(minimum.w),
    }


class TrainingRows:
    """The rows worker `rank` of `workers` trains on: an even share of consecutive rows of the frame."""

    def __init__(self, run: Run, step: Step, rank: int, workers: int) -> None:
        assert step.coordinate is not None
        self.settings = run.config.coordinates[step.coordinate]
        assert self.settings.fixed_effect is not None
        self.effect = self.settings.fixed_effect
        self._loss = LOSS_OF_TASK[run.config.task]
        self.rank, self.workers = rank, workers
        self.frame = Frame(run)
        self.key = self.frame.bag_of(step.coordinate)
        self.features = self.frame.feature_count(self.key) if self.key else 0
        start, stop = self.span("training")
        self.label = self.frame.column("training", "label", start, stop)
        self.weight = self.frame.column("training", "weight", start, stop)
        self.offset = self.frame.column("training", "offset", start, stop)
        self.offset += other_scores(run, step, "training").span(start, stop)
        self.bag = self.bag_of("training")
        self.total_weight = float(np.sum(self.weight))

    def span(self, split: str) -> tuple[int, int]:
        rows = self.frame.rows(split)
        return rows * self.rank // self.workers, rows * (self.rank + 1) // self.workers

    def bag_of(self, split: str) -> Bag:
        start, stop = self.span(split)
        if self.key is None:
            return Bag.empty(stop - start)
        return self.frame.bag(split, self.key, start, stop)

    @property
    def penalty(self) -> NDArray[np.float64]:
        """λ of each coefficient, float64 [features + 1], the intercept's first."""
        penalty = np.full(self.features + 1, self.settings.l2)
        if not self.settings.regularize_intercept:
            penalty[0] = 0.0
        return penalty

    def objective(self, threads: int) -> GlobalObjective:
        return GlobalObjective(
            self._loss, self.bag, self.features, self.label, self.weight, self.offset,
            intercept=self.settings.intercept, threads=threads,
        )  # fmt: skip


def start_value(run: Run, step: Step, features: int) -> NDArray[np.float64]:
    """The earlier pass's coefficients, or zeros in the first one; float64 [features + 1]."""
    w = np.zeros(features + 1)
    assert step.pass_number is not None
    assert step.coordinate is not None
    if step.pass_number > 1:
        before = read_model(run.model(step.pass_number - 1, step.coordinate, 0))
        w[before.features + 1] = before.means
    return w


def write_result(run: Run, step: Step, data: TrainingRows, w: NDArray[np.float64]) -> None:
    """Scores this worker's rows of both splits; the first worker also writes the model."""
    assert step.pass_number is not None
    assert step.coordinate is not None
    number, name, intercept = step.pass_number, step.coordinate, data.settings.intercept
    for split in SPLITS:
        if data.frame.rows(split):
            scores = score_bag(data.bag if split == "training" else data.bag_of(split), w, intercept)
            storage.write_array(run.score_part(number, name, split, data.rank), scores)
    if data.rank == 0:
        indices = np.arange(INTERCEPT_INDEX if intercept else 0, data.features, dtype=np.int32)
        table = CoefficientTable(
            pa.array([GLOBAL]), np.array([0, len(indices)]), indices, w[indices + 1]
        )
        write_model(run.model(number, name, 0), table)
