"""Reading the pipeline's YAML: templates, overrides, and errors that name key path, line and what is allowed."""

from __future__ import annotations

import datetime
import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_origin

import yaml
from pydantic import BaseModel, Tag, ValidationError

from gdmix_core.config import Config
from gdmix_core.errors import ConfigError
from gdmix_core.search.check import check_search

KeyPath = tuple[str | int, ...]


def load_yaml(path: str | Path) -> dict[str, Any]:
    """The file's mapping as plain data, unchecked. Raises ConfigError when it is absent or no mapping."""
    try:
        content = yaml.safe_load(Path(path).read_text())
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected a mapping with keys such as name, input, coordinates")
    return content


def load_config(
    path: str | Path,
    variables: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Config:
    """Reads, applies `overrides` (dotted key path → value), renders the templates with `variables`, checks."""
    content = render(override(load_yaml(path), overrides or {}), variables or {}, where=str(path))
    return parse_config(content, where=str(path), lines=line_numbers(path))


def check_file(path: str | Path, variables: Mapping[str, str], overrides: Mapping[str, Any]) -> Config:
    """As load_config, but templates may stay unrendered where their variables are not given."""
    content = render(override(load_yaml(path), overrides), variables, where=str(path), keep_unknown=True)
    return parse_config(content, where=str(path), lines=line_numbers(path))


def parse_config(
    content: Mapping[str, Any], where: str = "config", lines: Mapping[KeyPath, int] | None = None
) -> Config:
    """Checks plain data against the models. Raises ConfigError with every fault found, one a line."""
    try:
        config = Config.model_validate(content)
    except ValidationError as error:
        faults = [_describe(fault, where, lines or {}) for fault in error.errors()]
        raise ConfigError("\n".join(dict.fromkeys(faults))) from None
    check_search(config, where, lines)
    return config


def override(content: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `content` with values set at dotted key paths, such as passes.max or coordinates.global.l2."""
    result = _copy(content)
    for dotted, value in changes.items():
        *parents, last = dotted.split(".")
        at = result
        for key in parents:
            at = at.setdefault(key, {})
            if not isinstance(at, dict):
                raise ConfigError(f"cannot set {dotted}: {key} is not a mapping")
        at[last] = value
    return result


def render(content: Any, variables: Mapping[str, str], where: str = "config", *, keep_unknown: bool = False) -> Any:
    """Renders every string that holds a Jinja template. Raises ConfigError for a variable that is not given, unless
    keep_unknown: then the string stays as it is."""
    if isinstance(content, dict):
        return {key: render(value, variables, where, keep_unknown=keep_unknown) for key, value in content.items()}
    if isinstance(content, list):
        return [render(value, variables, where, keep_unknown=keep_unknown) for value in content]
    if not isinstance(content, str) or "{{" not in content:
        return content
    import jinja2

    try:
        template = jinja2.Environment(undefined=jinja2.StrictUndefined).from_string(content)
        return template.render({"macros": _Macros, **variables})
    except jinja2.UndefinedError as error:
        if keep_unknown:
            return content
        hint = "give it with --var NAME=VALUE, for example --var ds=2026-11-01"
        raise ConfigError(f"{where}: template {content!r}: {error}; {hint}") from None
    except jinja2.TemplateSyntaxError as error:
        raise ConfigError(f"{where}: template {content!r}: {error}") from None


class _Macros:
    """Those of Airflow's macros that a path needs: a file is the same with and without Airflow."""

    @staticmethod
    def ds_add(ds: str, days: int) -> str:
        try:
            day = datetime.date.fromisoformat(str(ds))
        except ValueError:
            raise ConfigError(f"macros.ds_add: {ds!r} is no date of the form YYYY-MM-DD") from None
        return (day + datetime.timedelta(days=days)).isoformat()


def _copy(value: Any) -> Any:
    return {key: _copy(item) for key, item in value.items()} if isinstance(value, Mapping) else value


def _describe(fault: Any, where: str, lines: Mapping[KeyPath, int]) -> str:
    path: KeyPath = tuple(part for part in fault["loc"] if not str(part).startswith("["))  # [key], [range], …
    if path and (path[-1] in {"int", "float", "str"} or str(path[-1]).startswith("literal[")):
        path = path[:-1]  # not a key: which of the types a value may have
    line = next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), None)
    place = f"{where}:{line}" if line else where
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
    shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool) else ""
    return f"{place}: {dotted}: {message[:1].lower()}{message[1:]}{shown}"


def _allowed_keys(location: KeyPath) -> list[str]:
    """location: of the mapping, as pydantic gives it: keys, and of a union the Tag of the model that was chosen."""
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


def line_numbers(path: str | Path) -> dict[KeyPath, int]:
    """Line number of every key of the file, by key path."""

    def walk(node: Any, at: KeyPath) -> Iterator[tuple[KeyPath, int]]:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                here = (*at, key.value)
                yield here, key.start_mark.line + 1
                yield from walk(value, here)
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                yield (*at, index), value.start_mark.line + 1
                yield from walk(value, (*at, index))

    return dict(walk(yaml.compose(Path(path).read_text(), Loader=yaml.SafeLoader), ()))


def parse_assignment(text: str) -> tuple[str, Any]:
    """KEY=VALUE of --set: the value is read as YAML, so 2 is a number and [a, b] a list."""
    key, value = parse_variable(text)
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"{text!r}: the value is not valid YAML: {error}") from None


def parse_variable(text: str) -> tuple[str, str]:
    """KEY=VALUE of --var: the value is taken as it is written."""
    match = re.fullmatch(r"([^=\s]+)=(.*)", text, re.DOTALL)
    if match is None:
        raise ConfigError(f"{text!r}: expected KEY=VALUE, for example ds=2026-11-01 or passes.max=2")
    return match[1], match[2]
