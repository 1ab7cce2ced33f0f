"""The part of the configuration on which the result of a step depends, as plain data: it goes into the step's key."""

from __future__ import annotations

from typing import Any

from gdmix_core.config.pipeline import Config
from gdmix_core.config.text_architecture import settings_of_start
from gdmix_core.metrics.registry import parse_metric


def of_coordinate(config: Config, data: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a coordinate's settings without those that change where and how the work is done, but not its result."""
    left_out = config.coordinates[name].effect.execution_keys
    return {
        key: {k: v for k, v in value.items() if k not in left_out} if key.endswith("_effect") and value else value
        for key, value in data["coordinates"][name].items()
    }


def of_validate(config: Config, data: dict[str, Any]) -> dict[str, Any]:
    # In order: labels and weights are those of the first coordinate's directory.
    sources = [
        {
            "coordinate": name,
            "data": c.data,
            "bags": list(c.bags),
            "entity": c.random_effect.entity if c.random_effect else None,
            "columns": list(c.columns),
            "external": c.effect.joined_scores,
        }
        for name, c in config.coordinates.items()
    ]
    groups = {parse_metric(name).column for name in data["metrics"]} - {None}
    groups |= {c.group for c in config.coordinates.values()} - {None}
    kept = ("task", "classes", "columns", "checks", "frame")
    return {"sources": sources, "groups": sorted(map(str, groups)), **{key: data[key] for key in kept}}


def of_initial_model(config: Config) -> dict[str, Any]:
    """Return what training makes of the initial models, which initialize only brings: prior_weight can be searched."""
    initial = config.initial_model
    if initial is None:
        return {}
    kept = {"entities": initial.entities_without_data, "features": initial.keeps_features}
    return {"initial_model": {"prior_weight": initial.prior_weight, **kept}}


def of_initialize(config: Config, data: dict[str, Any]) -> dict[str, Any]:
    initial = config.initial_model
    assert initial is not None
    coordinates = {
        name: {
            "bag": c["bag"],
            "locked": c["locked"],
            "intercept": c["intercept"],
            "entity": (c["random_effect"] or {}).get("entity"),
        }
        for name, c in data["coordinates"].items()
        if config.coordinates[name].has_coefficients
    } | {
        name: settings_of_start(config, name)
        for name, coordinate in config.coordinates.items()
        if coordinate.effect.is_network and coordinate.takes_initial_model
    }
    return {
        "path": initial.path,
        "files": initial.coordinates,
        "features_without_data": initial.features_without_data,
        "keeps_features": initial.keeps_features,
        "needs_variances": initial.prior_weight > 0,
        "task": data["task"],
        "coordinates": coordinates,
    }


def of_export(data: dict[str, Any]) -> dict[str, Any]:
    return {"export": data["export"], "task": data["task"]}


def of_partition(data: dict[str, Any]) -> dict[str, Any]:
    kept = ("entity", "shards", "rows_per_shard", "samples")
    return {
        name: {key: c["random_effect"][key] for key in kept} | {"bag": c["bag"], "data": c["data"]}
        for name, c in data["coordinates"].items()
        if c["random_effect"] is not None
    }
