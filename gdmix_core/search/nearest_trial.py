"""Which trial another one starts from: the finished one whose parameters are nearest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from gdmix_core.config.pipeline import Config
from gdmix_core.config.search_space import Candidates, Values, on_a_log_scale, searched
from gdmix_core.config.tune import Range


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
