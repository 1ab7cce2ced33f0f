"""A locked text network: the initial one's files, and its scores, where a trained one leaves its own."""

from __future__ import annotations

from typing import Any

from gdmix_core import storage
from gdmix_core.data.scores import remove_score_parts
from gdmix_core.pipeline.once import once
from gdmix_core.pipeline.plan import CoordinateStep
from gdmix_core.pipeline.run import SPLITS, Run


def use_initial(run: Run, step: CoordinateStep) -> dict[str, Any]:
    """Copies what initialize has laid out and computed; returns locked: True."""
    return once(run, step, lambda: _copy(run, step))


def _copy(run: Run, step: CoordinateStep) -> dict[str, Any]:
    number, name = step.pass_number, step.coordinate
    # And what only a network that was trained here leaves.
    storage.remove(run.coordinate(number, name, "model"))
    remove_score_parts(run, step)
    for split in SPLITS:
        if storage.exists(run.scores(0, name, split)):
            storage.copy_file(run.scores(0, name, split), run.score_part(number, name, split, 0))
    storage.copy_directory(run.initial_network(name), run.coordinate(number, name, "model"))
    return {"locked": True}
