"""The search of a configuration: key paths to candidates, how many trials that makes, and a trial's configuration.

This file is read whenever a pipeline's YAML is, so it imports neither numpy nor Optuna.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gdmix_core.config.pipeline import Config
from gdmix_core.config.tune import Range, Tune

Candidates = Range | list[float]
Values = Mapping[str, float]


def searched(config: Config) -> dict[str, Candidates]:
    """Return candidates by key path: lists at a coordinate's l2, then tune.parameters; empty without a search."""
    return {**l2_lists(config.model_dump()), **(config.tune.parameters if config.tune else {})}


def settings_of_search(config: Config) -> Tune:
    """Return the configuration's `tune`; a list at l2 alone is a grid."""
    return config.tune or Tune()


def trial_count(config: Config) -> int:
    """Return how many trials the search makes; 0 without a search."""
    parameters = searched(config)
    if not parameters:
        return 0
    tune = settings_of_search(config)
    lists = [values for values in parameters.values() if isinstance(values, list)]
    combinations = math.prod(map(len, lists)) if len(lists) == len(parameters) else math.inf
    return int(min(tune.trials or math.inf, combinations))


def round_count(config: Config) -> int:
    return -(-trial_count(config) // settings_of_search(config).parallel)


def round_id(number: int) -> str:
    """Return the step id of a round, from 1."""
    return f"round_{number:02d}"


def trials_of_round(config: Config, number: int) -> range:
    """Return the numbers of the trials of a round; both count from 1."""
    parallel = settings_of_search(config).parallel
    first = (number - 1) * parallel + 1
    return range(first, min(first + parallel, trial_count(config) + 1))


def with_values(config: Config, values: Values, output: str | None = None) -> Config:
    """Return the configuration of one trial: numbers in place of what is searched, and no search.

    Raises pydantic's ValidationError for values that make no valid configuration.
    """
    data = config.model_dump(mode="json") | {"tune": None}
    if output is not None:
        data["output"] = output
    for path, value in values.items():
        *parents, last = path.split(".")
        at: Any = data
        for key in parents:
            at = at[int(key)] if isinstance(at, list) else at[key]
        at[int(last) if isinstance(at, list) else last] = value
    return Config.model_validate(data)


def first_trial(config: Config) -> Config:
    """Return the configuration with the first candidate of everything."""
    parameters = searched(config).items()
    return with_values(config, {path: c.low if isinstance(c, Range) else c[0] for path, c in parameters})


def shown_name(path: str) -> str:
    """Return a key path as tables and messages show it: coordinates are named without the word."""
    return path.removeprefix("coordinates.")


def shown_values(values: Values) -> str:
    return ", ".join(f"{shown_name(path)}={value:.6g}" for path, value in values.items())


def on_a_log_scale(path: str, candidates: Candidates) -> bool:
    """Return whether ratios count rather than differences: with `log: true`, and for a list at l2 without zeros."""
    if isinstance(candidates, Range):
        return candidates.log
    return path.endswith(".l2") and min(candidates) > 0


def l2_lists(content: Mapping[str, Any]) -> dict[str, list[float]]:
    """Return the lists at a coordinate's l2, by key path. content: a configuration as plain data."""
    coordinates = content["coordinates"].items()
    return {f"coordinates.{name}.l2": c["l2"] for name, c in coordinates if isinstance(c.get("l2"), list)}
