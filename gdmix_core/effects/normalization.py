"""Features scaled for training: the statistics it needs, made once for all coordinates, and what follows from them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdmix_core.data.feature_summary import read_summary, summarize_bag, write_summary
from gdmix_core.data.frame import Frame
from gdmix_core.pipeline.once import once
from gdmix_core.pipeline.plan import Step, normalized
from gdmix_core.pipeline.run import Run
from gdmix_core.training_context import TrainingContext
from gdmix_core.workers.cores import core_count


def summarize(run: Run, step: Step) -> dict[str, Any]:
    """Write summary/<bag>.parquet for every bag that some coordinate has scaled; return rows and features of each."""
    return once(run, step, lambda: _summarize(run))


def _summarize(run: Run) -> dict[str, Any]:
    frame = Frame(run)
    keys = {key for name in normalized(run.config) if (key := frame.bag_of(name)) is not None}
    counts = {}
    for key in sorted(keys):
        summary = summarize_bag(frame, key, core_count(run.config))
        write_summary(run.summary(key), frame.feature_list(key), summary)
        counts[key] = {
            "features": len(summary.mean),
            "never_seen": int(np.sum(summary.nonzeros == 0)),
            "constant": int(np.sum(summary.variance == 0)),
        }
    return {"rows": frame.rows("training"), "bags": counts}


def scaling(context: TrainingContext) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (factor, shift), each float64 [features]: training sees x' = (x − shift) · factor.

    factor is 1 where the statistic it is made of is 0 (features never seen, constants) or not finite. shift is 0 but
    for standardization. Raises StepError when normalization is asked for and the step `summarize` has not been run.
    """
    settings, features, run = context.settings, context.features, context.run
    key = context.frame.bag_of(context.name)
    if key is None or settings.normalization == "none":
        return np.ones(features), np.zeros(features)
    run.result("summarize")
    summary = read_summary(run.whole(run.summary(key), "summarize"))
    if settings.normalization == "max_magnitude":
        size = np.maximum(np.abs(summary.min), np.abs(summary.max))
    else:
        size = np.sqrt(summary.variance)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        factor = 1.0 / size
    factor[~np.isfinite(factor) | (factor == 0.0)] = 1.0
    shift = summary.mean if settings.normalization == "standardization" else np.zeros(features)
    return factor, np.where(np.isfinite(shift), shift, 0.0)
