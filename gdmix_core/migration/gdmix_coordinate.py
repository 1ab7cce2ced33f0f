"""One coordinate of a GDMix workflow as one of ours."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gdmix_core.errors import ConfigError
from gdmix_core.migration import gdmix_keys
from gdmix_core.migration.detext_coordinate import translate_detext
from gdmix_core.migration.names import plain
from gdmix_core.migration.translation import Section


@dataclass(frozen=True)
class GdmixCoordinate(Section):
    """A coordinate as GDMix's YAML has it. fixed: whether it stands among the fixed effects."""

    fixed: bool

    @property
    def schema(self) -> dict[str, Any]:
        found = self.get("gdmix_config") or {}
        if not isinstance(found, dict):
            raise ConfigError(f"{self.name}.gdmix_config: expected a mapping, found {found!r}")
        return found

    @property
    def is_detext(self) -> bool:
        return bool(self.schema.get("model_type") == "detext")


def translate_coordinate(given: GdmixCoordinate, task: str) -> dict[str, Any]:
    """Translate a coordinate; its `data` is still the whole path of the folder."""
    if given.is_detext:
        return translate_detext(given)
    effect = {"fixed_effect": _fixed(given)} if given.fixed else {"random_effect": _random(given)}
    bag = given.get("feature_bag")
    penalty = given.number("l2_reg_weight", 1.0)
    if "l2_reg_weight" not in given.settings:
        given.check("l2_reg_weight", "not given: GDMix's code takes 1.0 (its documentation says 0.001)")
    intercept = _boolean(given, "has_intercept", True)
    covered = _boolean(given, "regularize_bias", True)
    if "regularize_bias" not in given.settings and intercept:
        given.check(
            "regularize_bias",
            "not given: GDMix's code takes true (its documentation says false), so regularize_intercept is true",
        )
    mode = given.get("fixed_effect_variance_mode" if given.fixed else "random_effect_variance_mode")
    if mode is not None and str(mode).lower() not in ("simple", "full"):
        raise ConfigError(f"{given.name}: variance mode {str(mode)!r}; GDMix has simple and full")
    _unknown_keys(given)
    return {
        **effect,
        "data": _folder(given, bag),
        **({"bag": str(bag)} if bag is not None else {}),
        "l2": plain(penalty / 2 if task == "linear_regression" else penalty),
        **({} if intercept else {"intercept": False}),
        "regularize_intercept": covered and intercept,
        **({"variances": str(mode).lower()} if mode is not None else {}),
    }


def _fixed(given: GdmixCoordinate) -> dict[str, Any]:
    return _integers(given, {"num_of_lbfgs_iterations": "max_iterations", "num_of_lbfgs_curvature_pairs": "history"})


def _random(given: GdmixCoordinate) -> dict[str, Any]:
    if not given.get("partition_entity"):
        raise ConfigError(f"{given.name}: partition_entity is missing: the column with the entity's id")
    result = given.result
    if "num_partitions" in given.settings:
        result.changed(
            "num_partitions",
            "shards: the unit of work, of memory and of retry. Leave it out, and shards get about 2M rows each",
        )
    if "num_of_lbfgs_iterations" in given.settings:
        result.changed(
            "num_of_lbfgs_iterations", "of a random effect: of Newton's method, which needs far fewer than L-BFGS"
        )
    if "num_of_lbfgs_curvature_pairs" in given.settings:
        result.ignored("num_of_lbfgs_curvature_pairs", "of a random effect: Newton's method has none")
    numbers = _integers(given, {"num_partitions": "shards", "num_of_lbfgs_iterations": "max_iterations"})
    return {"entity": str(given.get("partition_entity")), **numbers}


def _integers(given: GdmixCoordinate, ours: Mapping[str, str]) -> dict[str, Any]:
    """Read those of these keys that are given, as numbers under our names."""
    return {name: int(given.number(key)) for key, name in ours.items() if key in given.settings}


def _boolean(given: GdmixCoordinate, key: str, default: bool) -> bool:
    value = given.get(key, default)
    if not isinstance(value, bool):
        raise ConfigError(f"{given.name}.{key}: expected true or false, found {value!r}")
    return value


def _folder(given: GdmixCoordinate, bag: str | None) -> str:
    """Find the coordinate's folder by its training data; note what does not lie where it has to here."""
    training = given.get("training_data_dir")
    if not training:
        raise ConfigError(f"{given.name}: training_data_dir is missing")
    folder, _, last = str(training).rstrip("/").rpartition("/")
    if last != "trainingData":
        given.check("training_data_dir", f"must be {folder or '.'}/trainingData; move or link {training}")
    wanted = {"metadata_file": "metadata/tensor_metadata.json", "validation_data_dir": "validationData"}
    if bag is not None:
        wanted["feature_file"] = f"featureList/{bag}"
    for key, below in wanted.items():
        path = given.get(key)
        expected = f"{folder}/{below}" if folder else below
        if path and str(path).rstrip("/") != expected:
            given.check(key, f"must be {expected}; move or link {path}")
    if bag is not None and not given.get("feature_file"):
        given.check(
            "feature_file",
            f"not given: GDMix then writes the intercept alone; here {folder}/featureList/{bag} is needed",
        )
    return folder or "."


def _unknown_keys(given: GdmixCoordinate) -> None:
    ignored = {**gdmix_keys.LINEAR, **(gdmix_keys.FIXED if given.fixed else gdmix_keys.RANDOM)}
    for key in given.settings:
        if key in ignored:
            given.result.ignored(key, ignored[key])
        elif key not in gdmix_keys.TRANSLATED:
            near = difflib.get_close_matches(key, (*gdmix_keys.TRANSLATED, *ignored), n=1)
            meant = f"; {near[0]} may have been meant, and GDMix took its default" if near and given.fixed else ""
            what = "unknown key, which GDMix ignores too" if given.fixed else "unknown key, at which GDMix fails"
            given.check(key, what + meant)
