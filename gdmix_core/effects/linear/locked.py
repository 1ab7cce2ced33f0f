"""The initial model as it is: the scores it gives all rows, and a locked fixed effect, which is that model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gdmix_core import storage
from gdmix_core.data.frame import Frame
from gdmix_core.data.ragged import Bag
from gdmix_core.models.initial.written import initial_table, read_initial
from gdmix_core.models.native import write_model
from gdmix_core.models.table import CoefficientTable
from gdmix_core.pipeline.run import SPLITS, Run
from gdmix_core.solvers.large.objective import score_bag
from gdmix_core.training_context import TrainingContext


def use_initial(context: TrainingContext) -> dict[str, Any]:
    """Writes the model and the scores of all rows; returns counts, with locked: True."""
    return context.once(lambda: _copy(context))


def _copy(context: TrainingContext) -> dict[str, Any]:
    context.remove_margin_variance()
    frame, name, intercept = context.frame, context.name, context.settings.intercept
    model = initial_table(context.run, name, 0, pa.string())
    context.remove_score_parts()
    for split in SPLITS:
        if frame.rows(split):
            storage.write_array(context.score_part(split, 0), _scores(frame, name, model, split, intercept))
    write_model(context.model(0), model)
    return {"locked": True, "coefficients": len(model.features)}


def initial_scores(run: Run, frame: Frame, name: str, split: str) -> NDArray[np.float32] | None:
    """float32 [rows]: what the initial model gives the rows of a split; None without one."""
    model = read_initial(run, name, 0)
    return None if model is None else _scores(frame, name, model, split, run.config.coordinates[name].intercept)


def _scores(frame: Frame, name: str, model: CoefficientTable, split: str, intercept: bool) -> NDArray[np.float32]:
    """Features beyond the frame's list meet no row."""
    key = frame.bag_of(name)
    features = max(frame.features_of(name), int(model.features.max(initial=-1)) + 1)
    w = np.zeros(features + 1)
    w[model.features + 1] = model.means
    parts = [np.empty(0, np.float32)]
    for _, first, rows in frame.blocks(split):
        bag = frame.bag(split, key, first, first + rows) if key else Bag.empty(rows)
        parts.append(score_bag(bag, w, intercept))
    return np.concatenate(parts)
