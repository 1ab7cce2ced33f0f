"""Statistics of the features, for coordinates that scale them."""

from __future__ import annotations

from gdmix_operators.operators.base import StepOperator


class SummarizeOperator(StepOperator):
    """Minimum, maximum, mean and variance of every feature that some coordinate has normalized."""

    doing = "Summarizing the features"
