"""The initial model as it is: the scores it gives all rows, and a locked fixed effect, which is that model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gdmix_core import storage
from gdmix_core.data.frame import Frame
from gdmix_core.data.ragged import Bag
from gdmix_core.data.scores import remove_leverage, remove_score_parts
from gdmix_core.models.initial.written import initial_table, read_initial
from gdmix_core.models.native import write_model
from gdmix_core.models.table import CoefficientTable
from gdmix_core.pipeline.once import once
from gdmix_core.pipeline.plan import CoordinateStep
from gdmix_core.pipeline.run import SPLITS, Run
from gdmix_core.solvers.large.objective import score_bag


def use_initial(run: Run, step: CoordinateStep) -> dict[str, Any]:
    """Writes the model and the scores of all rows; returns counts, with locked: True."""
    return once(run, step, lambda: _copy(run, step))


def _copy(run: Run, step: CoordinateStep) -> dict[str, Any]:
    number, name = step.pass_number, step.coordinate
    remove_leverage(run, step)
    frame = Frame(run)
    model = initial_table(run, name, 0, pa.string())
    remove_score_parts(run, step)
    for split in SPLITS:
        if frame.rows(split):
            storage.write_array(run.score_part(number, name, split, 0), _scores(run, frame, name, model, split))
    write_model(run.model(number, name, 0), model)
    return {"locked": True, "coefficients": len(model.features)}


def initial_scores(run: Run, frame: Frame, name: str, split: str) -> NDArray[np.float32] | None:
    """float32 [rows]: what the initial model gives the rows of a split; None without one."""
    model = read_initial(run, name, 0)
    return None if model is None else _scores(run, frame, name, model, split)


def _scores(run: Run, frame: Frame, name: str, model: CoefficientTable, split: str) -> NDArray[np.float32]:
    """Features beyond the frame's list meet no row."""
    key = frame.bag_of(name)
    features = max(frame.features_of(name), int(model.features.max(initial=-1)) + 1)
    w = np.zeros(features + 1)
    w[model.features + 1] = model.means
    parts = [np.empty(0, np.float32)]
    for _, first, rows in frame.blocks(split):
        bag = frame.bag(split, key, first, first + rows) if key else Bag.empty(rows)
        parts.append(score_bag(bag, w, run.config.coordinates[name].intercept))
    return np.concatenate(parts)
