"""Training a text network as the fixed effect: in worker processes of its own, also when it is one."""

from __future__ import annotations

import logging
from typing import Any

from gdmix_core.config.text import TextModel
from gdmix_core.training_context import TrainingContext
from gdmix_core.workers import progress
from gdmix_core.workers.group import Event, WorkerGroup, train_together

log = logging.getLogger(__name__)


def train(context: TrainingContext) -> dict[str, Any]:
    """Trains the network and scores all rows; returns the best metric, steps, and the curve.

    A step that was killed goes on from its checkpoint. Raises StepError as train_together does.
    """
    return context.once(lambda: _train(context), after=lambda _: context.checkpoint("").remove())


def _train(context: TrainingContext) -> dict[str, Any]:
    report = progress.reporter()

    def on_event(event: Event) -> None:
        report(event["steps"], event["total"], f"{context.id}: {event['told']}")

    result = train_together(_group(context, context.settings.text), on_event)
    log.info(
        "%s: best %s %s at step %s of %d, %.0f rows/s",
        context.id, result["metric"], result["best_value"], result["best_step"], result["steps"],
        result["rows_per_second"],
    )  # fmt: skip
    return result


def _group(context: TrainingContext, settings: TextModel) -> WorkerGroup:
    apart = settings.mode == "parameter_server"
    jobs = {"worker": settings.workers}
    if apart:
        jobs = {"chief": 1, "worker": settings.workers, "ps": settings.parameter_servers}
    threads = max(1, context.cores // settings.workers)
    return WorkerGroup(
        context.id,
        "gdmix_core.text.training.worker",
        ["--run", context.run.root, "--step", context.id, "--threads", str(threads)],
        jobs,
        settings.restarts,
        replaceable=("worker",) if apart else (),
        servers=apart,
    )
