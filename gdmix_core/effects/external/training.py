"""An external coordinate: the scores that validate joined to the rows, in the place of those of a trained model."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from gdmix_core import storage
from gdmix_core.pipeline.run import SPLITS
from gdmix_core.training_context import TrainingContext
from gdmix_core.workers import progress

log = logging.getLogger(__name__)


def copy_scores(context: TrainingContext) -> dict[str, Any]:
    """Copy the frame's scores of the coordinate, block by block; return {external: True, rows: {split: rows}}."""
    frame = context.frame
    column = frame.score_column(context.name)
    report = progress.reporter()
    context.remove_score_parts()
    for split in SPLITS:
        blocks = len(frame.blocks(split))
        for part, (_, table) in enumerate(frame.read(split, [column])):
            scores = table[column].to_numpy().astype(np.float32, copy=False)
            storage.write_array(context.score_part(split, part), scores)
            report(part + 1, blocks, context.id)
    rows = {split: frame.rows(split) for split in SPLITS}
    log.info("%s: %s external scores", context.id, rows)
    return {"external": True, "rows": rows}
