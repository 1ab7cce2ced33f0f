"""The reader of the pipeline's YAML: templates, overrides, and errors that name key path, line and what is allowed."""

from __future__ import annotations

import datetime
import difflib
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel, Tag, ValidationError

from gdmix_core.config.model import with_absolute_paths
from gdmix_core.config.pipeline import Config
from gdmix_core.config.schedule import check_schedule
from gdmix_core.config.secret_settings import carries_secret
from gdmix_core.config.secret_templates import refuse_secret_templates
from gdmix_core.config.templates import environment, is_template
from gdmix_core.config.yaml_text import Document, KeyPath, Lines, parse_yaml, place_of
from gdmix_core.errors import ConfigError
from gdmix_core.pipeline.search_check import check_search

log = logging.getLogger(__name__)


def read_document(path: str | Path) -> Document:
    """Read a file that holds a mapping, unchecked. Raises ConfigError when it is absent or holds another thing."""
    try:
        text = Path(path).read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    document = parse_yaml(text, str(path))
    if not isinstance(document.content, dict):
        raise ConfigError(f"{path}: expected a mapping with keys such as name, input, coordinates")
    for key, hint in document.hints.items():
        log.warning("%s:%d: %s", path, document.lines[key], hint)
    return document


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Return the content of read_document."""
    content: dict[str, Any] = read_document(path).content
    return content


def load_config(
    path: str | Path,
    variables: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Config:
    """Read a pipeline's YAML, with overrides, rendered templates, and every default.

    Parameters
    ----------
    path
        The file.
    variables
        What the templates see: name → text.
    overrides
        Dotted key path, such as passes.max → value.

    Returns
    -------
    Config
        The configuration, checked.

    Raises
    ------
    ConfigError
        With every fault found, one a line, each with its key path and line.
    """
    content, lines = _overridden(path, overrides or {})
    content = render(content, variables or {}, where=str(path), lines=lines)
    with with_absolute_paths():
        return parse_config(content, where=str(path), lines=lines)


def check_file(path: str | Path, variables: Mapping[str, str], overrides: Mapping[str, Any]) -> Config:
    """Read as load_config does, but leave templates unrendered whose variables are not given, and refuse what Airflow
    would refuse."""
    content, lines = _overridden(path, overrides)
    refuse_secret_templates(content, str(path), lines=lines)
    rendered = render(content, variables, where=str(path), lines=lines, keep_unknown=True)
    config = parse_config(rendered, where=str(path), lines=lines)
    check_schedule(config.airflow, str(content["output"]), str(path))
    return config


def _overridden(path: str | Path, changes: Mapping[str, Any]) -> tuple[dict[str, Any], Lines]:
    document = read_document(path)
    set_at = [tuple(dotted.split(".")) for dotted in changes]
    lines: dict[KeyPath, int | str] = {
        key: line for key, line in document.lines.items() if not any(key[: len(at)] == at for at in set_at)
    }
    return override(document.content, changes), lines | dict.fromkeys(set_at, "--set")


def parse_config(content: Mapping[str, Any], where: str = "config", lines: Lines | None = None) -> Config:
    """Check plain data against the models. Raises ConfigError with every fault found, one a line."""
    try:
        config = Config.model_validate(content)
    except ValidationError as error:
        faults = [_describe(fault, where, lines or {}) for fault in error.errors()]
        raise ConfigError("\n".join(dict.fromkeys(faults))) from None
    check_search(config, where, lines)
    return config


def override(content: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of `content` with values set at dotted key paths, such as passes.max or coordinates.global.l2."""
    result = _copy(content)
    for dotted, value in changes.items():
        *parents, last = dotted.split(".")
        _check_coordinate(result, dotted, parents)
        at = result
        for key in parents:
            at = at.setdefault(key, {})
            if not isinstance(at, dict):
                raise ConfigError(f"cannot set {dotted}: {key} is not a mapping")
        at[last] = value
    return result


def _check_coordinate(content: Mapping[str, Any], dotted: str, parents: list[str]) -> None:
    """Raise ConfigError for a setting of a coordinate that is not there: it would be a new one, with that alone."""
    names = content.get("coordinates")
    if len(parents) < 2 or parents[0] != "coordinates" or not isinstance(names, Mapping) or parents[1] in names:
        return
    near = difflib.get_close_matches(parents[1], map(str, names), n=1)
    suggestion = f"did you mean {near[0]}?" if near else f"there are {', '.join(map(str, names))}"
    raise ConfigError(f"cannot set {dotted}: there is no coordinate {parents[1]}; {suggestion}")


