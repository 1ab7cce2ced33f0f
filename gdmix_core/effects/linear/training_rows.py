"""The rows of the frame that one worker of a fixed effect trains on."""

from __future__ import annotations

import logging

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gdmix_core.config.pipeline import Task
from gdmix_core.data import bags
from gdmix_core.data.frame import share_of_rows
from gdmix_core.data.mapped_arrays import Empty, MappedArrays
from gdmix_core.data.ragged import Bag
from gdmix_core.effects.linear.down_sampling import chosen_rows, corrected_weight
from gdmix_core.effects.linear.score_frame import score_frame
from gdmix_core.solvers.large.objective import GlobalObjective, score_bag
from gdmix_core.solvers.losses import LOSS_OF_TASK
from gdmix_core.training_context import TrainingContext
from gdmix_core.workers.memory import memory_bound, spill_folder

log = logging.getLogger(__name__)

_BYTES_PER_ROW = 5 * 8  # label, weight, offset, the bag's own offset, and the curvature of the loss
_AT_A_TIME = 1 << 20


class TrainingRows:
    """Worker `rank`'s even share of consecutive rows; none where there are fewer rows than workers.

    label, weight, offset: float64 [n], the offset with the scores of all other coordinates
    bag: the rows' features
    Under down-sampling those of the chosen rows only. What is more than engine.local.memory is mapped from files.
    """

    def __init__(self, context: TrainingContext, rank: int, workers: int, threads: int) -> None:
        self.settings = context.settings
        assert self.settings.fixed_effect is not None
        self._loss = LOSS_OF_TASK[context.config.task]
        self.rank, self.workers, self.threads = rank, workers, threads
        self.frame = context.frame
        self.key = self.frame.bag_of(context.name)
        self.features = context.features
        start, stop = self.span("training")
        self._empty = empty = self._maker_of_arrays(context, start, stop)
        self.label, self.weight, self.offset = self.frame.numbers(
            "training", ["label", "weight", "offset"], start, stop, threads, empty
        )
        scores = context.other_scores("training")
        for first in range(0, stop - start, _AT_A_TIME):
            last = min(first + _AT_A_TIME, stop - start)
            self.offset[first:last] += scores.span(start + first, start + last)
        if self.key is None:
            self.bag = Bag.empty(stop - start)
        else:
            self.bag = self.frame.bag("training", self.key, start, stop, threads, empty)
        self._share = self.settings.linear.downsampling
        if self._share < 1.0:
            self._down_sample(context.config.task, start, stop)
        self.total_weight = float(np.sum(self.weight))
        self._context = context

    def span(self, split: str) -> tuple[int, int]:
        """Return (first row, row after the last one) of this worker's share."""
        return share_of_rows(self.frame.rows(split), self.rank, self.workers)

    def _maker_of_arrays(self, context: TrainingContext, start: int, stop: int) -> Empty:
        size = (stop - start) * _BYTES_PER_ROW
        if self.key is not None:
            entry = np.dtype(np.int32).itemsize + self.frame.value_type(self.key).itemsize
            size += self.frame.entries("training", self.key, start, stop) * entry
        if size <= memory_bound(context.config) // self.workers:
            return np.empty
        folder = spill_folder(context.run)
        log.info(
            "%s: %.3g GB of rows, more than engine.local.memory allows: every iteration reads them from %s",
            context.id, size / 1e9, folder,
        )  # fmt: skip
        return MappedArrays(folder).empty

    def scores(self, split: str, w: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return float32 [n]: the scores of this worker's rows of a split, all of them."""
        intercept = self.settings.intercept
        if split == "training" and self._share == 1.0:
            return score_bag(self.bag, w, intercept, self.threads)
        return score_frame(self.frame, split, self.key, w, intercept, self.threads, *self.span(split))

    def residual_dof(self) -> float:
        """Return rows less the effective coefficients that other coordinates spend on them, as far as known."""
        start, stop = self.span("training")
        variance = self._context.other_margin_variance()
        spent = 0.0
        for first, table in self.frame.read("training", ["weight"], start, stop):
            spent += float(table["weight"].to_numpy() @ variance.span(first, first + len(table)))
        # Rows are chosen by a hash, so that those left out had the average share of what is spent on all.
        share = len(self.label) / max(1, stop - start)
        return len(self.label) - share * spent

    def seen(self) -> NDArray[np.float64]:
        """Return float64 [features]: in how many of the rows each feature is."""
        seen = np.zeros(self.features, np.int64)
        for first in range(0, len(self.bag.indices), _AT_A_TIME):
            entries = slice(first, first + _AT_A_TIME)
            seen += np.bincount(self.bag.indices[entries][self.bag.values[entries] != 0], minlength=self.features)
        return seen.astype(np.float64)

    def objective(self) -> GlobalObjective:
        return GlobalObjective(
            self._loss, self.bag, self.features, self.label, self.weight, self.offset,
            intercept=self.settings.intercept, threads=self.threads, empty=self._empty,
        )  # fmt: skip

    def _down_sample(self, task: Task, start: int, stop: int) -> None:
        parts = [
            chunk for _, table in self.frame.read("training", ["uid"], start, stop) for chunk in table["uid"].chunks
        ]
        uid = pa.concat_arrays([pa.array([], self.frame.id_type("uid")), *parts])
        rows = np.flatnonzero(chosen_rows(uid, self.label, task, self._share))
        self.bag = bags.take(self.bag, rows, self._empty)
        self.label, self.offset = self.label[rows], self.offset[rows]
        self.weight = corrected_weight(self.weight[rows], self.label, task, self._share)
