"""A trial of a search: the whole model, with values of the searched parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from gdmix_core.errors import ConfigError
from gdmix_core.pipeline.plan import Step
from gdmix_operators.operators.base import StepOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from gdmix_core.pipeline.run import Run


class TrialOperator(StepOperator):
    """Trains one trial of a round, all its passes; a retry goes on where it was ended.

    Made to be mapped over the trials of a round:
    `TrialOperator.partial(task_id="round_01", map_index_template="{{ task.shown_as }}").expand(trial=[1, 2, 3])`.
    trial: its number. A trial that the run does not have (the trigger form gave a searched parameter one value) is
    skipped.
    shown_as: what the trial is called in Airflow's list of mapped tasks; with its parameters once they are known.
    """

    doing = "Making a trial"

    def __init__(self, *, trial: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.trial = trial
        self.shown_as = f"trial {trial}"

    def planned(self, run: Run) -> Step:
        from gdmix_core.config.search_space import round_id, settings_of_search, trial_count, trials_of_round

        names = self.steps_meant()
        if not isinstance(self.trial, int) or isinstance(self.trial, bool):
            raise ConfigError(f"task {self.task_id}: trial must be a trial's number, not {self.trial!r}")
        for step in run.plan.rounds:
            if step.id in names and self.trial in trials_of_round(run.config, step.settings["round"]):
                return step
        own = trial_count(run.config)
        number = (self.trial - 1) // settings_of_search(run.config).parallel + 1
        if round_id(number) not in names:
            raise self.unknown(run, f"{names[-1]} with a trial {self.trial}")
        if own < self.trial <= run.origin.get("trials", 0):
            raise AirflowSkipException(f"trial {self.trial} is beyond this run's {own} trial(s)")
        raise self.unknown(run, names[-1])

    def announce(self, run: Run, step: Step) -> str:
        from gdmix_core.config.search_space import trial_count

        return f"{super().announce(run, step)}, trial {self.trial} of {trial_count(run.config)}"

    def carry_out(self, run: Run, step: Step, context: Context) -> dict[str, Any]:
        """{trial, parameters, start, pass, metric, value, and every metric of the validation rows}."""
        from gdmix_core.config.search_space import shown_values
        from gdmix_core.execution.dispatch import execute
        from gdmix_core.search.trials import proposals

        run.require(step)
        self.shown_as = f"trial {self.trial}: {shown_values(proposals(run, step)[self.trial])}"
        result = execute(run, step, group=self.trial)
        metrics = result.pop("metrics")
        return {**result, **(metrics.get("validation") or metrics["training"])}
