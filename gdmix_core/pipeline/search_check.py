"""The check that a search can be made: every key path is one of a number, every candidate gives a valid configuration,
and all trials can share the frame and the shards."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from gdmix_core.config.pipeline import Config
from gdmix_core.config.search_space import (
    Candidates,
    l2_lists,
    searched,
    settings_of_search,
    trial_count,
    with_values,
)
from gdmix_core.config.tune import MAX_TRIALS, Range
from gdmix_core.config.yaml_text import KeyPath, Lines, place_of
from gdmix_core.errors import ConfigError
from gdmix_core.pipeline.plan import Plan, build_plan

_CORNERS = 64


def check_search(config: Config, where: str = "config", lines: Lines | None = None) -> None:
    """Raise ConfigError for a search that cannot be made; a configuration without one passes.

    where, lines: for messages, as in pipeline.loading.parse_config.
    """
    try:
        _check(config)
    except _FaultError as fault:
        key = fault.key
        raise ConfigError(f"{place_of(key, where, lines or {})}: {'.'.join(map(str, key))}: {fault}") from None


class _FaultError(Exception):
    """A fault of a search. key: where in the configuration it is"""

    def __init__(self, key: KeyPath, message: str) -> None:
        super().__init__(message)
        self.key = key


def _check(config: Config) -> None:
    parameters = searched(config)
    if not parameters:
        if config.tune is not None:
            raise _FaultError(("tune",), "there is nothing to search; give parameters, or lists at coordinates' l2")
        return
    keys = {path: _place(config, path) for path in parameters}
    for path in l2_lists(config.model_dump()):
        if config.tune is not None and path in config.tune.parameters:
            raise _FaultError(keys[path], "this l2 is a list already; give its candidates in one place")
    for path, candidates in parameters.items():
        _check_candidates(keys[path], candidates)
        _check_path(config, keys[path], path)
    if settings_of_search(config).method == "grid" and trial_count(config) > MAX_TRIALS:
        raise _FaultError(
            ("tune",),
            f"the grid has {trial_count(config)} combinations, more than {MAX_TRIALS}; shorten its lists, "
            "or use method: random or bayesian with a number of trials",
        )
    first = {path: _some(candidates)[0] for path, candidates in parameters.items()}
    for path, candidates in parameters.items():
        _check_effect(config, keys[path], path, candidates, first)
    # Rules about two numbers are always an order, such as lower < upper: the extremes show it.
    extremes = [(min(some), max(some)) for some in map(_some, parameters.values())]
    for corner in itertools.islice(itertools.product(*extremes), _CORNERS):
        _trial_config(config, ("tune",), dict(zip(parameters, corner, strict=True)))


def _place(config: Config, path: str) -> KeyPath:
    if config.tune is not None and path in config.tune.parameters:
        return ("tune", "parameters", path)
    return tuple(path.split("."))


def _check_candidates(key: KeyPath, candidates: Candidates) -> None:
    if isinstance(candidates, Range):
        return
    if not candidates:
        raise _FaultError(key, "the list of candidates is empty")
    if len(set(candidates)) < len(candidates):
        raise _FaultError(key, "a candidate stands twice in the list")


def _check_path(config: Config, key: KeyPath, path: str) -> None:
    """Raise _FaultError unless the path leads to a key that is there."""
    parts = path.split(".")
    at: Any = config.model_dump(mode="json")
    for position, part in enumerate(parts):
        parent = ".".join(parts[:position]) or "the configuration"
        if isinstance(at, list) and part.isdigit() and int(part) < len(at):
            at = at[int(part)]
        elif isinstance(at, dict) and part in at:
            at = at[part]
        elif isinstance(at, list):
            raise _FaultError(key, f"{parent} is a list of {len(at)}, counted from 0, so there is no {part} in it")
        elif isinstance(at, dict):
            raise _FaultError(key, f"there is no key {part} in {parent}; there are {', '.join(map(str, at))}")
        else:
            raise _FaultError(key, f"{parent} is {at if at is not None else 'not set'}, so there is no {part} in it")
    if parts[0] in ("tune", "airflow", "engine", "spark", "export"):
        raise _FaultError(key, f"{parts[0]} changes no model, so there is nothing to search")
    if parts[0] == "coordinates" and len(parts) > 1 and config.coordinates[parts[1]].locked:
        raise _FaultError(key, f"coordinate {parts[1]} is locked, so nothing in it changes a model")


def _check_effect(config: Config, key: KeyPath, path: str, candidates: Candidates, first: Mapping[str, float]) -> None:
    """Raise _FaultError unless every candidate makes a valid configuration, with other trials but the same data."""
    some = _some(candidates)
    plans = [build_plan(_trial_config(config, key, {**first, path: value})) for value in some]
    of_search = build_plan(with_values(config, {other: value for other, value in first.items() if other != path}))
    for step in of_search.before_passes:
        if any(plan[step.id].settings != step.settings for plan in plans):
            raise _FaultError(
                key, f"it changes what {step.id} makes, which all trials share; make a run of its own for every value"
            )
    changed = {step for plan in plans[1:] for step in _differing(plans[0], plan)}
    if len(some) > 1 and not changed - {"export"} and len({plan.passes for plan in plans}) == 1:
        raise _FaultError(key, "it changes no result, so there is nothing to search")


def _differing(one: Plan, other: Plan) -> set[str]:
    """Return the steps of both plans whose own settings differ."""
    settings = {step.id: step.settings for step in other.steps}
    return {step.id for step in one.steps if step.id in settings and step.settings != settings[step.id]}


def _trial_config(config: Config, key: KeyPath, values: Mapping[str, float]) -> Config:
    """Raise _FaultError for values that are not allowed, or are where a number cannot be."""
    try:
        made = with_values(config, values)
    except ValidationError as error:
        faults = error.errors()
        at = ".".join(str(part) for part in faults[0]["loc"])
        message = faults[0]["msg"].removeprefix("Value error, ")
        advice = "; add integer: true to the range" if faults[0]["type"] == "int_from_float" else ""
        shown = ", ".join(f"{path}={value:g}" for path, value in values.items())
        raise _FaultError(key, f"{shown} is no valid configuration: {at}: {message}{advice}") from None
    data = made.model_dump(mode="json")
    for path in values:
        at_path: Any = data
        for part in path.split("."):
            at_path = at_path[int(part)] if isinstance(at_path, list) else at_path[part]
        if isinstance(at_path, bool) or not isinstance(at_path, int | float):
            raise _FaultError(key, f"{path} takes no number")
    return made


def _some(candidates: Candidates) -> list[float]:
    """Return all of a list; of a range its ends and, unless it is one of integers, a number between, not whole."""
    if isinstance(candidates, list):
        return candidates
    ends = [candidates.low, candidates.high]
    return ends if candidates.integer else [*ends, candidates.low + (candidates.high - candidates.low) * 0.6180339887]
