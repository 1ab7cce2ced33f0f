"""Carrying out one step of a plan. The command line, the Airflow operators and the worker processes all call this."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gdmix_core.errors import StepError
from gdmix_core.pipeline import run_lock
from gdmix_core.pipeline.plan import CoordinateStep, Step
from gdmix_core.pipeline.run import Run

SPARK_STEPS = ("validate", "partition")


_WORK: Mapping[str, str] = {
    "initialize": "gdmix_core.effects.initialize:initialize",
    "summarize": "gdmix_core.effects.normalization:summarize",
    "evaluate": "gdmix_core.evaluation.evaluate:evaluate",
    "gate": "gdmix_core.evaluation.selection:gate",
    "select": "gdmix_core.evaluation.selection:select",
    "export": "gdmix_core.execution.export:export",
}


def execute(run: Run, step: Step, *, group: int | None = None) -> dict[str, Any]:
    """Runs a step that needs no Spark and returns a small JSON-able summary of its result.

    A step that is done already is not done again. group: for the training of a random effect, which of its groups of
    shards; for trials, the number of one trial of the round; None: all of them. Raises StepError when a step it
    reads is missing, or another process works on it.
    """
    with run_lock.step(run.root, step.id, group):
        return _carry_out(run, step, group)


def _carry_out(run: Run, step: Step, group: int | None) -> dict[str, Any]:
    # What does the work is imported when it is needed: a task of Airflow loads what its own step works with.
    if step.kind == "trials":
        from gdmix_core.search.trials import make_trials

        return make_trials(run, step, execute, only=group)
    if step.kind == "select" and run.plan.rounds:
        from gdmix_core.search.selection import select_trial

        return select_trial(run, step)
    if isinstance(step, CoordinateStep) and step.trains:
        from gdmix_core.effects.effect import effect_of
        from gdmix_core.training_context import TrainingContext

        run.require(step)
        coordinate = run.config.coordinates[step.coordinate]
        effect = effect_of(coordinate.kind)
        return (effect.use_initial if coordinate.locked else effect.train)(TrainingContext(run, step), group=group)
    work = _WORK.get(step.kind)
    if work is None:
        raise StepError(f"{step.id}: runs as a Spark application: {spark_application(step)}")
    if step.kind not in ("gate", "select"):  # which passes were made is for them to judge
        run.require(step)
    module, _, name = work.partition(":")
    function = getattr(importlib.import_module(module), name)
    result: dict[str, Any] = function(run, step)
    return result


def spark_application(step: Step) -> str:
    """Path of the step's spark-submit entry point; its only argument is `--run ROOT`.

    It lies beside gdmix_core, in a checkout and where the package is installed; by its name alone a folder of the
    user's own could be taken.
    """
    path = Path(__file__).resolve().parents[2] / "spark_jobs" / f"{step.kind}.py"
    if not path.exists():
        raise StepError(f"{path} is missing; install gdmix-airflow again")
    return str(path)
