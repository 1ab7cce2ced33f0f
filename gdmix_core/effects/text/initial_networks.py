"""Earlier text networks made this run's own, in a process apart: the step itself loads no TensorFlow."""

from __future__ import annotations

from typing import Any

from gdmix_core.pipeline.plan import Step
from gdmix_core.pipeline.run import Run
from gdmix_core.workers.cores import core_count
from gdmix_core.workers.group import WorkerGroup, train_together


def prepare_networks(run: Run, step: Step) -> dict[str, dict[str, Any]]:
    """Writes what text.initial.network describes; returns each coordinate's counts. Raises StepError."""
    arguments = ["--run", run.root, "--step", step.id, "--threads", str(core_count(run.config))]
    group = WorkerGroup(step.id, "gdmix_core.text.initial.worker", arguments, {"worker": 1}, restarts=0)
    return train_together(group, lambda event: None)
