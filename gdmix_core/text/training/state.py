"""The state of a training, which a checkpoint holds beside the weights."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass
class TrainingState:
    """The progress of a training.

    epoch, step: of the next batch, from 0; steps: taken in all; over: no batch is left, or none is worth it

    best_value, best_step: of the best evaluation; worse: evaluations since without a better one
    curve: {step, epoch, loss, metric, learning_rate, rows_per_second} of every evaluation;
           None where it is undefined or was not measured
    loss, weight: Σ w · loss and Σ w since the last evaluation
    seconds, rows: spent training, and trained on, as far as timed; *_before: at the last evaluation
    """

    epoch: int = 0
    step: int = 0
    steps: int = 0
    over: bool = False
    best_value: float | None = None
    best_step: int | None = None
    worse: int = 0
    curve: list[dict[str, Any]] = field(default_factory=list)
    loss: float = 0.0
    weight: float = 0.0
    seconds: float = 0.0
    rows: int = 0
    seconds_before: float = 0.0
    rows_before: int = 0

    @property
    def mean_loss(self) -> float:
        return self.loss / self.weight if self.weight else 0.0

    def advance(self, steps_of_epoch: int, steps: int, rows: int) -> None:
        """Count batches of the epoch that have been taken, and their rows."""
        self.steps += steps
        self.rows += rows
        self.step += steps
        if self.step == steps_of_epoch:
            self.epoch, self.step = self.epoch + 1, 0

    def to_array(self) -> NDArray[np.uint8]:
        return np.frombuffer(json.dumps(asdict(self)).encode(), np.uint8)

    @classmethod
    def from_array(cls, stored: NDArray[np.uint8]) -> TrainingState:
        return cls(**json.loads(stored.tobytes()))
