"""Carrying out one step of a plan. The command line, the Airflow operators and the worker processes all call this."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gdmix_core.errors import StepError
from gdmix_core.pipeline import run_lock
from gdmix_core.pipeline.plan import Step
from gdmix_core.pipeline.run import Run

SPARK_STEPS = ("validate", "partition")


def execute(run: Run, step: Step, *, group: int | None = None) -> dict[str, Any]:
    """Runs a step that needs no Spark and returns a small JSON-able summary of its result.

    A step that is done already is not done again. group: for train_random, which of the configuration's groups of
    shards; for trials, the number of one trial of the round; None: all of them. Raises StepError when a step it
    reads is missing, or another process works on it.
    """
    with run_lock.step(run.root, step.id, group):
        return _carry_out(run, step, group)


def _carry_out(run: Run, step: Step, group: int | None) -> dict[str, Any]:
    if step.kind == "gate":
        from gdmix_core.evaluation.selection import pass_pays

        return pass_pays(run, step)
    if step.kind == "trials":
        from gdmix_core.search.trials import make_trials

        return make_trials(run, step, execute, only=group)
    if step.kind == "select" and run.plan.rounds:
        from gdmix_core.search.selection import select_trial

        return select_trial(run, step)
    if step.kind == "select":
        from gdmix_core.evaluation.selection import select

        return select(run, step)
    if step.kind == "export":
        from gdmix_core.execution.export import export

        return export(run, step)
    if step.kind == "initialize":
        from gdmix_core.effects.initialize import initialize

        return initialize(run, step)
    run.require(step)
    if step.kind == "summarize":
        from gdmix_core.effects.normalization import summarize

        return summarize(run, step)
    if (
        step.kind in ("train_fixed", "train_text", "train_random")
        and run.config.coordinates[str(step.coordinate)].locked
    ):
        from gdmix_core.effects import locked

        return locked.take_over(run, step, group=group)
    if step.kind == "train_fixed":
        from gdmix_core.effects.linear import training

        return training.train(run, step)
    if step.kind == "train_text":
        from gdmix_core.effects.text import training

        return training.train(run, step)
    if step.kind == "train_external":
        from gdmix_core.effects.external import training

        return training.train(run, step)
    if step.kind == "train_python":
        from gdmix_core.effects.python import training

        return training.train(run, step)
    if step.kind == "train_random":
        from gdmix_core.effects.random import training

        return training.train(run, step, group=group)
    if step.kind == "evaluate":
        from gdmix_core.evaluation.evaluate import evaluate

        return evaluate(run, step)
    raise StepError(f"{step.id}: runs as a Spark application: {spark_application(step)}")


def spark_application(step: Step) -> str:
    """Path of the step's spark-submit entry point; its only argument is `--run ROOT`.

    It lies beside gdmix_core, in a checkout and where the package is installed; by its name alone a folder of the
    user's own could be taken.
    """
    path = Path(__file__).resolve().parents[1] / "spark_jobs" / f"{step.kind}.py"
    if not path.exists():
        raise StepError(f"{path} is missing; install gdmix-airflow again")
    return str(path)
