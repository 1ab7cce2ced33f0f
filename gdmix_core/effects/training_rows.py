"""The rows of the frame that one worker of a fixed effect trains on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gdmix_core.data.frame import Frame
from gdmix_core.data.ragged import Bag
from gdmix_core.data.scores import other_scores
from gdmix_core.plan import Step
from gdmix_core.run import Run
from gdmix_core.solvers.global_objective import GlobalObjective
from gdmix_core.solvers.losses import LOSS_OF_TASK


class TrainingRows:
    """Worker `rank`'s even share of consecutive rows; none where there are fewer rows than workers.

    label, weight, offset: float64 [n], the offset with the scores of all other coordinates
    bag: the rows' features
    """

    def __init__(self, run: Run, step: Step, rank: int, workers: int) -> None:
        assert step.coordinate is not None
        self.settings = run.config.coordinates[step.coordinate]
        self._loss = LOSS_OF_TASK[run.config.task]
        self.rank, self.workers = rank, workers
        self.frame = Frame(run)
        self._key = self.frame.bag_of(step.coordinate)
        self.features = self.frame.feature_count(self._key) if self._key else 0
        start, stop = self.span("training")
        self.label = self.frame.column("training", "label", start, stop)
        self.weight = self.frame.column("training", "weight", start, stop)
        self.offset = self.frame.column("training", "offset", start, stop)
        self.offset += other_scores(run, step, "training").span(start, stop)
        self.bag = self.bag_of("training")
        self.total_weight = float(np.sum(self.weight))

    def span(self, split: str) -> tuple[int, int]:
        """(first row, row after the last one) of this worker's share."""
        rows = self.frame.rows(split)
        return rows * self.rank // self.workers, rows * (self.rank + 1) // self.workers

    def bag_of(self, split: str) -> Bag:
        """The features of this worker's rows of a split."""
        start, stop = self.span(split)
        if self._key is None:
            return Bag(np.zeros(stop - start + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))
        return self.frame.bag(split, self._key, start, stop)

    @property
    def penalty(self) -> NDArray[np.float64]:
        """λ of each coefficient, float64 [features + 1], the intercept's first."""
        penalty = np.full(self.features + 1, self.settings.l2_weight)
        if not self.settings.regularize_intercept:
            penalty[0] = 0.0
        return penalty

    def objective(self, threads: int) -> GlobalObjective:
        return GlobalObjective(
            self._loss, self.bag, self.features, self.label, self.weight, self.offset,
            intercept=self.settings.intercept, threads=threads,
        )  # fmt: skip