def render(
    content: Any,
    variables: Mapping[str, str],
    where: str = "config",
    *,
    lines: Lines | None = None,
    keep_unknown: bool = False,
    at: KeyPath = (),
) -> Any:
    """Render every string that holds a Jinja template; at: the content's own key path, for messages.

    Raises ConfigError for a template that fails, and for a variable that is not given, unless keep_unknown: then the
    string stays as it is.
    """
    if isinstance(content, dict | list):
        items = content.items() if isinstance(content, dict) else enumerate(content)
        made = {
            key: render(value, variables, where, lines=lines, keep_unknown=keep_unknown, at=(*at, key))
            for key, value in items
        }
        return made if isinstance(content, dict) else list(made.values())
    if not isinstance(content, str) or not (is_template(content) or "{#" in content):
        return content
    import jinja2

    place = f"{place_of(at, where, lines or {})}: {'.'.join(map(str, at))}: template {content!r}"
    try:
        template = environment().from_string(content)
        return template.render({"macros": _Macros, **variables})
    except jinja2.UndefinedError as error:
        if keep_unknown:
            return content
        hint = "give it with --var NAME=VALUE, for example --var ds=2026-11-01"
        raise ConfigError(f"{place}: {error}; {hint}") from None
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from None
    except Exception as error:  # A template is a program: what its expressions raise may be anything.
        raise ConfigError(
            f"{place}: {type(error).__name__}: {str(error).rstrip('.')}; correct the expression"
        ) from None


class _Macros:
    """The macros of Airflow that a path needs: a file is the same with and without Airflow."""

    @staticmethod
    def ds_add(ds: str, days: int) -> str:
        try:
            day = datetime.date.fromisoformat(str(ds))
        except ValueError:
            raise ConfigError(f"macros.ds_add: {ds!r} is no date of the form YYYY-MM-DD") from None
        return (day + datetime.timedelta(days=days)).isoformat()


def _copy(value: Any) -> Any:
    """Copy nested mappings. One in two places, by a YAML alias, becomes two; copy.deepcopy would keep it one."""
    return {key: _copy(item) for key, item in value.items()} if isinstance(value, Mapping) else value


def _describe(fault: Any, where: str, lines: Lines) -> str:
    path: KeyPath = tuple(part for part in fault["loc"] if not str(part).startswith("["))  # [key], [range], …
    if path and (path[-1] in {"int", "float", "str"} or str(path[-1]).startswith("literal[")):
        path = path[:-1]  # not a key: which of the types a value may have
    place = place_of(path, where, lines)
    dotted = ".".join(str(part) for part in path) or "(top level)"
    if fault["type"] == "extra_forbidden":
        allowed = _allowed_keys(fault["loc"][:-1])
        near = difflib.get_close_matches(str(path[-1]), allowed, n=1)
        suggestion = f"; did you mean {near[0]}?" if near else "."
        return f"{place}: {dotted}: unknown key{suggestion} Allowed here: {', '.join(allowed)}"
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "missing":
        message = "is required"
    given = fault.get("input")
    secret = isinstance(given, str) and carries_secret(given)
    shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool) and not secret else ""
    return f"{place}: {dotted}: {message[:1].lower()}{message[1:]}{shown}"


def _allowed_keys(location: KeyPath) -> list[str]:
    """Return the keys of a mapping. location: as pydantic gives it, keys and of a union the Tag of the chosen model"""
    model: type[BaseModel] = Config
    annotation: Any = Config
    parts = iter(location)
    for part in parts:
        tagged = _tagged(annotation, str(part))
        if tagged is not None:
            model = tagged
            continue
        field = model.model_fields.get(str(part))
        if field is not None:
            annotation = field.annotation
            model = next(_models_in(annotation), model)
            if get_origin(annotation) is dict:
                next(parts, None)  # a coordinate's name, whatever it is
    return list(model.model_fields)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models_in(argument)


def _tagged(annotation: Any, tag: str) -> type[BaseModel] | None:
    if any(isinstance(found, Tag) and found.tag == tag for found in getattr(annotation, "__metadata__", ())):
        return next(_models_in(annotation), None)
    inside = (_tagged(argument, tag) for argument in getattr(annotation, "__args__", ()))
    return next((found for found in inside if found is not None), None)


def parse_assignment(text: str) -> tuple[str, Any]:
    """Split KEY=VALUE of --set; the value is read as in the file, so 2 is a number and [a, b] a list."""
    key, value = parse_variable(text)
    return key, parse_yaml(value, f"--set {text!r}").content


def parse_variable(text: str) -> tuple[str, str]:
    """Split KEY=VALUE of --var; the value is taken as it is written."""
    match = re.fullmatch(r"([^=\s]+)=(.*)", text, re.DOTALL)
    if match is None:
        raise ConfigError(f"{text!r}: expected KEY=VALUE, for example ds=2026-11-01 or passes.max=2")
    return match[1], match[2]
