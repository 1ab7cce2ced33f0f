"""The initial model as it is: the scores it gives all rows, and a locked fixed effect, which is that model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gdmix_core import storage
from gdmix_core.effects.linear.score_frame import score_frame
from gdmix_core.models.initial.written import initial_table
from gdmix_core.models.native import write_model
from gdmix_core.models.table import CoefficientTable
from gdmix_core.pipeline.run import SPLITS
from gdmix_core.training_context import TrainingContext


def use_initial(context: TrainingContext) -> dict[str, Any]:
    """Write the model and the scores of all rows; return counts, with locked: True."""
    return context.once(lambda: _copy(context))


def _copy(context: TrainingContext) -> dict[str, Any]:
    context.remove_margin_variance()
    model = initial_table(context.run, context.name, 0, pa.string())
    context.remove_score_parts()
    for split in SPLITS:
        if context.frame.rows(split):
            storage.write_array(context.score_part(split, 0), _scores(context, model, split))
    write_model(context.model(0), model)
    return {"locked": True, "coefficients": len(model.features)}


def initial_scores(context: TrainingContext, split: str) -> NDArray[np.float32] | None:
    """Return float32 [rows]: what the initial model gives the rows of a split; None without one."""
    model = context.initial_model(0)
    return None if model is None else _scores(context, model, split)


def _scores(context: TrainingContext, model: CoefficientTable, split: str) -> NDArray[np.float32]:
    """Features beyond the frame's list meet no row."""
    frame, key = context.frame, context.frame.bag_of(context.name)
    features = max(context.features, int(model.features.max(initial=-1)) + 1)
    w = np.zeros(features + 1)
    w[model.features + 1] = model.means
    return score_frame(frame, split, key, w, context.settings.intercept, context.cores)
