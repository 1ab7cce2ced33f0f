"""The primary metric on the rows that decide which weights are the best: those of validation, else of training."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gdmix_core.evaluation.evaluate import group_codes, labels
from gdmix_core.evaluation.selection import deciding_split
from gdmix_core.metrics.registry import parse_metric
from gdmix_core.text.training.group import TrainingGroup
from gdmix_core.training_context import TrainingContext


class MonitoredMetric:
    """Every worker scores its rows; the first one computes the metric of all and tells the others.

    rows: of the split
    """

    def __init__(self, context: TrainingContext, group: TrainingGroup) -> None:
        self._frame = frame = context.frame
        self.split = deciding_split(context.run)
        self.rows = frame.rows(self.split)
        self._metric = parse_metric(context.config.metrics[0])
        self._group = group
        if group.rank == 0:
            self._label = labels(frame, self.split)
            self._weight = frame.column(self.split, "weight")
            self._offset = frame.column(self.split, "offset")
            self._offset += context.other_scores(self.split).span(0, self.rows)
            column = self._metric.column
            self._groups = {} if column is None else {column: group_codes(frame, self.split, column)}

    @property
    def name(self) -> str:
        return self._metric.name

    def better(self, a: float | None, b: float | None) -> bool:
        return self._metric.better(a, b)

    def of(self, scores: NDArray[np.float32], own: NDArray[np.int64]) -> float | None:
        """Evaluate the scores of all workers.

        scores float32 [own rows] or [own rows, K]: of the rows `own` int64 of the split, which this worker holds.
        None where it is undefined, such as the AUC of a single class. Raises WorkerLostError.
        """
        whole = np.zeros((self.rows, *scores.shape[1:]), np.float64)
        whole[own] = scores
        if self._group.workers > 1:
            whole = self._group.sum(whole.ravel()).reshape(whole.shape)
        value = None
        if self._group.rank == 0:
            margin = whole + (self._offset[:, None] if whole.ndim == 2 else self._offset)
            value = self._metric.evaluate(self._label, margin, self._weight, self._groups).value
        # nan means undefined: it stays nan in a sum.
        told = self._group.sum(np.array([0.0 if self._group.rank else np.nan if value is None else value]))
        return None if np.isnan(told[0]) else float(told[0])
