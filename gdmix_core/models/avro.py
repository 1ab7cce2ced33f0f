"""Model files of GDMix and Photon ML: Avro records `BayesianLinearModelAvro`, one per entity, written and read.

The two predecessors differ in ways the format allows, and this reader takes both: GDMix writes the intercept
first and then the features in index order; Photon ML orders by absolute value and leaves out small means and
small variances, each on its own. Neither looks at the modelId of a fixed effect ("global model" in GDMix,
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
import pyarrow.compute as pc
from numpy.typing import NDArray

from gdmix_core.data.feature_list import INTERCEPT, Feature, FeatureList
from gdmix_core.errors import ConfigError, DataError
from gdmix_core.models.avro_schema import BAYESIAN_LINEAR_MODEL, MODEL_CLASS_OF_TASK, TASK_OF_MODEL_CLASS
from gdmix_core.models.table import INTERCEPT_INDEX, CoefficientTable
from gdmix_core.storage import open_for_read, open_for_write

_FIXED_EFFECT_MODEL_ID = "global model"
_FIXED_EFFECT_ENTITY = "global"
_ENTITIES_PER_BLOCK = 1000
_BYTES_PER_BLOCK = 1 << 16


@dataclass(frozen=True)
class AvroModel:
    """What model files hold.

    features:             the list the table's feature indices refer to
    task:                 a task of the configuration, None where the files name no model class or an unknown one
    dropped_coefficients: how many coefficients were left out, their features not being in the given list
    dropped_features:     those features, sorted
    """

    table: CoefficientTable
    features: FeatureList
    task: str | None
    dropped_coefficients: int
    dropped_features: list[Feature]


def write_avro(
    path: str,
    table: CoefficientTable,
    features: FeatureList,
    task: str,
    *,
    fixed: bool,
    sparsity_threshold: float = 0.0,
) -> None:
    """Writes a table as one Avro file (codec deflate) that GDMix and Photon ML can load.

    features: names of the table's feature indices; an empty list for a model of intercepts alone.
    fixed: the table is a fixed effect's; its record is named "global model" as in GDMix. Otherwise each record
    is named by its entity.
    sparsity_threshold: features with |mean| <= threshold are left out; intercepts stay. 0 keeps every entry.

    Intercepts come first, then features in index order; variances, if the table has them, have the support of
    the means (less the entries whose variance is nan). GDMix loads random effects that have intercepts only.
    Raises DataError for means that are not finite, indices beyond the feature list, and features listed twice:
    (name, term) is all that identifies a coefficient in the file.
    """
    if task not in MODEL_CLASS_OF_TASK:
        raise ConfigError(f"models of task {task!r} have no Avro form; known: {', '.join(MODEL_CLASS_OF_TASK)}")
    if fixed and len(table) != 1:
        raise DataError(f"{path}: a fixed effect is one model, but the table has {len(table)} rows")
    _check_writable(path, table, features)
    records = _records_of(_above_threshold(table, sparsity_threshold), features, MODEL_CLASS_OF_TASK[task], fixed)
    with open_for_write(path) as file:
        fastavro.writer(file, BAYESIAN_LINEAR_MODEL, records, codec="deflate", sync_interval=_BYTES_PER_BLOCK)


def _check_writable(path: str, table: CoefficientTable, features: FeatureList) -> None:
    duplicates = features.duplicates()
    if duplicates:
        feature, indices = next(iter(duplicates.items()))
        raise DataError(
            f"{path}: {len(duplicates)} features are listed more than once, first {feature} at indices {indices}; "
            "a model file could not tell them apart. Give each its own name or term in the feature list"
        )
    largest = int(table.features.max(initial=INTERCEPT_INDEX))
    if largest >= len(features):
        raise DataError(
            f"{path}: the model uses feature index {largest}, but its feature list has {len(features)} features"
        )
    finite = np.isfinite(table.means)
    if not finite.all():
        entry = int(np.argmin(finite))
        entity = table.entities[int(np.searchsorted(table.offsets, entry, side="right")) - 1].as_py()
        raise DataError(
            f"{path}: coefficient of feature index {table.features[entry]} of entity {entity!r} is "
            f"{table.means[entry]}; train it again before exporting"
        )


def _above_threshold(table: CoefficientTable, threshold: float) -> CoefficientTable:
    if threshold <= 0.0:
        return table
    kept = (np.abs(table.means) > threshold) | (table.features == INTERCEPT_INDEX)
    kept_before = np.concatenate([[0], np.cumsum(kept)])
    return CoefficientTable(
        table.entities,
        kept_before[table.offsets],
        table.features[kept],
        table.means[kept],
        None if table.variances is None else table.variances[kept],
    )


def _records_of(
    table: CoefficientTable, features: FeatureList, model_class: str, fixed: bool
) -> Iterator[dict[str, Any]]:
    """One record per entity; only a block of entities is in Python's hands at a time."""
    names = [*features.names, INTERCEPT]  # INTERCEPT_INDEX is the last
    for first in range(0, len(table), _ENTITIES_PER_BLOCK):
        last = min(first + _ENTITIES_PER_BLOCK, len(table))
        start, end = table.offsets[first], table.offsets[last]
        entities = [_FIXED_EFFECT_MODEL_ID] if fixed else table.entities[first:last].to_pylist()
        offsets = (table.offsets[first : last + 1] - start).tolist()
        block_names = [names[feature] for feature in table.features[start:end].tolist()]
        means = table.means[start:end].tolist()
        variances = None if table.variances is None else table.variances[start:end].tolist()
        for row, entity in enumerate(entities):
            entries = slice(offsets[row], offsets[row + 1])
            yield {
                "modelId": str(entity),
                "modelClass": model_class,
                "means": _name_term_values(block_names[entries], means[entries]),
                "variances": None if variances is None else _name_term_values(block_names[entries], variances[entries]),
                "lossFunction": "",
            }


