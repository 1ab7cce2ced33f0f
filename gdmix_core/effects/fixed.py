"""Training a fixed effect: one model of all rows, by one process, or by several that share the rows."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gdmix_core import progress, storage
from gdmix_core.coordinate_config import FixedEffect
from gdmix_core.effects.checkpoint import Checkpoint, Iterate
from gdmix_core.effects.cores import core_count
from gdmix_core.effects.training_rows import TrainingRows
from gdmix_core.models.native import write_model
from gdmix_core.models.table import INTERCEPT_INDEX, CoefficientTable
from gdmix_core.plan import Step
from gdmix_core.run import SPLITS, Run
from gdmix_core.search.warm_start import earlier_model
from gdmix_core.solvers.all_reduce import AllReduce, Alone, SharedObjective
from gdmix_core.solvers.global_objective import score_bag
from gdmix_core.solvers.lbfgs import minimize

log = logging.getLogger("gdmix_core.fixed_effect")

GLOBAL = "global"  # the one entity of a fixed effect


def train(run: Run, step: Step) -> dict[str, Any]:
    """Trains and scores the fixed effect; returns objective, iterations and whether it converged.

    A step that was killed goes on from its checkpoint.
    """
    if run.is_done(step):
        log.info("%s is done already", step.id)
        return run.result(step.id)
    # The marker of an older result goes before any of its files does.
    storage.remove(run.marker(step))
    if settings_of(run, step).workers > 1:
        from gdmix_core.effects.fixed_workers import train_with_workers

        result = train_with_workers(run, step)
    else:
        result = _train_alone(run, step)
    if not result["converged"]:
        log.warning(
            "%s did not converge: gradient %.3g after %d iterations (goal %.3g); raise max_iterations or l2",
            step.id, result["gradient"], result["iterations"], result["goal"],
        )  # fmt: skip
    log.info(
        "%s: objective %.8g, %d iterations, gradient %.2g",
        step.id, result["objective"], result["iterations"], result["gradient"],
    )  # fmt: skip
    committed = run.commit(step, result)
    Checkpoint(run, step).remove()
    return committed


def settings_of(run: Run, step: Step) -> FixedEffect:
    assert step.coordinate is not None
    effect = run.config.coordinates[step.coordinate].fixed_effect
    assert effect is not None
    return effect


def _train_alone(run: Run, step: Step) -> dict[str, Any]:
    report = progress.reporter()
    most = settings_of(run, step).max_iterations

    def on_iteration(number: int, objective: float) -> None:
        report(number, most, f"{step.id}: objective {objective:.6g}")

    rows = TrainingRows(run, step, rank=0, workers=1)
    return fit(run, step, rows, Alone(), threads=core_count(run.config), on_iteration=on_iteration)


def fit(
    run: Run,
    step: Step,
    rows: TrainingRows,
    group: AllReduce,
    *,
    threads: int,
    on_iteration: Callable[[int, float], None],
) -> dict[str, Any]:
    """Trains together with the others of the group, each on its own share of the rows, which it then scores.

    The first of the group keeps the checkpoint and writes the model. Returns the outcome, the same for all.
    """
    effect = settings_of(run, step)
    checkpoint = Checkpoint(run, step)
    if group.rank == 0:
        _remove_scores(run, step)
    start, total_weight = _agree_on_start(run, step, rows, checkpoint, group)
    objective = SharedObjective(rows.objective(threads).value_and_gradient, group)

    def iterated(number: int, value: float, w: NDArray[np.float64]) -> None:
        number += start.iterations
        if group.rank == 0:
            checkpoint.offer(Iterate(w, number, start.evaluations + objective.evaluations))
        on_iteration(number, value)

    goal = effect.tolerance * max(1.0, total_weight)
    minimum = minimize(
        objective.value_and_gradient, rows.penalty, start.w, goal=goal,
        # One more even after the checkpoint of the last: SciPy knows no other way to tell whether it converged.
        max_iterations=max(1, effect.max_iterations - start.iterations),
        history=effect.history, on_iteration=iterated,
    )  # fmt: skip
    _write_result(run, step, rows, minimum.w)
    return {
        "objective": minimum.objective,
        "gradient": minimum.gradient,
        "goal": goal,
        "iterations": start.iterations + minimum.iterations,
        "evaluations": start.evaluations + objective.evaluations,
        "converged": minimum.converged,
        "coefficients": len(minimum.w),
    }


def _agree_on_start(
    run: Run, step: Step, rows: TrainingRows, checkpoint: Checkpoint, group: AllReduce
) -> tuple[Iterate, float]:
    """(where all begin, Σ weight over all rows). The first worker knows where, the others add zeros to it."""
    own = Iterate(np.zeros(rows.features + 1))
    if group.rank == 0:
        found = checkpoint.read()
        if found is not None:
            log.info("%s goes on from its checkpoint, after %d iterations", step.id, found.iterations)
        own = found or Iterate(_first_value(run, step, rows.features))
    total = group.sum(np.concatenate([[rows.total_weight, own.iterations, own.evaluations], own.w]))
    return Iterate(total[3:], int(total[1]), int(total[2])), float(total[0])


def _first_value(run: Run, step: Step, features: int) -> NDArray[np.float64]:
    """The earlier pass's (or trial's) coefficients, or zeros in the first one; float64 [features + 1]."""
    w = np.zeros(features + 1)
    before = earlier_model(run, step, 0)
    if before is not None:
        w[before.features + 1] = before.means
    return w


def _remove_scores(run: Run, step: Step) -> None:
    """Another number of workers may have left parts that nobody would overwrite."""
    assert step.pass_number is not None
    assert step.coordinate is not None
    for split in SPLITS:
        storage.remove(run.coordinate(step.pass_number, step.coordinate, "scores", split))


def _write_result(run: Run, step: Step, rows: TrainingRows, w: NDArray[np.float64]) -> None:
    """Scores this worker's rows of both splits; the first worker also writes the model."""
    assert step.pass_number is not None
    assert step.coordinate is not None
    number, name, intercept = step.pass_number, step.coordinate, rows.settings.intercept
    for split in SPLITS:
        if rows.frame.rows(split):
            scores = score_bag(rows.bag if split == "training" else rows.bag_of(split), w, intercept)
            storage.write_array(run.score_part(number, name, split, rows.rank), scores)
    if rows.rank == 0:
        indices = np.arange(INTERCEPT_INDEX if intercept else 0, rows.features, dtype=np.int32)
        table = CoefficientTable(pa.array([GLOBAL]), np.array([0, len(indices)]), indices, w[indices + 1])
        write_model(run.model(number, name, 0), table)
