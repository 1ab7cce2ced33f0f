"""Whether another pass over the coordinates pays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from gdmix_core.pipeline.plan import Step
from gdmix_operators.operators.base import StepOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from gdmix_core.pipeline.run import Run


class PassGateOperator(StepOperator):
    """Skips itself, and so the pass behind it, when the pass before gained less than passes.min_delta."""

    doing = "Deciding on another pass"

    def carry_out(self, run: Run, step: Step, context: Context) -> dict[str, Any]:
        decision = super().carry_out(run, step, context)
        if not decision["continue"]:
            raise AirflowSkipException(f"no further pass: {decision['reason']}")
        return decision
