"""Training of a text network as the fixed effect, in one task with its own worker processes."""

from __future__ import annotations

from gdmix_operators.operators.base import StepOperator


class TrainTextEffectOperator(StepOperator):
    """Trains a coordinate's text network and scores all rows; a retry resumes at the last checkpoint."""

    doing = "Training the text network"
