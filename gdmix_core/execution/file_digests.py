"""Files beside the input that a training step's result depends on: what they hold is part of the step's key.

Digests of them are taken once, when a run starts, as of the input; so every process of the run has the same keys, and
sees a file of hundreds of megabytes read once. Whole contents, not sizes and times of change, which a copy changes.
"""

from __future__ import annotations

from gdmix_core.effects.effect import effect_of
from gdmix_core.pipeline import manifests
from gdmix_core.pipeline.run import Run


def record(run: Run) -> None:
    """Take the digests of these files, and leave them in the run. They must be there: preflight.check."""
    found: dict[str, dict[str, str]] = {}
    for name, coordinate in run.config.coordinates.items():
        if not coordinate.locked and (files := effect_of(coordinate.kind).files(name, coordinate)):
            found[name] = {what: manifests.digest(path) for what, path in files.items()}
    run.record_digests(found)
