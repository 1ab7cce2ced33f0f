"""Searches that cannot be made, and what the message says."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from gdmix_core.config.search_space import searched, trial_count, with_values
from gdmix_core.errors import ConfigError
from gdmix_core.pipeline.loading import load_config, parse_config

CONTENT: dict[str, Any] = {
    "name": "p",
    "input": "i",
    "output": "o",
    "coordinates": {
        "global": {"fixed_effect": {}, "bag": "g", "bounds": [{"name": "age", "lower": 0.0, "upper": 1.0}]},
        "per_user": {"random_effect": {"entity": "user_id"}, "bag": "u"},
    },
    "passes": {"max": 2},
}


def grid(parameters: dict[str, Any], **tune: Any) -> dict[str, Any]:
    content = copy.deepcopy(CONTENT)
    content["tune"] = {"parameters": parameters, **tune}
    return content


def message(content: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as error:
        parse_config(content)
    return str(error.value)


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("coordinates.global.l2", [0, 1]),
        ("coordinates.global.alpha", [0, 0.5, 1]),
        ("coordinates.global.bounds.0.upper", [1, 2]),
        ("coordinates.global.fixed_effect.tolerance", [1e-3, 1e-6]),
        ("coordinates.global.fixed_effect.downsampling", [0.1, 1]),
        ("coordinates.per_user.random_effect.max_iterations", [1, 10]),
        ("coordinates.per_user.random_effect.features_to_samples", [0.5, 2]),
        ("passes.max", [1, 3]),
        ("passes.min_delta", [0, 0.1]),
    ],
)
def test_any_number_that_changes_a_model_can_be_searched(path: str, values: list[float]) -> None:
    made = parse_config(grid({path: values}))
    assert searched(made) == {path: values}
    assert trial_count(made) == len(values)


def test_a_number_in_a_list_can_be_searched() -> None:
    content = grid({"coordinates.global.fixed_effect.hidden.1": [4, 8]})
    network = {"model": "text", "document": "title", "hidden": [16, 8]}
    content["coordinates"]["global"] = {"fixed_effect": network}
    made = parse_config(content)
    assert with_values(made, dict.fromkeys(searched(made), 4)).coordinates["global"].text.hidden == [16, 4]


@pytest.mark.parametrize(
    ("path", "values", "words"),
    [
        ("coordinates.per_usr.l2", [1, 2], ["no key per_usr in coordinates", "global, per_user"]),
        ("coordinates.global.l3", [1, 2], ["no key l3 in coordinates.global"]),
        ("nothing", [1, 2], ["no key nothing in the configuration"]),
        ("coordinates.per_user.fixed_effect.tolerance", [1, 2], ["fixed_effect is not set"]),
        ("initial_model.prior_weight", [1, 2], ["initial_model is not set"]),
        ("coordinates.global.bounds.1.upper", [1, 2], ["bounds is a list of 1"]),
        ("coordinates.global.bag", [1, 2], ["bag=1 is no valid configuration", "string"]),
        ("coordinates.global.intercept", [0, 1], ["true or false"]),
        ("coordinates.global", [0, 1], ["no valid configuration"]),
        ("coordinates.global.l2", [1, -1], ["l2=-1 is no valid configuration"]),
        ("coordinates.global.alpha", [0.5, 1.5], ["alpha=1.5 is no valid", "less than or equal to 1"]),
        ("coordinates.global.bounds.0.upper", [1, -1], ["upper=-1", "must be below"]),
        ("passes.max", [1, 2.5], ["passes.max=2.5"]),
        ("passes.max", {"low": 1, "high": 5}, ["add integer: true"]),
        (
            "coordinates.per_user.random_effect.samples.max",
            [5, 50],
            ["changes what partition makes", "all trials share"],
        ),
        ("coordinates.per_user.random_effect.samples.max", [5], ["changes what partition makes"]),
        ("coordinates", [0, 1], ["no valid configuration"]),
        ("coordinates.per_user.random_effect.shards", [5, 50], ["changes what partition makes"]),
        ("frame.rows_per_block", [5, 50], ["changes what validate makes"]),
        ("export.sparsity_threshold", [0, 1], ["export changes no model"]),
        ("airflow.retries", [0, 1], ["airflow changes no model"]),
        ("tune.seed", [0, 1], ["tune changes no model"]),
        ("coordinates.per_user.random_effect.groups", [1, 2], ["changes no result"]),
        ("coordinates.global.l2", [], ["empty"]),
        ("coordinates.global.l2", [1, 1.0], ["stands twice"]),
    ],
)
def test_what_cannot_be_searched_says_why(path: str, values: Any, words: list[str]) -> None:
    tune = {"method": "random", "trials": 3} if isinstance(values, dict) else {}
    text = message(grid({path: values}, **tune))
    assert text.startswith(f"config: tune.parameters.{path}: ")
    for word in words:
        assert word in text
    assert "\n" not in text


def test_infinity_is_no_number_to_try() -> None:
    text = message(grid({"coordinates.global.l2": [1, float("inf")]}))
    assert text == "config: tune.parameters.coordinates.global.l2.1: input should be a finite number (given: inf)"


def test_numbers_that_do_not_go_together() -> None:
    """Each alone would do: lower −1 or 3, upper 4 or 2."""
    bounds = "coordinates.global.bounds.0"
    parse_config(grid({f"{bounds}.lower": [-1, 1], f"{bounds}.upper": [4, 2]}))
    text = message(grid({f"{bounds}.lower": [-1, 3], f"{bounds}.upper": [4, 2]}))
    assert "lower=3" in text
    assert "must be below" in text


def test_a_coordinate_that_is_locked() -> None:
    content = grid({"coordinates.global.l2": [1, 2]})
    content["coordinates"]["global"]["locked"] = True
    content["initial_model"] = "elsewhere"
    assert "coordinate global is locked" in message(content)


def test_given_twice_or_not_at_all() -> None:
    content = grid({"coordinates.global.l2": [1, 2]})
    content["coordinates"]["global"]["l2"] = [3, 4]
    assert "a list already" in message(content)
    assert "nothing to search" in message({**CONTENT, "tune": {}})


def test_a_grid_nobody_would_wait_for() -> None:
    axis = [float(n) for n in range(1, 41)]
    text = message(grid({"coordinates.global.l2": axis, "coordinates.per_user.l2": axis}))
    assert "1600 combinations" in text
    assert "random or bayesian" in text


@pytest.mark.parametrize(
    ("candidates", "words"),
    [
        (5, "l2: expected a list of values, or a range"),
        (["a"], "l2.0: input should be a valid number"),
        ({"low": 1}, "l2.high: is required"),
        ({"low": 1, "high": 2, "lag": True}, "l2.lag: unknown key"),
    ],
)
def test_candidates_are_a_list_or_a_range(candidates: Any, words: str) -> None:
    text = message(grid({"coordinates.global.l2": candidates}, method="random", trials=3))
    assert text.startswith("config: tune.parameters.coordinates.global.")
    assert words in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"low": 2, "high": 1}, "must be below"),
        ({"low": 0, "high": 1, "log": True}, "above 0"),
        ({"low": 1.5, "high": 4, "integer": True}, "whole numbers"),
        ({"low": 1, "high": float("inf")}, "finite"),
    ],
)
def test_ranges(limits: dict[str, Any], words: str) -> None:
    assert words in message(grid({"coordinates.global.l2": limits}, method="random", trials=3))


def test_the_message_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump(CONTENT) + "tune:\n  parameters:\n    coordinates.global.l3: [1, 2]\n")
    line = len(path.read_text().splitlines())
    with pytest.raises(ConfigError, match=f"^{path}:{line}: tune.parameters.coordinates.global.l3: there is no key l3"):
        load_config(path)


def test_a_list_at_l2_names_its_line(tmp_path: Path) -> None:
    content = copy.deepcopy(CONTENT)
    content["coordinates"]["per_user"]["l2"] = [1, 1]
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match=r"p.yaml:\d+: coordinates.per_user.l2: a candidate stands twice"):
        load_config(path)


def test_without_a_search_nothing_is_checked() -> None:
    assert searched(parse_config(CONTENT)) == {}
    assert trial_count(parse_config(CONTENT)) == 0
