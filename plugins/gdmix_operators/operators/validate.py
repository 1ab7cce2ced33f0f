"""The first step: the run's configuration, and the checked, columnar copy of its input."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from gdmix_core.config.secret_templates import dotted, refuse_secret_templates, texts
from gdmix_core.errors import ConfigError
from gdmix_core.pipeline.loading import parse_config
from gdmix_core.pipeline.plan import Step, build_plan
from gdmix_operators.airflow_secrets import names_secret, refuse_masked
from gdmix_operators.operators.data_steps import DataStepOperator
from gdmix_operators.params import apply_params, check_backfill, check_conf
from gdmix_operators.templates import run_dates

if TYPE_CHECKING:
    import jinja2
    from airflow.sdk import Context

    from gdmix_core.config.pipeline import Config
    from gdmix_core.pipeline.run import Run


class ValidateOperator(DataStepOperator):
    """Starts the run that the configuration and the trigger form describe, and checks its input.

    config: the pipeline's YAML as plain data; templates are rendered, the form's values win.
    Returns {"run": directory of the run, "key": of its configuration, ...counts}; the later steps read the first two.
    """

    template_fields: Sequence[str] = ("config",)
    template_fields_renderers = {"config": "yaml"}  # noqa: RUF012 (Airflow's own name and type)
    doing = "Validating the input"

    def __init__(self, *, config: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config
        self._fault: ConfigError | None = None
        self._pipeline: Mapping[str, Any] = config

    def render_template_fields(self, context: Context, jinja_env: jinja2.Environment | None = None) -> None:
        """Renders, and keeps a fault for execute: what is raised here, Airflow's page of the log folds away."""
        try:
            self._render_config(context, jinja_env)
        except ConfigError as error:
            self._fault = error

    def _render_config(self, context: Context, jinja_env: jinja2.Environment | None) -> None:
        dag_run, params = context["dag_run"], context["params"]
        check_conf(dag_run.conf, self.config, own=context["dag"].params if "dag" in context else ())
        refuse_secret_templates(self.config, f"configuration of {self.dag_id}", names_secret)
        dates = run_dates(dag_run, params.get("date"))
        if dag_run.run_type == "backfill":
            check_backfill(self.config, params, dates)
        content = self.config
        self._render_yaml({**context, **dates}, jinja_env)  # type: ignore[typeddict-item]
        refuse_masked(content, self.config, f"configuration of {self.dag_id}")
        self._pipeline = self.config
        # After the rendering: what was typed into the form must not reach all that the YAML's templates can.
        self.config = apply_params(self.config, params, dates)

    def _render_yaml(self, context: Context, jinja_env: jinja2.Environment | None) -> None:
        """Raises ConfigError with the key of a template that fails: a template is a program, and may raise anything."""
        content = self.config
        try:
            super().render_template_fields(context, jinja_env)
        except ConfigError:
            raise
        except Exception as error:
            environment = jinja_env or self.get_template_env()
            for path, text in texts(content):
                try:
                    self.render_template(text, context, environment)
                except Exception as cause:
                    raise ConfigError(
                        f"configuration of {self.dag_id}: {dotted(path)}: template {text!r}: "
                        f"{type(cause).__name__}: {cause}"
                    ) from None
            raise ConfigError(f"configuration of {self.dag_id}: {type(error).__name__}: {error}") from None

    def execute(self, context: Context) -> dict[str, Any]:
        from gdmix_core.arrow import look_for_no_pandas
        from gdmix_core.pipeline import run_directory, run_lock
        from gdmix_core.pipeline.run import Run

        look_for_no_pandas()
        with contextlib.ExitStack() as held:
            with self.one_sentence():
                config = self.configuration()
                origin = self._origin(config, context)
                self.check(config)
                # What is in the directory changes only when nobody else works there.
                held.enter_context(run_lock.whole_run(run_directory.claim(config), wait=run_lock.PATIENCE))
                run = Run.create(config, origin=origin)
            self.run, self.config_key = run.root, run.config_key
            return {"run": self.run, "key": self.config_key, **super().execute(context)}

    def check(self, config: Config) -> None:
        """Raises GdmixError when the run cannot start, before anything is written."""
        from gdmix_core.execution import preflight
        from gdmix_core.pipeline import run_directory
        from gdmix_core.pipeline.run import Run
        from gdmix_operators.spark_submit import data_engine, driver_is_here

        run_directory.check(config)
        run = Run(config.output, config)
        # In this process and not in Spark's: the training tasks run as this one, with its files and its Python path.
        preflight.check(config, data_here=data_engine(run) == "embedded" or driver_is_here(run))

    def held(self, run: Run) -> AbstractContextManager[None]:
        return contextlib.nullcontext()  # by execute, and alone

    def _origin(self, config: Config, context: Context) -> dict[str, Any]:
        """Return what later tasks, and another run's in the same directory, need to know of this DAG run.

        Raises ConfigError for a run with steps that its pipeline, and so the DAG, does not have.
        """
        from gdmix_core.config.search_space import trial_count

        pipeline = parse_config(self._pipeline, where=f"configuration of {self.dag_id}")
        plan, known = build_plan(config), {step.id for step in build_plan(pipeline).steps}
        if more := [step.id for step in plan.steps if step.id not in known]:
            raise ConfigError(
                f"the run's conf asks for more than the pipeline {pipeline.name} has: {plan.passes} passes, the first "
                f"step without a task is {more[0]}; ask for less, or raise passes.max in the YAML"
            )
        by = f"the DAG run {context['run_id']} of {self.dag_id}" if "run_id" in context else f"a run of {self.dag_id}"
        return {"by": by, "passes": build_plan(pipeline).passes, "trials": trial_count(pipeline)}

    def configuration(self) -> Config:
        """The run's, with its paths in full for the other tasks and for whoever reads the log."""
        from gdmix_core.config.model import with_absolute_paths

        if self._fault is not None:
            raise self._fault
        with with_absolute_paths():
            return parse_config(self.config, where=f"configuration of {self.dag_id}")

    def carry_out(self, run: Run, step: Step, context: Context) -> dict[str, Any]:
        from gdmix_core.execution import file_digests, spark_submit
        from gdmix_core.models.initial import newest_run
        from gdmix_operators.spark_submit import data_engine, driver_is_here

        newest_run.record(run)
        file_digests.record(run)
        if data_engine(run) == "spark" and driver_is_here(run) and spark_submit.is_current(run, step):
            self.log.info("The frame is up to date with the input: Spark is not started")
            return self.result(run, step)
        return super().carry_out(run, step, context)

    def announce(self, run: Run, step: Step) -> str:
        return f"{super().announce(run, step)}, input {run.config.input}"

    def result(self, run: Run, step: Step) -> dict[str, Any]:
        splits = run.result(step.id)["splits"]
        return {f"{name}_rows": split["rows"] for name, split in splits.items()}
