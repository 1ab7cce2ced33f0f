"""Training a text network as the fixed effect, or taking over the initial one.

TensorFlow works in processes of its own, also when it is one: the step itself does not load it.
"""

from __future__ import annotations

import logging
from typing import Any

from gdmix_core import storage
from gdmix_core.pipeline.plan import Step
from gdmix_core.pipeline.run import SPLITS, Run
from gdmix_core.training_context import TrainingContext
from gdmix_core.workers import progress
from gdmix_core.workers.cores import core_count
from gdmix_core.workers.group import Event, WorkerGroup, train_together

log = logging.getLogger(__name__)


def train(context: TrainingContext) -> dict[str, Any]:
    """Train the network and score all rows; return the best metric, steps, and the curve.

    A step that was killed resumes from its checkpoint. Raises StepError as train_together does.
    """
    return context.once(lambda: _train(context), after=lambda _: context.checkpoint("").remove())


def _train(context: TrainingContext) -> dict[str, Any]:
    report = progress.reporter()

    def on_event(event: Event) -> None:
        report(event["steps"], event["total"], f"{context.id}: {event['told']}")

    settings = context.settings.text
    apart = settings.mode == "parameter_server"
    jobs = {"worker": settings.workers}
    if apart:
        jobs = {"chief": 1, "worker": settings.workers, "ps": settings.parameter_servers}
    group = WorkerGroup(
        context.id,
        "gdmix_core.text.training.worker",
        _arguments(context.run, context.id, max(1, context.cores // settings.workers)),
        jobs,
        settings.restarts,
        replaceable=("worker",) if apart else (),
        servers=apart,
    )
    result = train_together(group, on_event)
    log.info(
        "%s: best %s %s at step %s of %d, %.0f rows/s",
        context.id, result["metric"], result["best_value"], result["best_step"], result["steps"],
        result["rows_per_second"],
    )  # fmt: skip
    return result


def copy_initial(context: TrainingContext) -> dict[str, Any]:
    """Copy what initialize has laid out and computed for a locked network; return locked: True."""
    run, name = context.run, context.name
    # And what only a network that was trained here leaves.
    storage.remove(context.folder("model"))
    context.remove_score_parts()
    for split in SPLITS:
        if storage.exists(run.scores(0, name, split)):
            storage.copy_file(run.scores(0, name, split), context.score_part(split, 0))
    storage.copy_directory(run.initial_network(name), context.folder("model"))
    return {"locked": True}


def prepare_networks(run: Run, step: Step) -> dict[str, dict[str, Any]]:
    """Write what text.initial.network describes; return each coordinate's counts. Raises StepError."""
    arguments = _arguments(run, step.id, core_count(run.config))
    group = WorkerGroup(step.id, "gdmix_core.text.initial.worker", arguments, {"worker": 1}, restarts=0)
    return train_together(group, lambda event: None)


def _arguments(run: Run, step_id: str, threads: int) -> list[str]:
    return ["--run", run.root, "--step", step_id, "--threads", str(threads)]
