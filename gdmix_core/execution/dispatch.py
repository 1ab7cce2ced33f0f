"""Carrying out one step of a plan. The command line, the Airflow operators and the worker processes all call this."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gdmix_core.errors import StepError
from gdmix_core.pipeline import run_lock
from gdmix_core.pipeline.plan import CoordinateStep, Step
from gdmix_core.pipeline.run import Run

DATA_STEPS: Mapping[str, str] = {
    "validate": "gdmix_core.data.ingest.validate:validate",
    "partition": "gdmix_core.data.partition:partition",
}
"""The steps that a data engine carries out: the embedded one here, or Spark by spark_application."""

_WORK: Mapping[str, str] = {
    "initialize": "gdmix_core.effects.initialize:initialize",
    "summarize": "gdmix_core.effects.normalization:summarize",
    "evaluate": "gdmix_core.evaluation.evaluate:evaluate",
    "gate": "gdmix_core.evaluation.selection:gate",
    "accelerate": "gdmix_core.evaluation.acceleration:accelerate",
    "select": "gdmix_core.evaluation.selection:select",
    "export": "gdmix_core.execution.export:export",
}


def execute(run: Run, step: Step, *, group: int | None = None) -> dict[str, Any]:
    """Runs a step in this process and returns a small JSON-able summary of its result.

    The data steps run with the embedded engine; whoever wants Spark submits their spark_application instead. A step
    that is done already is not done again.

    group: for the training of a random effect, which of its groups of shards; for trials, the number of one trial of
    the round; None: all of them. Raises StepError when a step it reads is missing, or another process works on it.
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

        coordinate = run.config.coordinates[step.coordinate]
        effect = effect_of(coordinate.kind)
        return (effect.use_initial if coordinate.locked else effect.train)(TrainingContext(run, step), group=group)
    if step.kind in DATA_STEPS:
        from gdmix_core.data.engines.embedded import embedded_engine

        return _named(DATA_STEPS[step.kind])(run, step, embedded_engine(run, step))
    return _named(_WORK[step.kind])(run, step)


def _named(work: str) -> Callable[..., dict[str, Any]]:
    module, _, name = work.partition(":")
    function: Callable[..., dict[str, Any]] = getattr(importlib.import_module(module), name)
    return function


def spark_application(step: Step) -> str:
    """Path of the step's spark-submit entry point; its only argument is `--run ROOT`.

    It lies beside gdmix_core, in a checkout and where the package is installed; by its name alone a folder of the
    user's own could be taken.
    """
    path = Path(__file__).resolve().parents[2] / "spark_jobs" / f"{step.kind}.py"
    if not path.exists():
        raise StepError(f"{path} is missing; install gdmix-airflow again")
    return str(path)
