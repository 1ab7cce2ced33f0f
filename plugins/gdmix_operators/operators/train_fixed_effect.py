"""Training of a fixed effect, in one task with its own worker processes."""

from __future__ import annotations

from gdmix_operators.operators.base import StepOperator


class TrainFixedEffectOperator(StepOperator):
    """Trains a coordinate's one global model and scores all rows; a retry resumes at the last checkpoint."""

    doing = "Training the fixed effect"
