"""A fixed effect trained by several processes of this machine."""

from __future__ import annotations

from typing import Any

from gdmix_core import progress
from gdmix_core.effects.cores import core_count
from gdmix_core.effects.fixed import settings_of
from gdmix_core.effects.worker_group import Event, WorkerGroup, train_together
from gdmix_core.plan import Step
from gdmix_core.run import Run


def train_with_workers(run: Run, step: Step) -> dict[str, Any]:
    """Returns the outcome of `fit`. Raises StepError as train_together does."""
    effect = settings_of(run, step)
    report = progress.reporter()

    def on_event(event: Event) -> None:
        report(event["iteration"], effect.max_iterations, f"{step.id}: objective {event['objective']:.6g}")

    threads = max(1, core_count(run.config) // effect.workers)
    group = WorkerGroup(
        step.id,
        "gdmix_core.effects.fixed_worker",
        ["--run", run.root, "--step", step.id, "--threads", str(threads)],
        {"worker": effect.workers},
        effect.restarts,
        # Every worker does the optimiser's vector arithmetic; with one thread all get the same bits.
        environment={"OPENBLAS_NUM_THREADS": "1"},
    )
    return train_together(group, on_event)
