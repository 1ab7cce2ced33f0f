"""The scores of a trained network for every row of the frame, in row order."""

from __future__ import annotations

import numpy as np

from gdmix_core import storage
from gdmix_core.data.frame import share_of_rows
from gdmix_core.pipeline.run import SPLITS
from gdmix_core.text.network_rows import RowReader
from gdmix_core.text.training.row_scores import RowScores
from gdmix_core.training_context import TrainingContext
from gdmix_core.workers.prefetch import prefetch


def write_scores(context: TrainingContext, reader: RowReader, scorer: RowScores, rank: int, workers: int) -> None:
    """Scores this worker's share, consecutive rows of each split, as the part of its rank.

    In memory: the scores (4 bytes a row and class), and of the rows three pieces of network_rows.ROWS_AT_A_TIME: one
    scored, one read ahead, one being read.
    """
    for split in SPLITS:
        rows = reader.frame.rows(split)
        if rows == 0:
            continue
        start, stop = share_of_rows(rows, rank, workers)
        parts = [scorer.of(piece) for piece in prefetch(reader.stream(split, start, stop), depth=1)]
        scores = np.concatenate([scorer.none(), *parts])
        storage.write_array(context.score_part(split, rank), scores)
