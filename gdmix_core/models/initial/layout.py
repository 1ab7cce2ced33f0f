"""Models of an earlier run, whatever its shards and features were, laid out in those of this run."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gdmix_core import storage
from gdmix_core.data.feature_list import Feature, write_feature_list
from gdmix_core.data.frame import Frame
from gdmix_core.data.hashing import hash_ids
from gdmix_core.errors import DataError
from gdmix_core.models.initial.feature_remap import FeatureRemap
from gdmix_core.models.initial.locate import InitialFiles
from gdmix_core.models.native import concatenate, read_model, write_model
from gdmix_core.models.table import CoefficientTable
from gdmix_core.pipeline.run import Run

log = logging.getLogger(__name__)

_NAMES_SHOWN = 5
_INTEGER = r"^(0|-?[1-9][0-9]{0,19})$"


def write_initial(run: Run, frame: Frame, name: str, earlier: InitialFiles) -> dict[str, Any]:
    """Write one coordinate's models, a file a shard. No more than one earlier file, or one shard, is in memory."""
    settings = run.config.coordinates[name]
    effect = settings.random_effect
    key = frame.bag_of(name)
    features = frame.feature_list_of(name)
    remap = FeatureRemap(features, keep=key is not None and _keeps_features(run, name), intercept=settings.intercept)
    entity_type = pa.string() if effect is None else frame.id_type(effect.entity)
    shards = 1 if effect is None else int(run.result("partition")["coordinates"][name]["shards"])
    found = earlier.read(task=run.config.task, fixed=effect is None, entity_type=entity_type)
    pieces: dict[int, list[str]] = {}
    for number, (table, listed) in enumerate(found):
        if effect is not None:  # Entities without a coefficient were below samples.min: they have no model.
            table = table.take(np.flatnonzero(np.diff(table.offsets)))
        table = _typed(remap.apply(table, listed), entity_type, earlier.where)
        for shard, part in _by_shard(table, shards):
            path = run.path("initial", name, "pieces", f"shard-{shard:05d}-{number:05d}.parquet")
            write_model(path, part)
            pieces.setdefault(shard, []).append(path)
    counts = {"models": 0, "coefficients": 0, "coefficients_with_variance": 0}
    for shard, paths in sorted(pieces.items()):
        table = _merged(map(read_model, paths), entity_type, earlier.where)
        write_model(run.initial(name, shard), table)
        counts["models"] += len(table)
        counts["coefficients"] += len(table.features)
        if table.variances is not None:
            counts["coefficients_with_variance"] += int(np.count_nonzero(np.isfinite(table.variances)))
    storage.remove(run.path("initial", name, "pieces"))
    if key:
        write_feature_list(run.initial_features(name), remap.features)
    _check_variances(run, name, counts, earlier.where)
    _report(name, earlier.where, counts, remap)
    return {"source": earlier.where, **counts, **_changes(remap)}


def _keeps_features(run: Run, name: str) -> bool:
    initial = run.config.initial_model
    assert initial is not None
    # A locked model is taken as it is, unless one has said otherwise.
    as_it_is = run.config.coordinates[name].locked and initial.features_without_data is None
    return as_it_is or initial.keeps_features


def _typed(table: CoefficientTable, entity_type: pa.DataType, where: str) -> CoefficientTable:
    """Return the table with entities of the type that the frame's column has."""
    entities = table.entities
    if entities.type == entity_type:
        return table
    if pa.types.is_integer(entity_type) and not pa.types.is_integer(entities.type):
        plain = pc.match_substring_regex(entities, _INTEGER)
        if not pc.all(plain).as_py():
            wrong = entities.filter(pc.invert(plain))[0].as_py()
            raise DataError(
                f"{where}: entity {wrong!r} is no plain integer, but the entity column holds integers; make the "
                "column a string, or use the models of this column"
            )
    try:
        entities = entities.cast(entity_type)
    except pa.ArrowInvalid as error:
        raise DataError(
            f"{where}: entities do not fit the entity column, which is {entity_type} here: {error}; write the column "
            "in the type it had (uint64 for integers above 2^63 - 1), or use the models of this column"
        ) from None
    return CoefficientTable(entities, table.offsets, table.features, table.means, table.variances)


