"""The rows of the frame that one worker of a fixed effect trains on."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gdmix_core.config.pipeline import Task
from gdmix_core.data import bags
from gdmix_core.data.frame import share_of_rows
from gdmix_core.data.ragged import Bag
from gdmix_core.effects.linear.down_sampling import chosen_rows, corrected_weight
from gdmix_core.solvers.large.objective import GlobalObjective
from gdmix_core.solvers.losses import LOSS_OF_TASK
from gdmix_core.training_context import TrainingContext


class TrainingRows:
    """Worker `rank`'s even share of consecutive rows; none where there are fewer rows than workers.

    label, weight, offset: float64 [n], the offset with the scores of all other coordinates
    bag: the rows' features
    Under down-sampling those of the chosen rows only.
    """

    def __init__(self, context: TrainingContext, rank: int, workers: int) -> None:
        self.settings = context.settings
        assert self.settings.fixed_effect is not None
        self._loss = LOSS_OF_TASK[context.config.task]
        self.rank, self.workers = rank, workers
        self.frame = context.frame
        self._key = self.frame.bag_of(context.name)
        self.features = context.features
        start, stop = self.span("training")
        self.label = self.frame.column("training", "label", start, stop)
        self.weight = self.frame.column("training", "weight", start, stop)
        self.offset = self.frame.column("training", "offset", start, stop)
        self.offset += context.other_scores("training").span(start, stop)
        self.bag = self.bag_of("training")
        self._share = self.settings.linear.downsampling
        if self._share < 1.0:
            self._down_sample(context.config.task, start, stop)
        self.total_weight = float(np.sum(self.weight))
        self._context = context

    def span(self, split: str) -> tuple[int, int]:
        """Return (first row, row after the last one) of this worker's share."""
        return share_of_rows(self.frame.rows(split), self.rank, self.workers)

    def bag_of(self, split: str) -> Bag:
        """Return the features of this worker's rows of a split, all of them."""
        start, stop = self.span(split)
        if self._key is None:
            return Bag.empty(stop - start)
        return self.frame.bag(split, self._key, start, stop)

    def to_score(self, split: str) -> Bag:
        """Return what bag_of returns, without reading again what is in memory."""
        return self.bag if split == "training" and self._share == 1.0 else self.bag_of(split)

    def residual_dof(self) -> float:
        """Return rows less the effective coefficients that other coordinates spend on them, as far as known."""
        start, stop = self.span("training")
        spent = self._context.other_margin_variance().span(start, stop)
        # Rows are chosen by a hash, so that those left out had the average share of what is spent on all.
        share = len(self.label) / max(1, stop - start)
        return len(self.label) - share * float(self.frame.column("training", "weight", start, stop) @ spent)

    def seen(self) -> NDArray[np.float64]:
        """Return float64 [features]: in how many of the rows each feature is."""
        present = self.bag.indices[self.bag.values != 0]
        return np.bincount(present, minlength=self.features).astype(np.float64)

    def objective(self, threads: int) -> GlobalObjective:
        return GlobalObjective(
            self._loss, self.bag, self.features, self.label, self.weight, self.offset,
            intercept=self.settings.intercept, threads=threads,
        )  # fmt: skip

    def _down_sample(self, task: Task, start: int, stop: int) -> None:
        parts = [
            chunk for _, table in self.frame.read("training", ["uid"], start, stop) for chunk in table["uid"].chunks
        ]
        uid = pa.concat_arrays([pa.array([], self.frame.id_type("uid")), *parts])
        rows = np.flatnonzero(chosen_rows(uid, self.label, task, self._share))
        self.bag = bags.take(self.bag, rows)
        self.label, self.offset = self.label[rows], self.offset[rows]
        self.weight = corrected_weight(self.weight[rows], self.label, task, self._share)
