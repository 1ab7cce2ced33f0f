"""The scores of a trained network for every row of the frame, in row order."""

from __future__ import annotations

import numpy as np

from gdmix_core import storage
from gdmix_core.plan import Step
from gdmix_core.run import SPLITS, Run
from gdmix_core.text.ahead import ahead
from gdmix_core.text.network_rows import RowReader
from gdmix_core.text.row_scores import RowScores


def write_scores(run: Run, step: Step, reader: RowReader, scorer: RowScores, rank: int, workers: int) -> int:
    """Scores this worker's share, consecutive rows of each split, as the part of its rank. Returns how many.

    In memory: the scores (4 bytes a row and class), and of the rows three pieces of network_rows.ROWS_AT_A_TIME: one
    scored, one read ahead, one being read.
    """
    assert step.pass_number is not None
    assert step.coordinate is not None
    total = 0
    for split in SPLITS:
        rows = reader.frame.rows(split)
        start, stop = rows * rank // workers, rows * (rank + 1) // workers
        if rows == 0:
            continue
        parts = [scorer.of(piece) for piece in ahead(reader.stream(split, start, stop), depth=1)]
        scores = np.concatenate([scorer.none(), *parts])
        storage.write_array(run.score_part(step.pass_number, step.coordinate, split, rank), scores)
        total += len(scores)
    return total
