"""A locked text network: the initial one's files, and its scores, where a trained one leaves its own."""

from __future__ import annotations

from typing import Any

from gdmix_core import storage
from gdmix_core.pipeline.run import SPLITS
from gdmix_core.training_context import TrainingContext


def use_initial(context: TrainingContext) -> dict[str, Any]:
    """Copies what initialize has laid out and computed; returns locked: True."""
    return context.once(lambda: _copy(context))


def _copy(context: TrainingContext) -> dict[str, Any]:
    run, name = context.run, context.name
    # And what only a network that was trained here leaves.
    storage.remove(context.folder("model"))
    context.remove_score_parts()
    for split in SPLITS:
        if storage.exists(run.scores(0, name, split)):
            storage.copy_file(run.scores(0, name, split), context.score_part(split, 0))
    storage.copy_directory(run.initial_network(name), context.folder("model"))
    return {"locked": True}
