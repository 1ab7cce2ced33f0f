"""A GDMix workflow's YAML as one of ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gdmix_core.errors import ConfigError
from gdmix_core.migration.gdmix_coordinate import GdmixCoordinate, translate_coordinate
from gdmix_core.migration.gdmix_keys import GDMIX_CONFIG
from gdmix_core.migration.names import common_folder, pipeline_name, valid_names
from gdmix_core.migration.translation import Translation

_TASKS = ("logistic_regression", "linear_regression")


def translate_gdmix(content: Mapping[str, Any]) -> Translation:
    """Translate a workflow.

    Raises ConfigError where GDMix would not run either, or where its coordinates contradict each other.
    """
    result = Translation()
    for key in ("output_dir", "fixed_effect_config"):
        if not content.get(key):
            raise ConfigError(f"{key} is missing; a GDMix workflow has output_dir and fixed_effect_config")
    given = _coordinates(content, result)
    names = valid_names(given)
    result.renamed(names)
    task = _task(given, result)
    coordinates = {names[name]: translate_coordinate(g, task) for name, g in given.items()}
    source, below = common_folder([c["data"] for c in coordinates.values()])
    for coordinate in coordinates.values():
        coordinate["data"] = below[coordinate["data"]]
    result.content = {
        "name": pipeline_name(content["output_dir"]),
        "task": task,
        "input": source,
        "output": content["output_dir"].rstrip("/"),
        "columns": _columns(given, result),
        "coordinates": coordinates,
        "passes": {"max": 1},
        "metrics": ["auc" if task == "logistic_regression" else "mse"],
        "export": {"formats": ["native", "avro"], "sparsity_threshold": 1e-4},
    }
    _general_notes(result)
    return result


def _coordinates(content: Mapping[str, Any], result: Translation) -> dict[str, GdmixCoordinate]:
    fixed = _mapping(content["fixed_effect_config"], "fixed_effect_config")
    random = _mapping(content.get("random_effect_config") or {}, "random_effect_config")
    for key, value in content.items():
        if key in ("spark_config", "tfjob_config"):
            keys = ", ".join(_mapping(value, key))
            here = "fixed_effect.workers spreads a fixed effect over processes"
            if key == "spark_config":
                here = "spark.master, spark.driver_memory and spark.conf say how the Spark jobs run"
            result.ignored(key, f"{keys}: these are for its clusters; here {here}")
        elif key not in ("output_dir", "fixed_effect_config", "random_effect_config"):
            result.ignored(key, "unknown key; GDMix ignores it too")
    first = next(iter(fixed))
    for name in list(fixed)[1:]:
        result.ignored(
            f"fixed_effect_config.{name}",
            f"GDMix trains its first fixed effect ({first}) alone, so it is left out; here there may be several",
        )
    found = {first: GdmixCoordinate(first, _mapping(fixed[first], first), result, fixed=True)}
    for name, settings in random.items():
        if name in found:
            raise ConfigError(f"{name} is the name of a fixed and of a random effect; give one another name")
        found[name] = GdmixCoordinate(name, _mapping(settings, name), result, fixed=False)
    return found


def _mapping(value: Any, key: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{key}: expected a mapping, found {value!r}")
    return value


def _task(given: Mapping[str, GdmixCoordinate], result: Translation) -> str:
    types = {name: str(g.schema.get("model_type", "logistic_regression")) for name, g in given.items()}
    linear = {name: kind for name, kind in types.items() if kind != "detext"}
    unknown = [kind for kind in linear.values() if kind not in _TASKS]
    if unknown:
        raise ConfigError(f"model_type {unknown[0]!r}: GDMix has {', '.join(_TASKS)} and detext")
    if len(set(linear.values())) > 1:
        raise ConfigError(f"coordinates have different model types ({types}); a pipeline has one task")
    task = next(iter(linear.values()), "logistic_regression")
    if task == "linear_regression":
        result.changed(
            "l2_reg_weight",
            "GDMix's linear loss is (y − z)², without the ½ that it has here, so its λ is halved: the same minimum",
        )
        if any(not g.fixed for g in given.values()):
            result.changed("model_type", "GDMix has no random effects under linear_regression; here they are trained")
    return task


def _columns(given: Mapping[str, GdmixCoordinate], result: Translation) -> dict[str, str]:
    first, *others = given.values()
    for g in given.values():
        for key in g.schema:
            if key in GDMIX_CONFIG:
                result.ignored(key, GDMIX_CONFIG[key])
            elif key not in ("uid_column_name", "label_column_name", "weight_column_name", "model_type"):
                result.ignored(f"gdmix_config.{key}", "unknown key")
    columns = {}
    for role in ("uid", "label", "weight"):
        key = f"{role}_column_name"
        value = first.schema.get(key)
        if value is not None:
            columns[role] = str(value)
        for other in others:
            if other.schema.get(key) == value:
                continue
            if role == "uid":
                raise ConfigError(
                    f"{key}: {first.name} has {value!r}, {other.name} {other.schema.get(key)!r}; records of all "
                    "coordinates are joined by one uid column here, so write it under one name"
                )
            result.changed(
                f"{other.name}.gdmix_config.{key}",
                f"{other.schema.get(key)!r} is not used: label and weight are those of {first.name}'s data ({value!r})",
            )
    if "weight" in columns:
        result.changed(
            "weight_column_name",
            "the column must be there and its values above 0; GDMix takes weight 1 where it is missing, and 0 as given",
        )
    offsets = {str(g.settings["offset_column_name"]) for g in given.values() if "offset_column_name" in g.settings}
    if offsets:
        columns["offset"] = sorted(offsets)[0]
        if len(offsets) > 1:
            result.check("offset_column_name", f"several ({', '.join(sorted(offsets))}); the first one is taken")
    else:
        result.check(
            "offset_column_name",
            "not given: GDMix adds a column called offset where the metadata describe one; if yours do, set "
            "columns.offset: offset",
        )
    return columns


def _general_notes(result: Translation) -> None:
    result.changed(
        "lbfgs_tolerance",
        "not taken over. GDMix stops when the objective falls by less than this relatively, or when the gradient is "
        "below 1e-5 (in practice always that); here the gradient's max-norm has to be at most "
        "tolerance × max(1, Σ weight)",
    )
    result.changed(
        "l2_reg_weight",
        "the same λ, on the summed loss: GDMix divides a random effect's whole objective, penalty included, by the "
        "number of rows, which moves its stopping point but not its minimum",
    )
    result.changed(
        "sparsity (GDMix's constant 1e-4)",
        "GDMix sets smaller coefficients to 0, also where it scores. Here scores use all of them, and "
        "export.sparsity_threshold leaves them out of the Avro files alone; set it to 0 to keep them there too",
    )
    result.changed("metrics", "GDMix computes AUC without weights; here every metric counts rows by their weight")
    result.check(
        "passes",
        "GDMix goes over its coordinates once. passes: {max: 4, min_delta: 0.0005} goes on while validation improves",
    )
