"""Scores of rows by a network in memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from gdmix_core.text.network.network import TextNetwork
from gdmix_core.text.network_rows import Batch, NetworkRows
from gdmix_core.text.training.train_step import as_tensors
from gdmix_core.workers.prefetch import prefetch

_BATCH = 2048


class RowScores:
    def __init__(self, network: TextNetwork) -> None:
        self._outputs = network.inputs.outputs
        self._function = tf.function(
            lambda batch: network(batch, training=False), input_signature=[network.batch_spec()], autograph=False
        )

    def of(self, rows: NetworkRows) -> NDArray[np.float32]:
        """Return float32 [n], or of classes [n, K], in the order of the rows, without their offsets.

        Rows with the same texts are scored together, so that a text is encoded hardly more than once.
        """
        scores = self.none(len(rows))
        for picked, batch in prefetch(_batches(rows)):
            scores[picked] = self._function(as_tensors(batch)).numpy()
        return scores

    def none(self, rows: int = 0) -> NDArray[np.float32]:
        """Return zeros of the shape that the scores of so many rows have."""
        return np.zeros((rows, self._outputs) if self._outputs > 1 else rows, np.float32)


def _batches(rows: NetworkRows) -> Iterator[tuple[NDArray[np.int64], Batch]]:
    order = rows.order_by_texts()
    for start in range(0, len(rows), _BATCH):
        picked = order[start : start + _BATCH]
        yield picked, rows.batch(picked)