def _by_shard(table: CoefficientTable, shards: int) -> Iterable[tuple[int, CoefficientTable]]:
    """Return the table's entities by the shard that partition sends their rows to."""
    shard_of = np.zeros(len(table), np.int64)
    if shards > 1:
        shard_of = (hash_ids(table.entities) % np.uint64(shards)).astype(np.int64)
    order = np.argsort(shard_of, kind="stable")
    numbers, begins = np.unique(shard_of[order], return_index=True)
    for number, rows in zip(numbers.tolist(), np.split(order, begins[1:]), strict=False):
        yield number, table.take(rows)


def _merged(pieces: Iterable[CoefficientTable], entity_type: pa.DataType, where: str) -> CoefficientTable:
    """One table, sorted by entity as the shards are: integers by value, strings by their UTF-8 bytes."""
    table = concatenate(list(pieces), entity_type)
    order = pc.array_sort_indices(table.entities).to_numpy().astype(np.int64)
    table = table.take(order)
    repeated = pc.equal(table.entities[1:], table.entities[:-1]).to_numpy(zero_copy_only=False)
    if repeated.any():
        raise DataError(
            f"{where}: entity {table.entities[int(np.argmax(repeated))].as_py()!r} has two models; keep one"
        )
    return table


def _check_variances(run: Run, name: str, counts: dict[str, int], where: str) -> None:
    initial = run.config.initial_model
    assert initial is not None
    trained = not run.config.coordinates[name].locked
    if initial.prior_weight > 0 and trained and counts["models"] and not counts["coefficients_with_variance"]:
        raise DataError(
            f"{where}: the models of {name} have no variances, which initial_model.prior_weight needs; train them with "
            f"coordinates.{name}.variances: simple (or full), or set prior_weight to 0 to start from their means alone"
        )


def _changes(remap: FeatureRemap) -> dict[str, Any]:
    return {
        "features_matched": len(remap.matched),
        "features_appended": len(remap.appended),
        "features_dropped": len(remap.dropped),
        "coefficients_dropped": remap.dropped_coefficients,
        "intercepts_added": remap.added_intercepts,
        "intercepts_dropped": remap.dropped_intercepts,
        "first_appended": [list(feature) for feature in remap.appended[:_NAMES_SHOWN]],
        "first_dropped": [list(feature) for feature in list(remap.dropped)[:_NAMES_SHOWN]],
    }


def _report(name: str, where: str, counts: dict[str, int], remap: FeatureRemap) -> None:
    log.info(
        "%s: %d models with %d coefficients (%d with a variance) from %s, %d features matched",
        name, counts["models"], counts["coefficients"], counts["coefficients_with_variance"], where,
        len(remap.matched),
    )  # fmt: skip
    if remap.appended:
        log.warning(
            "%s: %d features of the initial model are not in this run's list; kept, after it: %s",
            name, len(remap.appended), _names(remap.appended),
        )  # fmt: skip
    if remap.dropped:
        log.warning(
            "%s: %d features of the initial model are not in this run's list; dropped with %d coefficients: %s",
            name, len(remap.dropped), remap.dropped_coefficients, _names(list(remap.dropped)),
        )  # fmt: skip
    if remap.dropped_intercepts:
        log.warning("%s has no intercept; dropped those of %d initial models", name, remap.dropped_intercepts)


def _names(features: list[Feature]) -> str:
    shown = ", ".join(f"{feature_name},{term}" for feature_name, term in features[:_NAMES_SHOWN])
    return shown + (", …" if len(features) > _NAMES_SHOWN else "")
