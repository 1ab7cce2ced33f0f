"""Training of a fixed effect by the user's own function."""

from __future__ import annotations

from gdmix_operators.operators.base import StepOperator


class TrainPythonEffectOperator(StepOperator):
    """Calls the function that the configuration names, and keeps the scores it returns."""

    doing = "Calling the user's trainer for the fixed effect"
