"""The factory of DAGs: it makes one of a pipeline's YAML.

The graph reads as the maths does: validate → partition → (with an initial model: initialize) → for every pass a
group, in it a training per coordinate → … → export. A search has rounds of mapped trials in place of the passes. It is
the plan's list of steps, so the DAG and `gdmix run` do the same work. A step that does next to nothing goes into the
task beside it, as a task costs a second however little it does: the gate and the evaluation into the training, the
selection into the export.
"""

from __future__ import annotations

import datetime
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from airflow.sdk import (
    DAG,
    CronDataIntervalTimetable,
    ExceptionRetryPolicy,
    RetryAction,
    RetryRule,
    TaskGroup,
)

from gdmix_core.config.pipeline import Config
from gdmix_core.config.schedule import check_schedule
from gdmix_core.config.search_space import trials_of_round
from gdmix_core.config.secret_templates import refuse_secret_templates
from gdmix_core.config.templates import is_template
from gdmix_core.errors import ConfigError, DataError, ReplacedRunError
from gdmix_core.pipeline.loading import parse_config, read_document
from gdmix_core.pipeline.plan import CoordinateStep, Step, build_plan
from gdmix_operators.airflow_secrets import names_secret
from gdmix_operators.operators import steps
from gdmix_operators.operators.base import StepOperator
from gdmix_operators.operators.partition import PartitionOperator
from gdmix_operators.operators.validate import ValidateOperator
from gdmix_operators.params import trigger_params

OPERATORS: dict[str, type[StepOperator]] = {
    "validate": ValidateOperator,
    "partition": PartitionOperator,
    "summarize": steps.SummarizeOperator,
    "initialize": steps.InitializeOperator,
    "gate": steps.PassGateOperator,
    "accelerate": steps.AccelerateOperator,
    "train_fixed": steps.TrainFixedEffectOperator,
    "train_text": steps.TrainTextEffectOperator,
    "train_external": steps.TakeExternalScoresOperator,
    "train_python": steps.TrainPythonEffectOperator,
    "train_random": steps.TrainRandomEffectOperator,
    "evaluate": steps.EvaluateOperator,
    "trials": steps.TrialOperator,
    "select": steps.SelectOperator,
    "export": steps.ExportOperator,
}


def operator_of(step: Step) -> type[StepOperator]:
    """Return the class that carries out a step: StepOperator where its kind of effect has none of its own."""
    return OPERATORS.get(step.kind, StepOperator)


# Trying again helps against a lost connection or a killed process, not against a wrong input or setting, nor against
# another run that has taken this one's directory.
RETRY_POLICY = ExceptionRetryPolicy(
    rules=[RetryRule(exception=[ConfigError, DataError, ReplacedRunError], action=RetryAction.FAIL)]
)


def build_dag(config: str | Path | Mapping[str, Any], **dag_arguments: Any) -> DAG:
    """Make the DAG of one pipeline.

    Parameters
    ----------
    config
        Path of the YAML, best `Path(__file__).with_name("movielens.yaml")`; or its content as plain data.
    **dag_arguments
        Further arguments of airflow.sdk.DAG, such as callbacks; they win over the YAML. `params` are further fields of
        the trigger form, `default_args` further arguments of all tasks.

    Raises
    ------
    ConfigError
        Where the YAML has a fault. Airflow shows it as the file's import error.
    """
    checked, plain, where = _read(config)
    arguments = _dag_arguments(checked, plain, where) | dag_arguments
    if dag_arguments.get("schedule") not in (None, "@once") and not is_template(checked.output):
        raise ConfigError(
            f"{where}: output: {checked.output!r} is the same for every run of the schedule that build_dag is given, "
            "so each would write over the last; put a date into it, for example {{ ds }}"
        )
    arguments["params"] = _form(checked, dag_arguments.get("params") or {}, where)
    arguments["default_args"] = _task_defaults(checked) | (dag_arguments.get("default_args") or {})
    with DAG(**arguments) as dag:
        _add_tasks(checked, plain)
    return dag


def add_pipeline(config: str | Path | Mapping[str, Any], *, group_id: str | None = None) -> TaskGroup:
    """Add a pipeline's tasks to the DAG whose `with` block is open, in a task group of their own.

    The run's conf may have the keys of the trigger form; the schedule, and the form, are the DAG's.

    Parameters
    ----------
    config
        Path of the YAML, or its content as plain data.
    group_id
        Name of the task group. Default: the pipeline's name.

    Raises
    ------
    ConfigError
        Where the YAML has a fault.
    """
    checked, plain, _ = _read(config)
    defaults: Any = _task_defaults(checked)
    with TaskGroup(group_id or checked.name, default_args=defaults) as group:
        _add_tasks(checked, plain)
    return group


def _read(config: str | Path | Mapping[str, Any]) -> tuple[Config, dict[str, Any], str]:
    """Read the configuration, checked but for what its templates will say; its content as plain data; its name."""
    if isinstance(config, Mapping):
        content, where, lines = config, "config", None
    else:
        document = read_document(config)
        content, where, lines = document.content, str(config), document.lines
    checked = parse_config(content, where=where, lines=lines)
    # YAML knows dates, which neither a template field nor the form can hold.
    plain = json.loads(json.dumps(content, default=str))
    refuse_secret_templates(plain, where, names_secret)
    return checked, plain, where


