"""An external coordinate: the scores that validate joined to the rows, in the place of those of a trained model."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from gdmix_core import storage
from gdmix_core.data.frame import Frame
from gdmix_core.data.scores import remove_score_parts
from gdmix_core.pipeline.once import once
from gdmix_core.pipeline.plan import CoordinateStep
from gdmix_core.pipeline.run import SPLITS, Run
from gdmix_core.workers import progress

log = logging.getLogger(__name__)


def train(run: Run, step: CoordinateStep) -> dict[str, Any]:
    """Copies the frame's scores of the coordinate, block by block; returns {external: True, rows: {split: rows}}."""
    return once(run, step, lambda: _copy(run, step))


def _copy(run: Run, step: CoordinateStep) -> dict[str, Any]:
    number, name = step.pass_number, step.coordinate
    frame = Frame(run)
    column = frame.score_column(name)
    report = progress.reporter()
    remove_score_parts(run, step)
    for split in SPLITS:
        blocks = len(frame.blocks(split))
        for part, (_, table) in enumerate(frame.read(split, [column])):
            scores = table[column].to_numpy().astype(np.float32, copy=False)
            storage.write_array(run.score_part(number, name, split, part), scores)
            report(part + 1, blocks, step.id)
    rows = {split: frame.rows(split) for split in SPLITS}
    log.info("%s: %s external scores", step.id, rows)
    return {"external": True, "rows": rows}
