"""Settings of one coordinate: what is refused, with its message, key path and line; and what penalties come of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gdmix_core.config.coordinate import AutomaticL2, Coordinate
from gdmix_core.errors import ConfigError
from gdmix_core.pipeline.loading import load_config, parse_config

YAML = """\
name: ratings
input: in
output: out
coordinates:
  global:
    fixed_effect: {}
    bag: global
  per_user:
    random_effect:
      entity: user_id
    bag: global
"""
USER = "    bag: global\n"


def fault(tmp_path: Path, lines: str, *, top: str = "", replace: tuple[str, str] = ("", "")) -> str:
    """What is said of the YAML above with more lines at the end of per_user; the path replaced by FILE."""
    path = tmp_path / "pipeline.yaml"
    path.write_text(YAML.replace(*replace) + lines + top)
    with pytest.raises(ConfigError) as error:
        load_config(path, {})
    return str(error.value).replace(str(path), "FILE")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("    l2: much\n", ["FILE:12: coordinates.per_user.l2: ", "a number >= 0, auto, {auto: coordinate | "]),
        ("    l2: -1\n", ["FILE:12: coordinates.per_user.l2: ", "expected a number >= 0", "given: -1"]),
        ("    l2: .inf\n", ["FILE:12: coordinates.per_user.l2: ", "expected a number >= 0"]),
        ("    l2: .nan\n", ["FILE:12: coordinates.per_user.l2: ", "expected a number >= 0"]),
        ("    l1: .inf\n", ["FILE:12: coordinates.per_user.l1: ", "finite number"]),
        ("    bounds: [{lower: .nan}]\n", ["coordinates.per_user.bounds", "finite number"]),
        ("    l2: true\n", ["FILE:12: coordinates.per_user.l2: ", "expected a number >= 0"]),
        ("    l2: []\n", ["FILE:12: coordinates.per_user.l2: ", "or a list of numbers to try"]),
        ("    l2: [1, -2]\n", ["FILE:12: coordinates.per_user.l2: ", "or a list of numbers to try"]),
        ("    l2: [1, auto]\n", ["FILE:12: coordinates.per_user.l2: ", "or a list of numbers to try"]),
        ("    l2: {auto: entity}\n",
         ["coordinates.per_user.l2: expected a number", "intercept_slopes | feature", "not {'auto': 'entity'}"]),
        ("    l2: {automatic: feature}\n",
         ["coordinates.per_user.l2: ", "auto: coordinate", "not {'automatic': 'feature'}"]),
        ("    intercept: false\n    bounds: [{name: (INTERCEPT), lower: 0}]\n",
         ["a bound limits the intercept, but there is none"]),
        ("    l1: -0.5\n", ["FILE:12: coordinates.per_user.l1: ", "greater than or equal to 0", "given: -0.5"]),
        ("    alpha: 1.5\n", ["FILE:12: coordinates.per_user.alpha: ", "less than or equal to 1", "given: 1.5"]),
        ("    alpha: -0.1\n", ["FILE:12: coordinates.per_user.alpha: ", "greater than or equal to 0"]),
        ("    alpha: 0.5\n    l1: 1\n", ["coordinates.per_user: ", "give l1, or alpha as the share of l2 that is L1"]),
        ("    l2: auto\n    l1: 1\n", ["coordinates.per_user: ", "a Gaussian prior; it goes with neither l1"]),
        ("    l2: auto\n    alpha: 0.5\n", ["coordinates.per_user: ", "goes with neither l1 nor alpha"]),
        ("    l2: auto\n    bounds: [{lower: 0}]\n", ["coordinates.per_user: ", "a bound cuts off; give l2 a number"]),
        ("    bounds: [{name: a}]\n", ["FILE:12: coordinates.per_user.bounds", "needs lower, upper or both"]),
        ("    bounds: [{lower: 2, upper: 1.5}]\n", ["per_user.bounds", "lower (2) must be below upper (1.5)"]),
        ("    bounds: [{lower: 1, upper: 1}]\n", ["coordinates.per_user.bounds", "lower (1) must be below upper (1)"]),
        ("    bounds: [{lower: 1, high: 2}]\n", ["bounds", "high: unknown key", "name, term, lower, upper"]),
        ("    normalization: variance\n", ["FILE:12: coordinates.per_user.normalization: ", "'max_magnitude'"]),
        ("    normalization: standardization\n    intercept: false\n",
         ["coordinates.per_user: ", "moves the features' means into the intercept, so it needs one"]),
        ("    normalization: standardization\n    bounds: [{name: (INTERCEPT), lower: 0}]\n",
         ["coordinates.per_user: ", "cannot be bounded; use standard_deviation"]),
        ("    variances: diagonal\n", ["FILE:12: coordinates.per_user.variances: ", "'none', 'simple' or 'full'"]),
        ("    locked: true\n", ["coordinate per_user is locked, so initial_model must say where its model is"]),
        ("    fixed_effect: {}\n", ["coordinates.per_user: ", "give exactly one of fixed_effect and random_effect"]),
    ],
)  # fmt: skip
def test_faults_of_a_coordinate(tmp_path: Path, lines: str, words: list[str]):
    told = fault(tmp_path, lines)
    assert "FILE:" in told
    for word in words:
        assert word in told


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("      features_to_samples: 0\n", ["random_effect.features_to_samples: ", "greater than 0", "given: 0"]),
        ("      samples: {min: 5, max: 3}\n", ["random_effect.samples: ", "max (3) is below min (5)"]),
        ("      samples: {min: 0}\n", ["random_effect.samples.min: ", "greater than or equal to 1"]),
        ("      samples: {max: 0}\n", ["random_effect.samples.max: ", "greater than or equal to 1"]),
        ("      shards: 0\n", ["random_effect.shards: ", "must be between 1 and 100000, or auto"]),
        ("      groups: 0\n", ["random_effect.groups: ", "greater than or equal to 1"]),
        ("      tolerance: 0\n", ["random_effect.tolerance: ", "greater than 0"]),
        ("      max_iterations: 0\n", ["random_effect.max_iterations: ", "greater than or equal to 1"]),
        ("      solver: lbfgs\n", ["random_effect.solver: unknown key", "features_to_samples"]),
    ],
)
def test_faults_of_a_random_effect(tmp_path: Path, lines: str, words: list[str]):
    told = fault(tmp_path, "", replace=("      entity: user_id\n", "      entity: user_id\n" + lines))
    for word in ["FILE:11: coordinates.per_user.random_effect", *words]:
        assert word in told


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("downsampling: 0", ["fixed_effect.downsampling: ", "greater than 0"]),
        ("downsampling: 1.01", ["fixed_effect.downsampling: ", "less than or equal to 1"]),
        ("solver: owlqn", ["fixed_effect.solver: ", "'auto', 'lbfgs' or 'newton_cg'"]),
    ],
)
def test_faults_of_a_fixed_effect(tmp_path: Path, settings: str, words: list[str]):
    told = fault(tmp_path, "", replace=("fixed_effect: {}", f"fixed_effect: {{{settings}}}"))
    for word in ["FILE:6: coordinates.global.", *words]:
        assert word in told


@pytest.mark.parametrize(
    ("top", "words"),
    [
        ("initial_model: {}\n", ["initial_model: ", "needs path (a run or its export) or coordinates"]),
        (
            "initial_model: {path: a, prior_weight: -1}\n",
            ["initial_model.prior_weight: ", "greater than or equal to 0"],
        ),
        ("initial_model: {path: a, entities_without_data: forget}\n", ["entities_without_data: ", "'keep' or 'drop'"]),
        ("initial_model: {coordinates: {per_item: x}}\n", ["names per_item, which is no coordinate of this pipeline"]),
    ],
)
def test_faults_of_the_initial_model(tmp_path: Path, top: str, words: list[str]):
    told = fault(tmp_path, "", top=top)
    for word in words:
        assert word in told


@pytest.mark.parametrize("name", ["gate", "accelerate"])
def test_groups_of_a_coordinate_are_no_step_of_a_pass(name: str):
    """Airflow would have two tasks of one name."""
    effect: dict[str, Any] = {"entity": "user_id"}
    content = {"name": "x", "input": "i", "output": "o", "coordinates": {name: {"random_effect": effect}}}
    assert name in parse_config(content).coordinates
    content["coordinates"]["b"] = {"random_effect": {"entity": "user_id", "groups": 2}}
    with pytest.raises(ConfigError, match=rf"with random_effect\.groups, {name} is the name of a task"):
        parse_config(content)


def test_every_coordinate_locked():
    content: dict[str, Any] = {"name": "x", "input": "i", "output": "o", "initial_model": "runs/1"}
    content["coordinates"] = {"a": {"fixed_effect": {}, "locked": True}}
    with pytest.raises(ConfigError, match="every coordinate is locked or external: nothing to train"):
        parse_config(content)
    content["coordinates"]["b"] = {"fixed_effect": {}}
    config = parse_config(content)
    assert config.initial_model is not None
    assert config.initial_model.path == "runs/1"


@pytest.mark.parametrize(
    ("weight", "choice", "keeps"), [(0, None, False), (0.5, None, True), (0, "keep", True), (0.5, "drop", False)]
)
def test_earlier_features_are_kept_under_a_prior_unless_it_is_said(weight: float, choice: str | None, keeps: bool):
    content: dict[str, Any] = {"name": "x", "input": "i", "output": "o", "coordinates": {"a": {"fixed_effect": {}}}}
    initial = {"path": "r", "prior_weight": weight, "features_without_data": choice}
    config = parse_config({**content, "initial_model": initial})
    assert config.initial_model is not None
    assert config.initial_model.keeps_features is keeps


def coordinate(**settings: Any) -> Coordinate:
    return Coordinate.model_validate({"random_effect": {"entity": "u"}, "bag": "b", **settings})


@pytest.mark.parametrize(
    ("settings", "l2", "l1"),
    [
        ({}, 1.0, 0.0),
        ({"l2": 0.3, "l1": 0.7}, 0.3, 0.7),
        ({"l2": 2.0, "alpha": 0.25}, 1.5, 0.5),
        ({"l2": 2.0, "alpha": 1}, 0.0, 2.0),
        ({"l2": 2.0, "alpha": 0}, 2.0, 0.0),
        ({"l2": 0, "alpha": 0.5}, 0.0, 0.0),
    ],
)
def test_weights_of_both_penalties(settings: dict[str, float], l2: float, l1: float):
    found = coordinate(**settings)
    assert (found.l2_weight, found.l1_weight) == pytest.approx((l2, l1))
    assert found.automatic is None


def test_automatic_l2_spelled_short_and_long():
    assert coordinate(l2="auto").l2 == coordinate(l2={"auto": "intercept_slopes"}).l2 == AutomaticL2()
    assert coordinate(l2={"auto": "feature"}).automatic == AutomaticL2(auto="feature")
    found = coordinate(l2="auto")
    assert found.l1_weight == 0.0
    with pytest.raises(ValueError, match="not one number"):
        _ = found.l2_weight
    assert Coordinate.model_validate(found.model_dump(mode="json")) == found


def test_a_grid_has_no_one_weight():
    found = coordinate(l2=[0.1, 1, 10])
    assert found.l2 == [0.1, 1.0, 10.0]
    with pytest.raises(ValueError, match=r"\[0\.1, 1\.0, 10\.0\], not one number"):
        _ = found.l2_weight


def test_settings_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        coordinate().l1 = 1.0  # type: ignore[misc]


def test_settings_of_linear_models_are_refused_elsewhere_but_spelled_out_defaults_are_not():
    external = {"fixed_effect": {"model": "external", "scores": "scores.parquet"}}
    spelled_out = Coordinate.model_validate(external).model_dump(mode="json", exclude_none=True)
    assert {"l2", "bounds", "intercept"} <= set(spelled_out)
    assert Coordinate.model_validate(spelled_out) == Coordinate.model_validate(external)
    of_linear = "is a setting of linear models;"
    foreign = {"l2": (2.0, of_linear), "bounds": ([{"lower": 0}], of_linear), "bag": ("global", of_linear)}
    foreign["locked"] = (True, "is a setting of linear models and text networks;")
    for name, (value, message) in foreign.items():
        with pytest.raises(ValidationError, match=f"{name} {message}"):
            Coordinate.model_validate({**external, name: value})