def _form(config: Config, own: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the trigger form's fields, then the DAG author's."""
    fields = trigger_params(config)
    if both := [name for name in own if name in fields]:
        raise ConfigError(
            f"{where}: params of build_dag: {', '.join(both)} is a field of the pipeline's own form; take another name "
            f"(the form has {', '.join(fields)})"
        )
    return {**fields, **own}


def _task_defaults(config: Config) -> dict[str, Any]:
    return {
        "retries": config.airflow.retries,
        "retry_delay": datetime.timedelta(seconds=config.airflow.retry_delay_seconds),
        "retry_policy": RETRY_POLICY,
    }


def _dag_arguments(config: Config, content: Mapping[str, Any], where: str) -> dict[str, Any]:
    airflow = config.airflow
    midnight = datetime.time(tzinfo=datetime.UTC)
    text = yaml.safe_dump(content, sort_keys=False, width=110)
    return {
        "dag_id": config.name,
        "description": config.description,
        "doc_md": f"{config.description or 'Mixed-effect model.'}\n\n```yaml\n{text}```\n",
        "schedule": _schedule(config, where),
        "start_date": airflow.start_date and datetime.datetime.combine(airflow.start_date, midnight),
        "catchup": airflow.catchup,
        "max_active_runs": airflow.max_active_runs,
        "tags": airflow.tags,
    }


def _schedule(config: Config, where: str) -> CronDataIntervalTimetable | str | None:
    """Return a timetable of data intervals: `ds` of a daily run is the day just ended, whose data it reads."""
    schedule = config.airflow.schedule
    if schedule in (None, "@once"):
        return schedule
    check_schedule(config.airflow, config.output, where)
    if schedule == "@continuous":
        return schedule
    return CronDataIntervalTimetable(schedule, timezone="UTC")


@dataclass(frozen=True)
class _Work:
    """The steps of one task: its own, which names it, and the small ones before and after."""

    step: Step
    before: tuple[Step, ...] = ()
    after: tuple[Step, ...] = ()


# Steps that the task behind them carries out.
_SMALL = ("gate", "accelerate", "select")


def _spread(config: Config) -> Iterator[_Work]:
    """Yield the work of every task, in the plan's order. What is mapped carries no small step: each instance would."""
    left = list(build_plan(config).steps)
    while left:
        step = left.pop(0)
        before: tuple[Step, ...] = ()
        if step.kind in _SMALL:
            ahead = [step, *itertools.takewhile(lambda later: later.kind in _SMALL, left)]
            if not _is_mapped(left[len(ahead) - 1], config):
                left = left[len(ahead) - 1 :]
                step, before = left.pop(0), tuple(ahead)
        # The evaluation of a training follows it in the plan.
        if isinstance(step, CoordinateStep) and step.trains and not _is_mapped(step, config):
            yield _Work(step, before, (left.pop(0),))
        else:
            yield _Work(step, before)


def _add_tasks(config: Config, content: Mapping[str, Any]) -> None:
    """Add the plan's tasks, each behind the one before; the selection joins the ends of all passes, made or skipped."""
    tasks: dict[str, Any] = {}
    groups: dict[str, TaskGroup] = {}
    previous: Any = None
    for work in _spread(config):
        group, _, task_id = work.step.id.rpartition(".")
        arguments: dict[str, Any] = {"task_id": task_id, "step": work.step.id}
        if group:
            arguments["task_group"] = _group(group, groups)
        if work.before:
            arguments["before"] = [step.id for step in work.before]
        if work.after:
            arguments["after"] = [step.id for step in work.after]
        joined = [read for step in work.before if step.kind == "select" for read in step.reads]
        if joined:
            arguments["trigger_rule"] = "none_failed_min_one_success"
        task = _task(work.step, config, content, arguments, tasks)
        tasks |= dict.fromkeys((step.id for step in (*work.before, work.step, *work.after)), task)
        if joined:
            task.set_upstream([tasks[read] for read in joined])
        elif previous is not None:
            task.set_upstream(previous)
        previous = task


def _group(path: str, groups: dict[str, TaskGroup]) -> TaskGroup:
    """Return the task group pass_01.global, inside pass_01; made when first asked for."""
    if path not in groups:
        outer, _, name = path.rpartition(".")
        groups[path] = TaskGroup(name, parent_group=_group(outer, groups)) if outer else TaskGroup(name)
    return groups[path]


def _is_mapped(step: Step, config: Config) -> bool:
    """Return whether a step is a mapped task: of a random effect whose shards are spread, or of a round's trials."""
    if step.kind == "trials":
        return True
    effect = config.coordinates[step.coordinate].random_effect if isinstance(step, CoordinateStep) else None
    return effect is not None and step.kind == effect.training and effect.groups > 1


def _task(
    step: Step, config: Config, content: Mapping[str, Any], arguments: dict[str, Any], tasks: dict[str, Any]
) -> Any:
    operator = operator_of(step)
    if step.kind == "validate":
        return operator(config=content, **arguments)
    if step.kind == "trials":
        trials = list(trials_of_round(config, step.settings["round"]))
        return operator.partial(map_index_template="{{ task.shown_as }}", **arguments).expand(trial=trials)
    if isinstance(step, CoordinateStep) and _is_mapped(step, config):
        name = f"{step.coordinate}_groups"
        if name not in tasks:
            tasks[name] = steps.GroupShardsOperator(task_id=name, coordinate=step.coordinate)
            tasks[name].set_upstream(tasks["partition"])
        partial = operator.partial(map_index_template="group {{ task.group + 1 }}", **arguments)
        return partial.expand(group=tasks[name].output)
    return operator(**arguments)
