"""One coordinate of a GDMix workflow as one of ours."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

from gdmix_core.errors import ConfigError
from gdmix_core.migration import gdmix_keys
from gdmix_core.migration.detext_coordinate import translate_detext
from gdmix_core.migration.names import number, plain
from gdmix_core.migration.notes import Translation


@dataclass(frozen=True)
class Given:
    """A coordinate as GDMix's YAML has it, and which map it stands in."""

    name: str
    fixed: bool
    settings: dict[str, Any]

    @property
    def schema(self) -> dict[str, Any]:
        found = self.settings.get("gdmix_config") or {}
        if not isinstance(found, dict):
            raise ConfigError(f"{self.name}.gdmix_config: expected a mapping, found {found!r}")
        return found

    @property
    def is_detext(self) -> bool:
        return bool(self.schema.get("model_type") == "detext")


def translate_coordinate(given: Given, task: str, result: Translation) -> dict[str, Any]:
    """Our coordinate; its `data` is still the whole path of the folder."""
    if given.is_detext:
        return translate_detext(given.name, given.settings, result)
    settings = given.settings
    effect = {"fixed_effect": _fixed(given)} if given.fixed else {"random_effect": _random(given, result)}
    bag = settings.get("feature_bag")
    penalty = number(settings.get("l2_reg_weight", 1.0), f"{given.name}.l2_reg_weight")
    if "l2_reg_weight" not in settings:
        result.check(f"{given.name}.l2_reg_weight", "not given: GDMix's code takes 1.0 (its documentation says 0.001)")
    intercept = _boolean(given, "has_intercept", True)
    covered = _boolean(given, "regularize_bias", True)
    if "regularize_bias" not in settings and intercept:
        result.check(
            f"{given.name}.regularize_bias",
            "not given: GDMix's code takes true (its documentation says false), so regularize_intercept is true",
        )
    mode = settings.get("fixed_effect_variance_mode" if given.fixed else "random_effect_variance_mode")
    _unknown_keys(given, result)
    return {
        **effect,
        "data": _folder(given, bag, result),
        **({"bag": str(bag)} if bag is not None else {}),
        "l2": plain(penalty / 2 if task == "linear_regression" else penalty),
        **({} if intercept else {"intercept": False}),
        "regularize_intercept": covered and intercept,
        **({"variances": _variances(given, str(mode))} if mode is not None else {}),
    }


def _fixed(given: Given) -> dict[str, Any]:
    effect: dict[str, Any] = {}
    for key, ours in (("num_of_lbfgs_iterations", "max_iterations"), ("num_of_lbfgs_curvature_pairs", "history")):
        if key in given.settings:
            effect[ours] = int(number(given.settings[key], f"{given.name}.{key}"))
    return effect


def _random(given: Given, result: Translation) -> dict[str, Any]:
    settings = given.settings
    if not settings.get("partition_entity"):
        raise ConfigError(f"{given.name}: partition_entity is missing: the column with the entity's id")
    effect: dict[str, Any] = {"entity": str(settings["partition_entity"])}
    if "num_partitions" in settings:
        effect["shards"] = int(number(settings["num_partitions"], f"{given.name}.num_partitions"))
        result.changed(
            "num_partitions",
            "shards: the unit of work, of memory and of retry. Leave it out, and shards get about 2M rows each",
        )
    if "num_of_lbfgs_iterations" in settings:
        effect["max_iterations"] = int(
            number(settings["num_of_lbfgs_iterations"], f"{given.name}.num_of_lbfgs_iterations")
        )
        result.changed(
            "num_of_lbfgs_iterations", "of a random effect: of Newton's method, which needs far fewer than L-BFGS"
        )
    if "num_of_lbfgs_curvature_pairs" in settings:
        result.ignored("num_of_lbfgs_curvature_pairs", "of a random effect: Newton's method has none")
    return effect


def _boolean(given: Given, key: str, default: bool) -> bool:
    value = given.settings.get(key, default)
    if not isinstance(value, bool):
        raise ConfigError(f"{given.name}.{key}: expected true or false, found {value!r}")
    return value


def _variances(given: Given, mode: str) -> str:
    if mode.lower() not in ("simple", "full"):
        raise ConfigError(f"{given.name}: variance mode {mode!r}; GDMix has simple and full")
    return mode.lower()


def _folder(given: Given, bag: str | None, result: Translation) -> str:
    """The coordinate's folder, after its training data; a note on what does not lie where it has to here."""
    training = given.settings.get("training_data_dir")
    if not training:
        raise ConfigError(f"{given.name}: training_data_dir is missing")
    folder, _, last = str(training).rstrip("/").rpartition("/")
    if last != "trainingData":
        result.check(
            f"{given.name}.training_data_dir", f"must be {folder or '.'}/trainingData; move or link {training}"
        )
    wanted = {"metadata_file": "metadata/tensor_metadata.json", "validation_data_dir": "validationData"}
    if bag is not None:
        wanted["feature_file"] = f"featureList/{bag}"
    for key, below in wanted.items():
        path = given.settings.get(key)
        expected = f"{folder}/{below}" if folder else below
        if path and str(path).rstrip("/") != expected:
            result.check(f"{given.name}.{key}", f"must be {expected}; move or link {path}")
    if bag is not None and not given.settings.get("feature_file"):
        result.check(
            f"{given.name}.feature_file",
            f"not given: GDMix then writes the intercept alone; here {folder}/featureList/{bag} is needed",
        )
    return folder or "."


def _unknown_keys(given: Given, result: Translation) -> None:
    ignored = {**gdmix_keys.LINEAR, **(gdmix_keys.FIXED if given.fixed else gdmix_keys.RANDOM)}
    for key in given.settings:
        if key in ignored:
            result.ignored(key, ignored[key])
        elif key not in gdmix_keys.TRANSLATED:
            near = difflib.get_close_matches(key, (*gdmix_keys.TRANSLATED, *ignored), n=1)
            meant = f"; {near[0]} may have been meant, and GDMix took its default" if near and given.fixed else ""
            what = "unknown key, which GDMix ignores too" if given.fixed else "unknown key, at which GDMix fails"
            result.check(f"{given.name}.{key}", what + meant)
