"""The second step: rows of each random effect, grouped into shards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gdmix_core.pipeline.plan import Step
from gdmix_operators.operators.data_steps import DataStepOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from gdmix_core.pipeline.run import Run


class PartitionOperator(DataStepOperator):
    """Groups the rows by entity into shards, the units of work, memory and retry of random effects."""

    doing = "Partitioning rows by entity"

    def carry_out(self, run: Run, step: Step, context: Context) -> dict[str, Any]:
        if run.is_done(step):
            return self.result(run, step)
        run.require(step)
        return super().carry_out(run, step, context)

    def result(self, run: Run, step: Step) -> dict[str, Any]:
        coordinates = run.result(step.id)["coordinates"]
        return {f"{name}_shards": found["shards"] for name, found in coordinates.items()}
