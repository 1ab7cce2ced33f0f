"""The operators of steps that need no Spark, and add little to what every step's operator does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from gdmix_core.pipeline.plan import Step
from gdmix_operators.operators.base import StepOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from gdmix_core.pipeline.run import Run


class SummarizeOperator(StepOperator):
    """Minimum, maximum, mean and variance of every feature that some coordinate has normalized."""

    doing = "Summarizing the features"


class InitializeOperator(StepOperator):
    """Reads the models of `initial_model` into this run's shards and features, whatever theirs were."""

    doing = "Reading the initial models"


class PassGateOperator(StepOperator):
    """Skips itself, and so the pass behind it, when the pass before gained less than passes.min_delta."""

    doing = "Deciding on another pass"

    def carry_out(self, run: Run, step: Step, context: Context) -> dict[str, Any]:
        decision = super().carry_out(run, step, context)
        if not decision["continue"]:
            raise AirflowSkipException(f"no further pass: {decision['reason']}")
        return decision


class TrainFixedEffectOperator(StepOperator):
    """Trains a coordinate's one global model and scores all rows; a retry resumes at the last checkpoint."""

    doing = "Training the fixed effect"


class TrainTextEffectOperator(StepOperator):
    """Trains a coordinate's text network and scores all rows; a retry resumes at the last checkpoint."""

    doing = "Training the text network"


class TakeExternalScoresOperator(StepOperator):
    """Brings the scores that validate joined to the rows into the run, as those of a coordinate."""

    doing = "Taking the external scores"


class TrainPythonEffectOperator(StepOperator):
    """Calls the function that the configuration names, and keeps the scores it returns."""

    doing = "Calling the user's trainer for the fixed effect"


class EvaluateOperator(StepOperator):
    """Metrics of the summed scores on the validation rows: {metric: value}, with pass and coordinate."""

    doing = "Evaluating"

    def carry_out(self, run: Run, step: Step, context: Context) -> dict[str, Any]:
        result = super().carry_out(run, step, context)
        metrics = result.pop("metrics")
        return {**result, **(metrics.get("validation") or metrics["training"])}


class SelectOperator(StepOperator):
    """Picks the pass with the best primary metric, of those that were made."""

    doing = "Selecting the best pass"

    def __init__(self, *, trigger_rule: str = "none_failed_min_one_success", **kwargs: Any) -> None:
        """trigger_rule: by default passes that were skipped are no obstacle, passes that failed are."""
        super().__init__(trigger_rule=trigger_rule, **kwargs)


class ExportOperator(StepOperator):
    """Writes the selected pass's models in the configured formats, and the run's report.html beside them."""

    doing = "Exporting the model"

    def carry_out(self, run: Run, step: Step, context: Context) -> dict[str, Any]:
        from gdmix_core.report.page import try_to_write_report

        result = super().carry_out(run, step, context)
        try_to_write_report(run)
        return result
