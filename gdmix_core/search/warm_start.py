"""Where training starts: from the coordinate's model of the pass before, or, in a trial's first pass, from another
trial's. It saves iterations; the result is the same to the solver's tolerance, so no step's key depends on it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from gdmix_core import storage
from gdmix_core.config import Config
from gdmix_core.models.native import read_model
from gdmix_core.models.table import CoefficientTable
from gdmix_core.plan import Step, train_id
from gdmix_core.run import Run
from gdmix_core.search.parameters import Candidates, Values, on_a_log_scale, searched
from gdmix_core.tune_config import Range


def earlier_model(run: Run, step: Step, shard: int) -> CoefficientTable | None:
    """The model that training of one shard (a fixed effect has shard 0 alone) starts from; None: from zeros.

    It may have other entities and other features of each than the step will train.
    """
    assert step.pass_number is not None
    assert step.coordinate is not None
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


def nearest_trial(config: Config, values: Values, results: Sequence[Mapping[str, Any]]) -> dict[str, int] | None:
    """{trial, pass} of the finished trial whose parameters are nearest, the first of equals; None when there is none.

    The square root of a sum of squares: of decades where a parameter is searched on a logarithmic scale, else of
    differences relative to the width of its candidates.
    """
    if not results:
        return None
    parameters = searched(config)

    def distance(result: Mapping[str, Any]) -> float:
        differences = [
            _position(path, candidates, values[path]) - _position(path, candidates, result["parameters"][path])
            for path, candidates in parameters.items()
        ]
        # Rounded, so that in a grid equal steps to either side are equal.
        return round(math.fsum(difference**2 for difference in differences), 9)

    nearest = min(results, key=lambda result: (distance(result), result["trial"]))
    return {"trial": nearest["trial"], "pass": nearest["pass"]}


def _position(path: str, candidates: Candidates, value: float) -> float:
    if on_a_log_scale(path, candidates):
        return math.log10(value)
    ends = [candidates.low, candidates.high] if isinstance(candidates, Range) else candidates
    low, high = min(ends), max(ends)
    return (value - low) / (high - low) if low < high else 0.0
