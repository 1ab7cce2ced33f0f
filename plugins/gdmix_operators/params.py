"""The trigger form: what a single run may change, and how its values reach the configuration."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from airflow.sdk import Param

from gdmix_core.config.coordinate import KINDS, Coordinate
from gdmix_core.config.pipeline import Config
from gdmix_core.config.search_space import first_trial, l2_lists, searched
from gdmix_core.config.templates import is_template
from gdmix_core.errors import ConfigError
from gdmix_core.pipeline.loading import override
from gdmix_core.pipeline.plan import build_plan
from gdmix_operators.templates import is_same_next_to, render_path

_L2_PREFIX = "l2_"


def trigger_params(config: Config) -> dict[str, Param]:
    """Return the form's fields, in order. All defaults mean "as in the YAML": scheduled runs need no form."""
    passes = build_plan(config).passes or build_plan(first_trial(config)).passes
    at_most = f"Sweeps over all coordinates at most (1 to {passes})."
    fields = {
        "date": _field(
            "Date",
            "string",
            "Day whose data is read: `ds` in the paths. Empty: the day of the run itself.",
            format="date",
        ),
        "input": _field("Input", "string", f"Directory or URL of the input. Empty: `{config.input}`."),
        "output": _field("Output", "string", f"Directory or URL of the run. Empty: `{config.output}`."),
        "passes": Param(passes, type="integer", minimum=1, maximum=passes, title="Passes", description_md=at_most),
        "l2": _field("L2 penalty", "number", "Of every coordinate. Empty: as in the YAML.", minimum=0),
    }
    fields["engine"] = Param(
        None,
        type=["null", "string"],
        enum=[None, "embedded", "spark"],
        title="Data engine",
        description_md="Who checks and groups the data: the task itself, or Spark. Empty: "
        f"`engine.data: {config.engine.data}`, as in the YAML.",
    )
    if "passes.max" in searched(config):
        fields["passes"] = _field("Passes", "integer", "Empty: searched, as in the YAML.", minimum=1)
    for name, coordinate in config.coordinates.items():
        if not coordinate.has_coefficients:
            continue
        text = f"Of `{name}` alone. Empty: the penalty of every coordinate, or {_given(coordinate)}."
        fields[_L2_PREFIX + name] = _field(
            f"L2 penalty of {name}", "number", text, minimum=0, section="Penalty by coordinate"
        )
    return fields


def _field(title: str, kind: str, description: str, **schema: Any) -> Param:
    """Return a field that is empty by default. kind: the JSON type of its value"""
    return Param(None, type=["null", kind], title=title, description_md=description, **schema)


def check_conf(conf: Mapping[str, Any] | None, content: Mapping[str, Any], own: Iterable[str] = ()) -> None:
    """Raise ConfigError for a key that no field has: Airflow itself takes any and ignores it.

    conf: the run's dag_run.conf. content: the pipeline's YAML as plain data. own: further fields, of the DAG's author.
    """
    allowed = ["date", "input", "output", "passes", "l2", "engine"]
    allowed += [_L2_PREFIX + name for name in _penalized(content)]
    allowed += [name for name in own if name not in allowed]
    unknown = [key for key in conf or {} if key not in allowed]
    if unknown:
        near = difflib.get_close_matches(unknown[0], allowed, n=1)
        suggestion = f" (did you mean {near[0]}?)" if near else ""
        raise ConfigError(
            f"unknown key in the run's conf: {', '.join(unknown)}{suggestion}; "
            f"allowed: {', '.join(allowed)}. Trigger the run again without it."
        )


def check_backfill(content: Mapping[str, Any], params: Mapping[str, Any], dates: Mapping[str, Any]) -> None:
    """Raise ConfigError for values with which all days of a backfill would read, or write, the same.

    content: the pipeline's YAML, its templates not rendered.
    """
    if params.get("date") is not None:
        raise ConfigError(
            f"date {params['date']!r} in the conf of a backfill: all its days would read the data of that one; leave "
            "it out, as each day reads its own, or trigger a single run with it"
        )
    if not params.get("output") and _is_shared(str(content["output"]), dates):
        raise ConfigError(
            f"output {content['output']!r}: all days of the backfill would write to it, each over the last; put a date "
            "into it, for example {{ ds }}"
        )
    for key, would in (("output", "write to it, each over the last"), ("input", "read it")):
        path = params.get(key)
        if path and (key == "output" or is_template(str(content[key]))) and is_same_next_to(path, dates):
            raise ConfigError(
                f"{key} {path!r}: all days of the backfill would {would}; put a date into it, for example {{{{ ds }}}}"
            )


def _is_shared(output: str, dates: Mapping[str, Any]) -> bool:
    try:
        return is_same_next_to(output, dates)
    except ConfigError:  # It names more than dates, which may well differ.
        return False


def apply_params(content: Mapping[str, Any], params: Mapping[str, Any], dates: Mapping[str, Any]) -> dict[str, Any]:
    """Set a run's values in the YAML's plain data; return a copy."""
    changes: dict[str, Any] = {key: render_path(params[key], dates) for key in ("input", "output") if params.get(key)}
    if params.get("passes") is not None:
        _set(content, changes, "passes.max", params["passes"])
    if params.get("engine") is not None:
        changes["engine"] = {**_engine(content), "data": params["engine"]}
    for name in _penalized(content):
        own = params.get(_L2_PREFIX + name)
        l2 = params.get("l2") if own is None else own
        if l2 is not None:
            _set(content, changes, f"coordinates.{name}.l2", l2)
    return override(content, changes)


def _engine(content: Mapping[str, Any]) -> Mapping[str, Any]:
    given = content.get("engine") or {}
    return given if isinstance(given, Mapping) else {}  # `engine: local` is a word for the defaults


def _penalized(content: Mapping[str, Any]) -> list[str]:
    """Return the coordinates that have a penalty: of linear models."""
    effects = {name: (given or {}).get("fixed_effect") or {} for name, given in content["coordinates"].items()}
    return [name for name, effect in effects.items() if KINDS[effect.get("model", "linear")].has_coefficients]


def _set(content: Mapping[str, Any], changes: dict[str, Any], path: str, value: float) -> None:
    """Set a value; it takes the place of candidates that are searched, so the run stays the search of the graph."""
    tuned = changes.get("tune.parameters") or (content.get("tune") or {}).get("parameters") or {}
    if path in tuned:
        changes["tune.parameters"] = {**tuned, path: [value]}
    else:
        changes[path] = [value] if path in l2_lists(content) else value


def _given(coordinate: Coordinate) -> str:
    """Return what the YAML says, in words."""
    if coordinate.automatic is not None:
        return "estimated from the data, as in the YAML"
    return f"{coordinate.l2:g} as in the YAML" if isinstance(coordinate.l2, int | float) else "the YAML's grid"
