"""Metrics of the whole model as it stands after one coordinate was trained."""

from __future__ import annotations

from gdmix_operators.operators.base import StepOperator


class EvaluateOperator(StepOperator):
    """Sums the scores of all coordinates; returns {metric: value} of the validation rows, pass and coordinate."""

    doing = "Evaluating"
