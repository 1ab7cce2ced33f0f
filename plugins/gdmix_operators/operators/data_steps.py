"""Steps that a data engine carries out: the embedded one in the task, or Spark."""

from __future__ import annotations

import subprocess
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from gdmix_core.pipeline.plan import Step
from gdmix_operators.operators.base import StepOperator

if TYPE_CHECKING:
    from airflow.providers.apache.spark.hooks.spark_submit import SparkSubmitHook
    from airflow.sdk import Context

    from gdmix_core.pipeline.run import Run


class DataStepOperator(StepOperator):
    """Carries the step out in the task, or submits its application with spark-submit, through the connection that the
    configuration names: as its engine.data says.

    Built on the provider's hook and not on its operator. Importing the operator loads the Kubernetes client:
    half a second on every parse of the DAG and every start of a task. And only the hook lets spark-submit
    have its own stdin: the task's is a socket of Airflow's supervisor, and a child that holds it delays the
    retry of a crashed task.
    """

    _hook: SparkSubmitHook | None = None

    def carry_out(self, run: Run, step: Step, context: Context) -> dict[str, Any]:
        from gdmix_core.execution.dispatch import execute
        from gdmix_operators.spark_submit import data_engine

        if data_engine(run) == "spark":
            self._submit(run, step)
        else:
            execute(run, step)
        return self.result(run, step)

    def _submit(self, run: Run, step: Step) -> None:
        from airflow.exceptions import AirflowException

        from gdmix_core.execution.dispatch import spark_application
        from gdmix_core.execution.spark_submit import check_java, forget_reported, raise_reported, reason
        from gdmix_core.workers.processes import end_with_parent
        from gdmix_operators.spark_submit import spark_submit_hook

        check_java()
        forget_reported(run, step)
        self._hook = spark_submit_hook(run, step)
        failed = ""
        try:
            self._hook.submit(spark_application(step), stdin=subprocess.DEVNULL, preexec_fn=end_with_parent)
        except AirflowException as error:
            # It repeats the lines that are in the log already: the one that says why is looked for among them.
            failed = reason(str(error))
        if failed:
            told = "the Spark application failed; its lines above say why" if "\n" in failed else failed
            raise_reported(run, [step], otherwise=told)
        run.forget_input()

    @abstractmethod
    def result(self, run: Run, step: Step) -> dict[str, Any]:
        """Small counts of what was written."""

    def on_kill(self) -> None:
        """Ends spark-submit with the JVM and the Python processes below it, then a driver on a cluster."""
        from gdmix_core.workers.processes import end_descendants

        end_descendants(grace_seconds=3)
        if self._hook is not None:
            self._hook.on_kill()
