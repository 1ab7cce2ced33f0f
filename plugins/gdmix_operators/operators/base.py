"""What all steps of a pipeline have in common as Airflow tasks."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from gdmix_core.plan import Step

if TYPE_CHECKING:
    from airflow.sdk import Context

    from gdmix_core.run import Run

# As text, not as an XComArg, which would draw an edge from validate to every task of the graph.
RUN_OF_VALIDATE = "{{ ti.xcom_pull(task_ids='validate')['run'] }}"


class StepOperator(BaseOperator):
    """Carries out one step of a run in gdmix_core and returns its small summary.

    step: id of the step in the run's plan, such as "pass_01.per_user.train"; the task's own id if not given.
    run: the run's directory or URL. Everything else is read from the config.yaml that lies there.

    A step the run's plan does not hold (the run was triggered with fewer passes) is skipped. A step that is
    done already is not done again: clearing a task resumes it.
    """

    template_fields: Sequence[str] = ("run",)
    doing: ClassVar[str] = "Running"

    def __init__(self, *, step: str | None = None, run: str = RUN_OF_VALIDATE, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.step = step or self.task_id
        self.run = run

    def execute(self, context: Context) -> dict[str, Any]:
        from gdmix_core.run import Run

        run = Run.open(self.run)
        return self.timed(run, self.planned(run), context)

    def planned(self, run: Run) -> Step:
        """The step as the run's own plan has it. Raises AirflowSkipException when it has none."""
        try:
            return run.plan[self.step]
        except KeyError:
            raise AirflowSkipException(f"{self.step} is beyond this run's {run.plan.passes} pass(es)") from None

    def timed(self, run: Run, step: Step, context: Context) -> dict[str, Any]:
        """carry_out, between one line that says what begins and one that says how it ended."""
        from gdmix_core import log_lines, processes
        from gdmix_core.system_errors import as_user_error

        self.log.info("%s", self.announce(run, step))
        start = time.monotonic()
        # Whatever a task's own process tree writes to standard error, Airflow shows as an error.
        processes.show_lines(log_lines.into(logging.getLogger("gdmix_core.worker")))
        try:
            with self.held(run):
                result = self.carry_out(run, step, context)
        except Exception as error:
            found = as_user_error(error)
            if found is None:
                raise
            # Without a traceback, which would only hide the sentence that says what to do.
            self.log.error("%s failed after %.1f s: %s", step.id, time.monotonic() - start, found)
            raise found from None
        finally:
            processes.show_lines(None)
        self.log.info("%s done in %.1f s: %s", step.id, time.monotonic() - start, summary(result))
        return result

    def held(self, run: Run) -> AbstractContextManager[None]:
        """The run's lock while the step is made: beside other tasks, but not beside `gdmix run`."""
        from gdmix_core import run_lock

        return run_lock.whole_run(run.root, shared=True, wait=run_lock.PATIENCE)

    def announce(self, run: Run, step: Step) -> str:
        """The log's first line: what is done, for which coordinate and pass, where."""
        where = [f"coordinate {step.coordinate}"] if step.coordinate else []
        where += [f"pass {step.pass_number} of {run.plan.passes}"] if step.pass_number else []
        return ", ".join([self.doing, *where, f"run {run.root}"])

    def carry_out(self, run: Run, step: Step, context: Context) -> dict[str, Any]:
        from gdmix_core.steps import execute

        return without_marks(execute(run, step))

    def on_kill(self) -> None:
        """Ends the worker processes: Airflow kills this task's process a few seconds later, done or not."""
        from gdmix_core.processes import terminate_children

        terminate_children(grace_seconds=3)


def without_marks(result: Mapping[str, Any]) -> dict[str, Any]:
    """A step's result without what marks its file as whole."""
    return {key: value for key, value in result.items() if key not in ("key", "step")}


def summary(result: Mapping[str, Any]) -> str:
    """The scalars of a step's result on one line: `auc 0.7831, converged 943`; and λ, where it was estimated."""
    scalars = {key: value for key, value in result.items() if isinstance(value, str | int | float)}
    if isinstance(result.get("l2"), Mapping):
        scalars |= {f"l2 of {name.replace('_', ' ')}": value for name, value in result["l2"]["used"].items()}
    return ", ".join(f"{k} {v:.6g}" if isinstance(v, float) else f"{k} {v}" for k, v in scalars.items())
