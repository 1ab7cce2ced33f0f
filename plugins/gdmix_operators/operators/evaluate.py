"""Metrics of the whole model as it stands after one coordinate was trained."""

from __future__ import annotations

from gdmix_operators.operators.base import StepOperator


class EvaluateOperator(StepOperator):
    """Metrics of the summed scores on the validation rows: {metric: value}, with pass and coordinate."""

    doing = "Evaluating"
