"""An external coordinate: the scores that validate joined to the rows, in the place of those of a trained model."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from gdmix_core import storage
from gdmix_core.data.frame import Frame
from gdmix_core.data.scores import remove_score_parts
from gdmix_core.pipeline.plan import Step
from gdmix_core.pipeline.run import SPLITS, Run
from gdmix_core.workers import progress

log = logging.getLogger("gdmix_core.external")


def train(run: Run, step: Step) -> dict[str, Any]:
    """Copies the frame's scores of the coordinate, block by block; returns {external: True, rows: {split: rows}}."""
    assert step.pass_number is not None
    assert step.coordinate is not None
    if run.is_done(step):
        log.info("%s is done already", step.id)
        return run.result(step.id)
    number, name = step.pass_number, step.coordinate
    run.drop(step)
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
    return run.commit(step, {"external": True, "rows": rows})
