"""Training a text network as the fixed effect: in worker processes of its own, also when it is one."""

from __future__ import annotations

import logging
from typing import Any

from gdmix_core.config.text import TextModel
from gdmix_core.pipeline.once import once
from gdmix_core.pipeline.plan import CoordinateStep
from gdmix_core.pipeline.run import Run
from gdmix_core.workers import progress
from gdmix_core.workers.checkpoint import StepCheckpoint
from gdmix_core.workers.cores import core_count
from gdmix_core.workers.group import Event, WorkerGroup, train_together

log = logging.getLogger(__name__)


def train(run: Run, step: CoordinateStep) -> dict[str, Any]:
    """Trains the network and scores all rows; returns the best metric, steps, and the curve.

    A step that was killed goes on from its checkpoint. Raises StepError as train_together does.
    """
    return once(run, step, lambda: _train(run, step), after=lambda _: StepCheckpoint(run, step, "").remove())


def _train(run: Run, step: CoordinateStep) -> dict[str, Any]:
    report = progress.reporter()

    def on_event(event: Event) -> None:
        report(event["steps"], event["total"], f"{step.id}: {event['told']}")

    result = train_together(_group(run, step, run.config.coordinates[step.coordinate].text), on_event)
    log.info(
        "%s: best %s %s at step %s of %d, %.0f rows/s",
        step.id, result["metric"], result["best_value"], result["best_step"], result["steps"],
        result["rows_per_second"],
    )  # fmt: skip
    return result


def _group(run: Run, step: CoordinateStep, settings: TextModel) -> WorkerGroup:
    apart = settings.mode == "parameter_server"
    jobs = {"worker": settings.workers}
    if apart:
        jobs = {"chief": 1, "worker": settings.workers, "ps": settings.parameter_servers}
    threads = max(1, core_count(run.config) // settings.workers)
    return WorkerGroup(
        step.id,
        "gdmix_core.text.training.worker",
        ["--run", run.root, "--step", step.id, "--threads", str(threads)],
        jobs,
        settings.restarts,
        replaceable=("worker",) if apart else (),
        servers=apart,
    )
