"""Model files of GDMix and Photon ML: Avro records `BayesianLinearModelAvro`, one per entity.

The format lets its two writers differ, and this reader takes both: GDMix writes the intercept first, then the
features in index order; Photon ML orders by absolute value and leaves out small means and small variances,
each on its own. Neither of their readers looks at the modelId of a fixed effect ("global model" in GDMix,
"fixed-effect" in Photon ML), and both find features by (name, term).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa

from gdmix_core.data.feature_list import INTERCEPT, Feature, FeatureList
from gdmix_core.errors import ConfigError, DataError
from gdmix_core.models.avro.records import ModelRecords
from gdmix_core.models.avro.schema import BAYESIAN_LINEAR_MODEL, MODEL_CLASS_OF_TASK, SYNC_MARKER, TASK_OF_MODEL_CLASS
from gdmix_core.models.avro.tables import UNKNOWN, count_unknown, sort_entities, tabulate
from gdmix_core.models.table import INTERCEPT_INDEX, CoefficientTable
from gdmix_core.storage import open_for_write

_FIXED_EFFECT_MODEL_ID = "global model"
_ENTITIES_AT_ONCE = 1000
_BYTES_PER_BLOCK = 1 << 16


@dataclass(frozen=True)
class AvroModel:
    """The content of model files.

    Parameters
    ----------
    table
        The coefficients.
    features
        The list that the table's feature indices refer to.
    task
        A task of the configuration; None where the files name no class, or an unknown one.
    dropped_coefficients
        How many coefficients were left out because their features are not in the given list.
    dropped_features
        Those features, sorted.
    """

    table: CoefficientTable
    features: FeatureList
    task: str | None
    dropped_coefficients: int
    dropped_features: list[Feature]


def read_avro(
    paths: str | Sequence[str],
    features: FeatureList | None = None,
    *,
    fixed: bool = False,
    integer_entities: bool = False,
    unsigned_entities: bool = False,
) -> AvroModel:
    """Read the model files of one coordinate, by GDMix, Photon ML or write_avro, as one table.

    Entries may come in any order. A feature that has a variance and no mean (Photon ML leaves out small means) gets
    mean 0, one that has a mean and no variance gets variance nan; variances are None if no record has any.

    Parameters
    ----------
    paths
        One file or several, paths or URLs.
    features
        The feature list to index by; what it does not know is dropped, and counted in the result. None for the features
        of the files, sorted by name and term.
    fixed
        Whether the files must hold one model, whose entity becomes "global".
    integer_entities, unsigned_entities
        Whether entities become int64, or uint64; every modelId must then be a plain decimal integer of that type.

    Returns
    -------
    AvroModel
        Its `table`, the `features` that its indices refer to, and what was dropped.

    Raises
    ------
    DataError
        For files that are absent, damaged or of another kind, an entity or a coefficient that occurs twice, means that
        are not finite, and files that name different classes.
    """
    records = ModelRecords([paths] if isinstance(paths, str) else paths)
    if features is None:
        features = FeatureList(sorted(set(records.feature_numbers) - {INTERCEPT}))
    indices = np.array([_index(feature, features) for feature in records.feature_numbers], dtype=np.int64)
    integer = pa.uint64() if unsigned_entities else pa.int64() if integer_entities else None
    entities = sort_entities(records, fixed=fixed, integer=integer)
    return AvroModel(
        table=tabulate(records, entities, indices, features),
        features=features,
        task=_task(records),
        dropped_coefficients=count_unknown(records, indices),
        dropped_features=sorted(
            feature for feature, number in records.feature_numbers.items() if indices[number] == UNKNOWN
        ),
    )


def _index(feature: Feature, features: FeatureList) -> int:
    if feature == INTERCEPT:
        return INTERCEPT_INDEX
    index = features.index(*feature)
    return UNKNOWN if index is None else index


def _task(records: ModelRecords) -> str | None:
    if len(records.model_classes) > 1:
        named = ", ".join(f"{model_class} in {path}" for model_class, path in records.model_classes.items())
        raise DataError(f"one coordinate has models of one class, but these files name several: {named}")
    return TASK_OF_MODEL_CLASS.get(next(iter(records.model_classes), ""))


def write_avro(
    path: str,
    table: CoefficientTable,
    features: FeatureList,
    task: str,
    *,
    fixed: bool,
    sparsity_threshold: float = 0.0,
) -> None:
    """Write a table as one Avro file (codec deflate) that GDMix and Photon ML can load.

    Intercepts come first, then features in index order; variances, if the table has them, have the support of the
    means, however small they are (entries whose variance is nan have none). GDMix loads a random effect only if each of
    its models has an intercept.

    Parameters
    ----------
    path
        A path or URL.
    table
        The models.
    features
        Names of the table's feature indices; an empty list for a model of intercepts alone.
    task
        A task of the configuration, which names the models' class.
    fixed
        Whether the table is a fixed effect's, whose record is named "global model" as in GDMix. Otherwise each record
        is named by its entity.
    sparsity_threshold
        Features with |mean| <= threshold are left out; intercepts stay. 0 keeps every entry.

    Raises
    ------
    DataError
        For means that are not finite, indices beyond the feature list, and features listed twice, since (name, term) is
        all that tells coefficients apart in a file.
    ConfigError
        For a task that has no class.
    """
    if task not in MODEL_CLASS_OF_TASK:
        raise ConfigError(f"task {task!r} has no model class; known: {', '.join(MODEL_CLASS_OF_TASK)}")
    _check_writable(path, table, features, fixed)
    records = _records_of(_above(table, sparsity_threshold), features, MODEL_CLASS_OF_TASK[task], fixed)
    with open_for_write(path) as file:
        fastavro.writer(
            file,
            BAYESIAN_LINEAR_MODEL,
            records,
            codec="deflate",
            sync_interval=_BYTES_PER_BLOCK,
            sync_marker=SYNC_MARKER,
        )


def _check_writable(path: str, table: CoefficientTable, features: FeatureList, fixed: bool) -> None:
    if fixed and len(table) != 1:
        raise DataError(f"{path}: a fixed effect is one model, but the table has {len(table)} rows")
    duplicates = features.duplicates()
    if duplicates:
        feature, indices = next(iter(duplicates.items()))
        raise DataError(
            f"{path}: {len(duplicates)} features are listed more than once, first {feature} at indices "
            f"{indices}; a model file cannot tell them apart. Give each its own name or term in the list"
        )
    largest = int(table.features.max(initial=INTERCEPT_INDEX))
    if largest >= len(features):
        raise DataError(
            f"{path}: the model has feature index {largest}, but the feature list has {len(features)} "
            "features; use the list that the model was trained with"
        )
    table.check(path)


def _above(table: CoefficientTable, threshold: float) -> CoefficientTable:
    """Return the table without features whose |mean| is at most the threshold."""
    if threshold <= 0.0:
        return table
    kept = (np.abs(table.means) > threshold) | (table.features == INTERCEPT_INDEX)
    kept_before = np.concatenate([[0], np.cumsum(kept)])
    variances = None if table.variances is None else table.variances[kept]
    return CoefficientTable(
        table.entities, kept_before[table.offsets], table.features[kept], table.means[kept], variances
    )


def _records_of(
    table: CoefficientTable, features: FeatureList, model_class: str, fixed: bool
) -> Iterator[dict[str, Any]]:
    """Yield one record per entity. Python objects exist for a few entities at a time only."""
    names = [*features.names, INTERCEPT]  # so that INTERCEPT_INDEX, -1, finds it
    for first in range(0, len(table), _ENTITIES_AT_ONCE):
        last = min(first + _ENTITIES_AT_ONCE, len(table))
        begin, end = table.offsets[first], table.offsets[last]
        model_ids = [_FIXED_EFFECT_MODEL_ID] if fixed else map(str, table.entities[first:last].to_pylist())
        offsets = (table.offsets[first : last + 1] - begin).tolist()
        features_named = [names[index] for index in table.features[begin:end].tolist()]
        means = table.means[begin:end].tolist()
        variances = None if table.variances is None else table.variances[begin:end].tolist()
        for model_id, start, stop in zip(model_ids, offsets, offsets[1:], strict=False):
            entries = slice(start, stop)
            yield {
                "modelId": model_id,
                "modelClass": model_class,
                "means": _name_term_values(features_named[entries], means[entries]),
                "variances": None
                if variances is None
                else _name_term_values(features_named[entries], variances[entries]),
                "lossFunction": "",
            }


def _name_term_values(features: list[Feature], values: list[float]) -> list[dict[str, Any]]:
    """Avro entries of one model. nan, a table's word for "no variance", gets no entry."""
    return [
        {"name": name, "term": term, "value": value}
        for (name, term), value in zip(features, values, strict=True)
        if not math.isnan(value)
    ]
