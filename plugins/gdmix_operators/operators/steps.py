"""The operators of steps that need no Spark: each names its step, and says what a task of it returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from gdmix_core.errors import ConfigError
from gdmix_core.pipeline.plan import Step
from gdmix_operators.operators.base import StepOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from gdmix_core.config.coordinate import RandomEffect
    from gdmix_core.pipeline.run import Run


class SummarizeOperator(StepOperator):
    """A task that summarizes every feature that some coordinate has normalized: minimum, maximum, mean, variance."""

    doing = "Summarizing the features"


class InitializeOperator(StepOperator):
    """A task that reads the models of `initial_model` into this run's shards and features, whatever theirs were."""

    doing = "Reading the initial models"


class PassGateOperator(StepOperator):
    """A task that skips itself, and so the pass behind it, when the pass before gained less than passes.min_delta."""

    doing = "Deciding on another pass"

    def carry_out(self, run: Run, step: Step, context: Context) -> dict[str, Any]:
        decision = super().carry_out(run, step, context)
        if not decision["continue"]:
            raise AirflowSkipException(f"no further pass: {decision['reason']}")
        return decision


class AccelerateOperator(StepOperator):
    """A task that extrapolates the scores that a pass begins with, from the passes before."""

    doing = "Extrapolating the scores"


class TrainFixedEffectOperator(StepOperator):
    """A task that trains a coordinate's one global model and scores all rows; a retry resumes at a checkpoint."""

    doing = "Training the fixed effect"


class TrainTextEffectOperator(StepOperator):
    """A task that trains a coordinate's text network and scores all rows; a retry resumes at a checkpoint."""

    doing = "Training the text network"


class TakeExternalScoresOperator(StepOperator):
    """A task that brings the scores that validate joined to the rows into the run, as those of a coordinate."""

    doing = "Taking the external scores"


class TrainPythonEffectOperator(StepOperator):
    """A task that calls the function that the configuration names, and keeps the scores it returns."""

    doing = "Calling the user's trainer for the fixed effect"


class TrainRandomEffectOperator(StepOperator):
    """A task that trains one group of shards and scores its rows; a retry trains the shards that are still missing.

    Map it over the groups: `TrainRandomEffectOperator.partial(task_id=...).expand(group=groups.output)`, where `groups`
    is a GroupShardsOperator.

    Parameters
    ----------
    group
        Which group of shards, from 0; one that the rows are too few for has none. Default: all shards.
    **kwargs
        As of every step: `step`, `run`, `config_key`, and those of Airflow's BaseOperator.
    """

    doing = "Training the random effect"

    def __init__(self, *, group: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.group = group

    def planned(self, run: Run) -> Step:
        step = super().planned(run)
        groups = _random_effect(run, step.coordinate).groups
        if self.group is not None and (type(self.group) is not int or self.group not in range(groups)):
            raise ConfigError(
                f"task {self.task_id}: group {self.group!r} of {step.coordinate} does not exist: random_effect.groups "
                f"is {groups} in {run.root}, so its groups are 0 to {groups - 1}; map the task over these"
            )
        return step

    def announce(self, run: Run, step: Step) -> str:
        said = super().announce(run, step)
        if self.group is None:
            return said
        return f"{said}, group {self.group + 1} of {len(_groups(run, step.coordinate))}"


class GroupShardsOperator(StepOperator):
    """A task that returns the groups of a random effect's shards, [0, 1, …], which its training is mapped over.

    They are made of the shards' rows: as many as random_effect.groups at most, and of rows_per_group on average.

    Parameters
    ----------
    coordinate
        Name of the random effect.
    **kwargs
        As of every step: `run`, `config_key`, and those of Airflow's BaseOperator.
    """

    def __init__(self, *, coordinate: str, **kwargs: Any) -> None:
        super().__init__(**{"step": "partition", **kwargs})
        self.coordinate = coordinate

    def execute(self, context: Context) -> list[int]:  # type: ignore[override]
        with self.one_sentence():
            groups = _groups(self.opened(), self.coordinate)
        self.log.info("%s: %d shards in %d group(s)", self.coordinate, sum(map(len, groups)), len(groups))
        return list(range(len(groups)))


class TrialOperator(StepOperator):
    """A task that trains one trial of a search's round, all its passes; a retry resumes where the trial ended.

    Map it over the trials of a round:
    `TrialOperator.partial(task_id="round_01", map_index_template="{{ task.shown_as }}").expand(trial=[1, 2, 3])`.
    `shown_as` is what the trial is called in Airflow's list of mapped tasks, with its parameters once they are known.
    A trial that the run does not have (the trigger form gave a searched parameter one value) is skipped.

    Parameters
    ----------
    trial
        The trial's number.
    **kwargs
        As of every step: `step`, `run`, `config_key`, and those of Airflow's BaseOperator.
    """

    doing = "Making a trial"

    def __init__(self, *, trial: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.trial = self.group = trial
        self.shown_as = f"trial {trial}"

    def planned(self, run: Run) -> Step:
        from gdmix_core.config.search_space import round_id, settings_of_search, trial_count, trials_of_round

        names = self.steps_meant()
        if type(self.trial) is not int:
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
        """Return {trial, parameters, start, pass, metric, value, and every metric of the validation rows}."""
        from gdmix_core.config.search_space import shown_values
        from gdmix_core.search.trials import proposals

        run.require(step)
        self.shown_as = f"trial {self.trial}: {shown_values(proposals(run, step)[self.trial])}"
        return _with_metrics(super().carry_out(run, step, context))


class EvaluateOperator(StepOperator):
    """A task that returns metrics of the summed scores on the validation rows: {metric: value}, pass and coordinate."""

    doing = "Evaluating"

    def carry_out(self, run: Run, step: Step, context: Context) -> dict[str, Any]:
        return _with_metrics(super().carry_out(run, step, context))


class SelectOperator(StepOperator):
    """A task that picks the pass with the best primary metric, of those that were made.

    Parameters
    ----------
    trigger_rule
        By default passes that were skipped are not an obstacle, and passes that failed are.
    **kwargs
        As of every step: `step`, `run`, `config_key`, and those of Airflow's BaseOperator.
    """

    doing = "Selecting the best pass"

    def __init__(self, *, trigger_rule: str = "none_failed_min_one_success", **kwargs: Any) -> None:
        super().__init__(trigger_rule=trigger_rule, **kwargs)


class ExportOperator(StepOperator):
    """A task that writes the selected pass's models in the configured formats, and the run's report.html."""

    doing = "Exporting the model"

    def carry_out(self, run: Run, step: Step, context: Context) -> dict[str, Any]:
        from gdmix_core.report.page import try_to_write_report

        result = super().carry_out(run, step, context)
        try_to_write_report(run)
        return result


def _groups(run: Run, coordinate: str | None) -> list[list[int]]:
    from gdmix_core.data.shard_groups import group_shards

    partition = run.result("partition")["coordinates"][str(coordinate)]
    return group_shards(partition, _random_effect(run, coordinate))


def _random_effect(run: Run, coordinate: str | None) -> RandomEffect:
    effect = run.config.coordinates[str(coordinate)].random_effect
    assert effect is not None
    return effect


def _with_metrics(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result with the metrics of the validation rows as values of their own; of training without these."""
    metrics = result["metrics"]
    others = {key: value for key, value in result.items() if key != "metrics"}
    return {**others, **(metrics.get("validation") or metrics["training"])}