def _name_term_values(names: list[Feature], values: list[float]) -> list[dict[str, Any]]:
    """Avro entries of one entity; nan, which is how a table says that there is no variance, gets none."""
    return [
        {"name": name, "term": term, "value": value}
        for (name, term), value in zip(names, values, strict=True)
        if not math.isnan(value)
    ]


def read_avro(
    paths: str | Sequence[str],
    features: FeatureList | None = None,
    *,
    fixed: bool = False,
    integer_entities: bool = False,
) -> AvroModel:
    """Reads the model files of one coordinate, by GDMix, Photon ML or write_avro, as one table.

    features: the feature list to index by; what it does not know is dropped, and counted in the result. Without
    it, the features of the files, sorted by name and term.
    fixed: the files must hold one model, whose entity becomes "global".
    integer_entities: entities become int64; every modelId must then be a plain decimal integer.

    Entries may come in any order. A feature that has a variance and no mean (Photon ML leaves out small means)
    gets mean 0; one that has a mean and no variance gets nan; variances are None if no record has any. Raises
    DataError for files that are absent, damaged or of another kind, for an entity or a coefficient that occurs
    twice, and for files that name different model classes.
    """
    records = ModelRecords([paths] if isinstance(paths, str) else paths)
    if fixed and len(records.model_ids) != 1:
        raise DataError(
            f"{', '.join(records.paths)}: a fixed effect is one model, found {len(records.model_ids)}"
        )
    if features is None:
        features = FeatureList(sorted(set(records.feature_numbers) - {INTERCEPT}))
    index_of = {number: _index(feature, features) for feature, number in records.feature_numbers.items()}
    indices = np.fromiter(index_of.values(), dtype=np.int64, count=len(index_of))
    entities, row_of_record = _sorted_entities(records, fixed, integer_entities)
    return AvroModel(
        table=_tabulate(records, entities, row_of_record, indices, len(features)),
        features=features,
        task=_task(records),
        dropped_coefficients=_count_unknown(records, indices),
        dropped_features=sorted(
            feature for feature, number in records.feature_numbers.items() if indices[number] == _UNKNOWN
        ),
    )


def _index(feature: Feature, features: FeatureList) -> int:
    if feature == INTERCEPT:
        return INTERCEPT_INDEX
    index = features.index(*feature)
    return _UNKNOWN if index is None else index


def _sorted_entities(
    records: ModelRecords, fixed: bool, integer_entities: bool
) -> tuple[pa.Array, NDArray[np.int64]]:
    """The sorted entities [n], and the row of each record in that order, int64 [n]."""
    if fixed:
        entities = pa.array([_FIXED_EFFECT_ENTITY])
    elif integer_entities:
        entities = pa.array([_integer(model_id, record, records) for record, model_id in enumerate(records.model_ids)], pa.int64())
    else:
        entities = pa.array(records.model_ids, pa.string())
    order = pc.array_sort_indices(entities).to_numpy()
    entities = entities.take(pa.array(order))
    repeated = pc.equal(entities[1:], entities[:-1]).to_numpy(zero_copy_only=False)
    if repeated.any():
        row = int(np.argmax(repeated))
        raise DataError(
            f"entity {entities[row].as_py()!r} has two models, in {records.path_of(order[row])} and "
            f"{records.path_of(order[row + 1])}; keep one of them"
        )
    row_of_record = np.empty(len(order), dtype=np.int64)
    row_of_record[order] = np.arange(len(order))
    return entities, row_of_record


def _integer(model_id: str, record: int, records: ModelRecords) -> int:
    # "007" is refused: it would become the entity 7, which may have a model of its own.
    if _INTEGER.fullmatch(model_id) and -(2**63) <= int(model_id) < 2**63:
        return int(model_id)
    raise DataError(
        f"{records.path_of(record)}: modelId {model_id!r} is no 64-bit integer, but the entity column holds "
        "integers; make the column a string or use the models of that column"
    )


def _tabulate(
    records: ModelRecords,
    entities: pa.Array,
    row_of_record: NDArray[np.int64],
    indices: NDArray[np.int64],
    feature_count: int,
) -> CoefficientTable:
    """The table of the known features. indices: feature number -> index, int64 [feature numbers]."""
    # In the order of its key an entry stands where the table has it: by entity, intercept first, then by index.
    width = feature_count + 1

    def known_entries(entries: Entries) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        index = indices[entries.features]
        keys = np.repeat(row_of_record, entries.counts) * width + index - INTERCEPT_INDEX
        known = index != _UNKNOWN
        return keys[known], entries.values[known]

    mean_keys, mean_values = known_entries(records.means)
    variance_keys, variance_values = known_entries(records.variances)
    keys = np.union1d(mean_keys, variance_keys)
    ...
