"""The files that a training leaves beside its marker: the scores of all rows, and the model, which is exported."""

from __future__ import annotations

import numpy as np

from gdmix_core import storage
from gdmix_core.data.frame import share_of_rows
from gdmix_core.models.network_files import INPUTS, SAVED_MODEL, WEIGHTS
from gdmix_core.pipeline.run import SPLITS
from gdmix_core.text.network.network import TextNetwork
from gdmix_core.text.network_rows import RowReader
from gdmix_core.text.serving.saved_model import write_saved_model
from gdmix_core.text.training.row_scores import RowScores
from gdmix_core.training_context import TrainingContext
from gdmix_core.workers.prefetch import prefetch


def write_scores(context: TrainingContext, reader: RowReader, scorer: RowScores, rank: int, workers: int) -> None:
    """Score this worker's share, consecutive rows of each split, as the part of its rank.

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


def write_model(context: TrainingContext, network: TextNetwork) -> None:
    """Write weights and inputs, from which the next pass or run starts, and saved_model/."""
    network.weights.save(context.model_file(WEIGHTS))
    network.inputs.write(context.model_file(INPUTS))
    write_saved_model(network, context.model_file(SAVED_MODEL), context.config.task)
