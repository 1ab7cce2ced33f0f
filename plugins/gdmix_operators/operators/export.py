"""The selected model, in the formats that other systems read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gdmix_core.pipeline.plan import Step
from gdmix_operators.operators.base import StepOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from gdmix_core.pipeline.run import Run


class ExportOperator(StepOperator):
    """Writes the selected pass's models in the configured formats, and the run's report.html beside them."""

    doing = "Exporting the model"

    def carry_out(self, run: Run, step: Step, context: Context) -> dict[str, Any]:
        from gdmix_core.report.page import try_to_write_report

        result = super().carry_out(run, step, context)
        try_to_write_report(run)
        return result
