"""The first step: the run's configuration, and the checked, columnar copy of its input."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from gdmix_core.errors import ConfigError
from gdmix_core.plan import Step
from gdmix_operators.operators.spark import SparkStepOperator
from gdmix_operators.params import apply_params, check_conf
from gdmix_operators.templates import run_dates

if TYPE_CHECKING:
    import jinja2
    from airflow.sdk import Context

    from gdmix_core.config import Config
    from gdmix_core.run import Run


class ValidateOperator(SparkStepOperator):
    """Starts the run that the configuration and the trigger form describe, and checks its input in Spark.

    config: the pipeline's YAML as plain data; templates are rendered, the form's values win.
    Returns {"run": directory of the run, ...counts}, which the later steps read.
    """

    template_fields: Sequence[str] = ("config",)
    template_fields_renderers = {"config": "yaml"}  # noqa: RUF012 (Airflow's own name and type)
    doing = "Validating the input"

    def __init__(self, *, config: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config
        self._fault: ConfigError | None = None

    def render_template_fields(self, context: Context, jinja_env: jinja2.Environment | None = None) -> None:
        """Renders, and keeps a fault for execute: what is raised here, Airflow's page of the log folds away."""
        try:
            self._render_config(context, jinja_env)
        except ConfigError as error:
            self._fault = error

    def _render_config(self, context: Context, jinja_env: jinja2.Environment | None) -> None:
        dag_run, params = context["dag_run"], context["params"]
        check_conf(dag_run.conf, self.config)
        dates = run_dates(dag_run, params.get("date"))
        super().render_template_fields({**context, **dates}, jinja_env)  # type: ignore[typeddict-item]
        # After the rendering: what was typed into the form must not reach all that the YAML's templates can.
        self.config = apply_params(self.config, params, dates, backfill=dag_run.run_type == "backfill")

    def execute(self, context: Context) -> dict[str, Any]:
        from gdmix_core import run_directory, run_lock
        from gdmix_core.run import Run
        from gdmix_core.system_errors import as_user_error

        with contextlib.ExitStack() as held:
            try:
                config = self.configuration()
                self.check(config)
                # What is in the directory changes only when nobody else works there.
                held.enter_context(run_lock.whole_run(run_directory.claim(config), wait=run_lock.PATIENCE))
                self.run = Run.create(config).root
            except Exception as error:
                found = as_user_error(error)
                if found is None:
                    raise
                self.log.error("%s failed: %s", self.step, found)
                raise found from None
            return {"run": self.run, **super().execute(context)}

    def check(self, config: Config) -> None:
        """Raises GdmixError when the run cannot start, before anything is written."""
        from gdmix_core import prerequisites, run_directory
        from gdmix_core.run import Run
        from gdmix_operators.spark_submit import driver_is_here

        run_directory.check(config)
        # In this process and not in Spark's: the training tasks run as this one, with its files and its Python path.
        prerequisites.check(config, spark_reads_here=driver_is_here(Run(config.output, config)))

    def held(self, run: Run) -> AbstractContextManager[None]:
        return contextlib.nullcontext()  # by execute, and alone

    def configuration(self) -> Config:
        """The run's, with its paths in full for the other tasks and for whoever reads the log."""
        from gdmix_core.config_file import parse_config
        from gdmix_core.config_model import with_absolute_paths

        if self._fault is not None:
            raise self._fault
        with with_absolute_paths():
            return parse_config(self.config, where=f"configuration of {self.dag_id}")

    def carry_out(self, run: Run, step: Step, context: Context) -> dict[str, Any]:
        from gdmix_core import spark_submit, watched
        from gdmix_operators.spark_submit import driver_is_here

        watched.record(run)
        if driver_is_here(run) and spark_submit.is_current(run, step):
            self.log.info("The frame is up to date with the input: Spark is not started")
            return self.result(run, step)
        return super().carry_out(run, step, context)

    def announce(self, run: Run, step: Step) -> str:
        return f"{super().announce(run, step)}, input {run.config.input}"

    def result(self, run: Run, step: Step) -> dict[str, Any]:
        splits = run.result(step.id)["splits"]
        return {f"{name}_rows": split["rows"] for name, split in splits.items()}
