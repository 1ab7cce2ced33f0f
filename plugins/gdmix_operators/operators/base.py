"""The operator of any step: what all steps of a pipeline have in common as Airflow tasks."""

from __future__ import annotations

import contextlib
import difflib
import logging
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from gdmix_core.errors import ConfigError
from gdmix_core.paths import expanded
from gdmix_core.pipeline.plan import Step, build_plan

if TYPE_CHECKING:
    from airflow.sdk import Context, TaskGroup

    from gdmix_core.pipeline.run import Run

# As text, not as an XComArg, which would draw an edge from validate to every task of the graph.
RUN_OF_VALIDATE = "{{ task.validated(ti)['run'] }}"
KEY_OF_VALIDATE = "{{ task.validated(ti)['key'] }}"


class StepOperator(BaseOperator):
    """A task that carries out one step of a run in gdmix_core and returns its small summary.

    A step of a pass that the run does not make (it was triggered with fewer passes than the pipeline has) is skipped;
    any other step that its plan does not hold fails. A step that is done already is not done again: clearing a task
    resumes it.

    Parameters
    ----------
    step
        Id of the step in the run's plan, such as "pass_01.per_user.train". Default: the task's own id, without the
        names of task groups around the pipeline.
    before, after
        Ids of steps that the task carries out before and after its own: those that are too small for a task of their
        own, such as the evaluation after a training. What they return is a part of what the task returns; a gate that
        lets its pass not begin skips the task.
    run
        The run's directory or URL, or what validate returned (`validate.output`). Everything else is read from the
        config.yaml that lies there. Default: the run of the task `validate` in the same task group, else in the groups
        around it.
    config_key
        What validate returned as `key`; the task fails when the run's configuration is no longer that one. Default:
        validate's; with a `run` of your own, none.
    **kwargs
        Those of Airflow's BaseOperator.
    """

    template_fields: Sequence[str] = ("run", "config_key")
    doing: ClassVar[str] = "Running"
    # The part of the step that a mapped task carries out.
    group: int | None = None

    def __init__(
        self,
        *,
        step: str | None = None,
        before: Sequence[str] = (),
        after: Sequence[str] = (),
        run: str | Mapping[str, Any] = RUN_OF_VALIDATE,
        config_key: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.step = step or self.task_id
        self.before, self.after = tuple(before), tuple(after)
        self.run = run
        self.config_key = KEY_OF_VALIDATE if config_key is None and run == RUN_OF_VALIDATE else config_key

    def execute(self, context: Context) -> dict[str, Any]:
        with self.one_sentence():
            run = self.opened()
            own = self.planned(run)
            parts = {name: self._part(run, name) for name in (*self.before, *self.after)}
        result: dict[str, Any] = {}
        try:
            for name in (*self.before, own.id, *self.after):
                operator, step = parts.get(name, (self, own))
                result |= operator.timed(run, step, context)
        except AirflowSkipException:
            run.check_not_replaced()
            raise
        # Processes below this one have read config.yaml, too.
        run.check_not_replaced()
        return result

    def _part(self, run: Run, name: str) -> tuple[StepOperator, Step]:
        """Return a step before or after this task's own, and what carries it out."""
        from gdmix_operators.factory import operator_of

        if name not in {step.id for step in run.plan.steps}:
            raise self.unknown(run, name)
        step = run.plan[name]
        return operator_of(step)(task_id=self.task_id, step=name, run=run.root), step

    @contextlib.contextmanager
    def one_sentence(self, step: Step | None = None) -> Iterator[None]:
        """Log what is refused in the block as one sentence: a traceback would only hide what to do.

        step: the one that the block carries out; the sentence then says how long it took
        """
        from gdmix_core.system_errors import as_user_error

        start = time.monotonic()
        try:
            yield
        except Exception as error:
            found = as_user_error(error)
            if found is None:
                raise
            after = f" after {time.monotonic() - start:.1f} s" if step else ""
            self.log.error("%s failed%s: %s", step.id if step else self.step, after, found)
            raise found from None

    def opened(self) -> Run:
        """Open the run. Raises ConfigError when none is known, ReplacedRunError when another has its directory."""
        from gdmix_core.pipeline.run import Run

        found = self.run if isinstance(self.run, Mapping) else {"run": self.run}
        root = found.get("run")
        if not root or not isinstance(root, str):
            task = self.id_of_validate()
            there = "has returned none" if self.has_dag() and self.dag.has_task(task) else "is not in this DAG"
            raise ConfigError(
                f"{self.task_id}: no run to work on: the task {task} {there}; put ValidateOperator(task_id='validate') "
                "before this task, in the same task group or outside it, or give the run's directory as run="
            )
        return Run.open(expanded(root), key=self.config_key or found.get("key"))

    def validated(self, ti: Any) -> dict[str, Any]:
        """Return {run, key} of this task's validate; empty texts where it has returned nothing (execute says so)."""
        task = self.id_of_validate()
        found = ti.xcom_pull(task_ids=task)
        if isinstance(found, list):  # of a mapped task group: each instance has its own
            found = ti.xcom_pull(task_ids=task, map_indexes=ti.map_index)
        found = found if isinstance(found, Mapping) else {}
        return {"run": found.get("run", ""), "key": found.get("key", "")}

    def id_of_validate(self) -> str:
        """Return the task validate that is nearest: in this task's group, else in the groups around it."""
        for group in self._groups():
            task_id: str = group.child_id("validate")
            if task_id in group.children:
                return task_id
        return "validate"

    def steps_meant(self) -> list[str]:
        """Return ids of steps that this task may mean: as given, else its own id without the ids of outer groups."""
        names = [self.step]
        if self.step == self.task_id:
            names += reversed([self.task_id.removeprefix(group.child_id("")) for group in self._groups()])
        return list(dict.fromkeys(names))

    def _groups(self) -> Iterator[TaskGroup]:
        """Yield the task groups around this task, from the inside."""
        group = self.task_group
        while group is not None:
            yield group
            group = group.parent_group

    def planned(self, run: Run) -> Step:
        """Return the step as the run's own plan has it.

        Raises AirflowSkipException for a step of a pass, or a trial, beyond the run's own, which the pipeline has;
        ConfigError for any other that is not in the plan.
        """
        names = self.steps_meant()
        steps = {step.id: step for step in run.plan.steps}
        for name in names:
            if name in steps:
                self.check_kind(steps[name])
                return steps[name]
        for name in names:
            if is_beyond(run, name):
                raise AirflowSkipException(f"{name} is beyond this run's {run.plan.passes} pass(es)")
        raise self.unknown(run, names[-1])

    def check_kind(self, step: Step) -> None:
        """Raise ConfigError for a step that another operator carries out."""
        from gdmix_operators.factory import OPERATORS, operator_of

        meant = operator_of(step)
        if isinstance(self, tuple(OPERATORS.values())) and not isinstance(self, meant):
            raise ConfigError(
                f"task {self.task_id}: {step.id} is a step for {meant.__name__}, and this is a {type(self).__name__}; "
                "use that operator, or say which step is meant with step="
            )

    def unknown(self, run: Run, name: str) -> ConfigError:
        """Return the error for a step that the plan does not have."""
        steps = [step.id for step in run.plan.steps]
        near = difflib.get_close_matches(name, steps, n=3, cutoff=0.4) or steps
        return ConfigError(
            f"task {self.task_id}: there is no step {name} in the plan of {run.root}; it has {', '.join(near[:12])}"
            f"{', …' if len(near) > 12 else ''}. Say which one is meant with step=; if the configuration was changed "
            "after the run began, clear validate with all that follows"
        )

    def timed(self, run: Run, step: Step, context: Context) -> dict[str, Any]:
        """Call carry_out, between one line that says what begins and one that says how it ended."""
        from gdmix_core.arrow import look_for_no_pandas
        from gdmix_core.workers import log_lines, processes

        look_for_no_pandas()
        self.log.info("%s", self.announce(run, step))
        start = time.monotonic()
        # Whatever a task's own process tree writes to standard error, Airflow shows as an error.
        processes.show_lines(log_lines.into(logging.getLogger("gdmix_core.worker")))
        try:
            with self.one_sentence(step), self.held(run):
                result = self.carry_out(run, step, context)
        finally:
            processes.show_lines(None)
        self.log.info("%s done in %.1f s: %s", step.id, time.monotonic() - start, summary(result))
        return result

    def held(self, run: Run) -> AbstractContextManager[None]:
        """Hold the run's lock while the step is made: beside other tasks, but not beside `gdmix run`."""
        from gdmix_core.pipeline import run_lock

        return run_lock.whole_run(run.root, shared=True, wait=run_lock.PATIENCE)

    def announce(self, run: Run, step: Step) -> str:
        """Return the log's first line: what is done, for which coordinate and pass, where."""
        where = [f"coordinate {step.coordinate}"] if step.coordinate else []
        where += [f"pass {step.pass_number} of {run.plan.passes}"] if step.pass_number else []
        return ", ".join([self.doing, *where, f"run {run.root}"])

    def carry_out(self, run: Run, step: Step, context: Context) -> dict[str, Any]:
        from gdmix_core.execution.dispatch import execute

        return without_marks(execute(run, step, group=self.group))

    def on_kill(self) -> None:
        """End the worker processes: Airflow kills this task's process a few seconds later, done or not."""
        from gdmix_core.workers.processes import terminate_children

        terminate_children(grace_seconds=3)


def is_beyond(run: Run, step_id: str) -> bool:
    """Return whether the step is one of a pass that the run's pipeline has, and the run itself does not make."""
    found = re.match(r"pass_(\d+)\.", step_id)
    number = int(found[1]) if found else 0
    if not run.plan.passes < number <= run.origin.get("passes", 0):
        return False
    more = run.config.passes.model_copy(update={"max": number})
    return any(step.id == step_id for step in build_plan(run.config.model_copy(update={"passes": more})).steps)


def without_marks(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return a step's result without what marks its file as whole."""
    return {key: value for key, value in result.items() if key not in ("key", "step")}


def summary(result: Mapping[str, Any]) -> str:
    """Return the scalars of a step's result on one line: `auc 0.7831, converged 943`; and λ, where it was estimated."""
    scalars = {key: value for key, value in result.items() if isinstance(value, str | int | float)}
    if isinstance(result.get("l2"), Mapping):
        scalars |= {f"l2 of {name.replace('_', ' ')}": value for name, value in result["l2"]["used"].items()}
    return ", ".join(f"{k} {v:.6g}" if isinstance(v, float) else f"{k} {v}" for k, v in scalars.items())
