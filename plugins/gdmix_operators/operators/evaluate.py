"""Metrics of the whole model as it stands after one coordinate was trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gdmix_core.pipeline.plan import Step
from gdmix_operators.operators.base import StepOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from gdmix_core.pipeline.run import Run


class EvaluateOperator(StepOperator):
    """Metrics of the summed scores on the validation rows: {metric: value}, with pass and coordinate."""

    doing = "Evaluating"

    def carry_out(self, run: Run, step: Step, context: Context) -> dict[str, Any]:
        result = super().carry_out(run, step, context)
        metrics = result.pop("metrics")
        return {**result, **(metrics.get("validation") or metrics["training"])}
