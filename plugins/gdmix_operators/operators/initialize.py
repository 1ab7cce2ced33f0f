"""Earlier models, laid out for this run's training."""

from __future__ import annotations

from gdmix_operators.operators.base import StepOperator


class InitializeOperator(StepOperator):
    """Reads the models of `initial_model` into this run's shards and features, whatever theirs were."""

    doing = "Reading the initial models"
