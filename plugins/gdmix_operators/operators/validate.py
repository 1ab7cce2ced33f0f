"""The first step: the run's configuration, and the checked, columnar copy of its input."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gdmix_core.plan import Step
from gdmix_operators.operators.spark import SparkStepOperator
from gdmix_operators.params import apply_params, check_conf
from gdmix_operators.templates import run_dates

if TYPE_CHECKING:
    import jinja2
    from airflow.sdk import Context

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

    def render_template_fields(self, context: Context, jinja_env: jinja2.Environment | None = None) -> None:
        dag_run, params = context["dag_run"], context["params"]
        check_conf(dag_run.conf, self.config)
        dates = run_dates(dag_run, params.get("date"))
        super().render_template_fields({**context, **dates}, jinja_env)  # type: ignore[typeddict-item]
        # After the rendering: what was typed into the form must not reach all that the YAML's templates can.
        self.config = apply_params(self.config, params, dates, backfill=dag_run.run_type == "backfill")
        self.config |= {key: _absolute(self.config[key]) for key in ("input", "output")}
        initial = self.config.get("initial_model")
        if isinstance(initial, str):
            self.config["initial_model"] = _absolute(initial)
        elif initial:
            self.config["initial_model"] = _with_absolute_paths_of_models(initial)
        coordinates = self.config["coordinates"]
        self.config["coordinates"] = {name: _with_absolute_paths(c) for name, c in coordinates.items()}

    def execute(self, context: Context) -> dict[str, Any]:
        from gdmix_core.config_file import parse_config
        from gdmix_core.run import Run

        self.run = Run.create(parse_config(self.config, where=f"configuration of {self.dag_id}")).root
        return {"run": self.run, **super().execute(context)}

    def carry_out(self, run: Run, step: Step, context: Context) -> dict[str, Any]:
        from gdmix_core import prerequisites, watched
        from gdmix_operators.spark_submit import driver_is_here

        # In this process and not in Spark's: the training tasks run as this one, with its files and its Python path.
        prerequisites.check(run.config, spark_reads_here=driver_is_here(run))
        watched.record(run)
        return super().carry_out(run, step, context)

    def announce(self, run: Run, step: Step) -> str:
        return f"{super().announce(run, step)}, input {run.config.input}"

    def result(self, run: Run, step: Step) -> dict[str, Any]:
        splits = run.result(step.id)["splits"]
        return {f"{name}_rows": split["rows"] for name, split in splits.items()}


def _with_absolute_paths_of_models(initial: Mapping[str, Any]) -> dict[str, Any]:
    changed = dict(initial)
    if path := initial.get("path"):
        changed["path"] = _absolute(path)
    if isinstance(paths := initial.get("coordinates"), Mapping):
        changed["coordinates"] = {name: _absolute(path) for name, path in paths.items()}
    return changed


def _with_absolute_paths(coordinate: Any) -> Any:
    """The coordinate with the paths of what its fixed effect is given in full: score files, vocabulary, encoder."""
    effect = coordinate.get("fixed_effect") if isinstance(coordinate, Mapping) else None
    if not isinstance(effect, Mapping):
        return coordinate
    changed = dict(effect)
    if scores := effect.get("scores"):
        changed["scores"] = [_absolute(path) for path in ([scores] if isinstance(scores, str) else scores)]
    for part, key in (("vocabulary", "file"), ("encoder", "path")):
        given = effect.get(part)
        if isinstance(given, Mapping) and given.get(key):
            changed[part] = {**given, key: _absolute(given[key])}
    return {**coordinate, "fixed_effect": changed}


def _absolute(path: str) -> str:
    """A local path in full, for the other tasks and for whoever reads the log; a URL as it is."""
    from gdmix_core.storage import is_url

    return path if is_url(path) else os.path.abspath(os.path.expanduser(path))
