"""Photon ML's initial model, locked coordinates and incremental training as our initial_model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gdmix_core import storage
from gdmix_core.errors import ConfigError
from gdmix_core.migration.names import number, plain
from gdmix_core.migration.photon_coordinate import Shard
from gdmix_core.migration.translation import Translation


def translate_initial_model(
    flags: Mapping[str, str],
    names: Mapping[str, str],
    shards: Mapping[str, Shard],
    configured: Mapping[str, Mapping[str, str]],
    result: Translation,
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Translate to (initial_model, {locked coordinate: our keys}).

    names: Photon ML's name of a coordinate → ours. A locked coordinate has no configuration: whether it is fixed, and
    its shard, are read from the model. Raises ConfigError when they are not there.
    """
    path = flags.get("model-input-directory")
    incremental = flags.get("incremental-training", "false").lower() == "true"
    locked = [name for name in flags.get("partial-retrain-locked-coordinates", "").split(",") if name]
    if path is None:
        if locked or incremental:
            raise ConfigError("locked coordinates and incremental training need --model-input-directory")
        return {}, {}
    path = path.rstrip("/")
    initial: dict[str, Any] = {"path": path}
    renamed = {ours: name for name, ours in names.items() if ours != name}
    if renamed:
        initial["coordinates"] = {ours: _model_of(name, path, configured)[1] for ours, name in renamed.items()}
        if len(renamed) == len(names):
            del initial["path"]
    if incremental:
        weights = {n: number(c.get("incremental.weight", "1"), "incremental.weight") for n, c in configured.items()}
        initial["prior_weight"] = plain(next(iter(weights.values()), 1.0))
        if len(set(weights.values())) > 1:
            result.check("incremental.weight", f"one for all coordinates here; the first of {weights} is taken")
        result.check(
            "--incremental-training",
            "Photon ML leaves variances below its sparsity threshold out of its files, so the coefficients it is most "
            "certain of have no prior; write the earlier model with --model-sparsity-threshold 0",
        )
    return initial, {name: _locked(name, path, configured, shards, result) for name in locked}


def _model_of(name: str, path: str, configured: Mapping[str, Mapping[str, str]]) -> tuple[bool, str]:
    """Find whether a coordinate is a random effect, and the folder of its model."""
    if name in configured:
        random = "random.effect.type" in configured[name]
    else:
        random = storage.exists(storage.join(path, "random-effect", name))
    return random, storage.join(path, "random-effect" if random else "fixed-effect", name)


def _locked(
    name: str,
    path: str,
    configured: Mapping[str, Mapping[str, str]],
    shards: Mapping[str, Shard],
    result: Translation,
) -> dict[str, Any]:
    random, folder = _model_of(name, path, configured)
    info = storage.join(folder, "id-info")
    if not storage.exists(info):
        raise ConfigError(
            f"coordinate {name} is locked, so its shard and entity stand in its model, but {info} is not there"
        )
    with storage.open_for_read(info) as file:
        lines = file.read().decode("utf-8-sig").split()
    if len(lines) != 1 + random or lines[-1] not in shards:
        raise ConfigError(f"{info}: expected {'an entity and ' * random}the name of a configured feature shard")
    effect = {"random_effect": {"entity": lines[0]}} if random else {"fixed_effect": {}}
    return {**effect, **shards[lines[-1]].as_bag(result), "locked": True}
