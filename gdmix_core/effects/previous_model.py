"""Where training starts: from the coordinate's model of the pass before, or, in a trial's first pass, from another
trial's. It saves iterations; the result is the same to the solver's tolerance, so no step's key depends on it."""

from __future__ import annotations

from gdmix_core import storage
from gdmix_core.models.native import read_model
from gdmix_core.models.table import CoefficientTable
from gdmix_core.pipeline.plan import CoordinateStep, train_id
from gdmix_core.pipeline.run import Run


def previous_model(run: Run, step: CoordinateStep, shard: int) -> CoefficientTable | None:
    """The model that training of one shard (a fixed effect has shard 0 alone) starts from; None: from zeros.

    It may have other entities and other features of each than the step will train.
    """
    if step.pass_number > 1:
        before = train_id(step.pass_number - 1, step.coordinate)
        return read_model(run.whole(run.model(step.pass_number - 1, step.coordinate, shard), before))
    start = None if run.trial is None else run.trial["start"]
    if start is None:
        return None
    other = Run.open(run.trial_root(start["trial"]))
    path = other.model(start["pass"], step.coordinate, shard)
    if not storage.exists(path):
        return None
    return read_model(other.whole(path, train_id(start["pass"], step.coordinate)))
