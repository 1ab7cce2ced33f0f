"""The conversion of model files' records, in any order, to the sorted coefficient table."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gdmix_core.data.feature_list import INTERCEPT, FeatureList
from gdmix_core.errors import DataError
from gdmix_core.models.avro.records import Entries, ModelRecords
from gdmix_core.models.table import INTERCEPT_INDEX, CoefficientTable

UNKNOWN = -2
"""Stands for the index of a feature that is not in the feature list."""

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

_FIXED_EFFECT_ENTITY = "global"
# Other spellings are refused: "007" would become the entity 7, which may have its own model.
_PLAIN_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,19}")


@dataclass(frozen=True)
class SortedEntities:
    """entities: string, int64 or uint64 [n], sorted; records: int64 [n], the number of each entity's record."""

    entities: pa.Array
    records: Integers

    @property
    def row_of_record(self) -> Integers:
        """The inverse of `records`, int64 [n]."""
        row_of_record = np.empty_like(self.records)
        row_of_record[self.records] = np.arange(len(self.records))
        return row_of_record


def sort_entities(records: ModelRecords, *, fixed: bool, integer: pa.DataType | None) -> SortedEntities:
    """Return the entities that the records' modelIds name.

    integer: what entities are: int64 or uint64; None: strings
    Raises DataError for an entity with two records, for a fixed effect of other than one record, and, with
    `integer`, for a modelId that is no plain integer of that type.
    """
    if fixed:
        if len(records.model_ids) != 1:
            raise DataError(f"{', '.join(records.paths)}: a fixed effect is one model, found {len(records.model_ids)}")
        return SortedEntities(pa.array([_FIXED_EFFECT_ENTITY]), np.zeros(1, dtype=np.int64))
    unsorted = _integer_entities(records, integer) if integer is not None else pa.array(records.model_ids, pa.string())
    order = pc.array_sort_indices(unsorted).to_numpy()
    entities = unsorted.take(pa.array(order))
    repeated = pc.equal(entities[1:], entities[:-1]).to_numpy(zero_copy_only=False)
    if repeated.any():
        row = int(np.argmax(repeated))
        raise DataError(
            f"entity {entities[row].as_py()!r} has two models, in {records.path_of(order[row])} and in "
            f"{records.path_of(order[row + 1])}; keep one of them"
        )
    return SortedEntities(entities, order.astype(np.int64))


def _integer_entities(records: ModelRecords, integer: pa.DataType) -> pa.Array:
    limits = np.iinfo(integer.to_pandas_dtype())
    for record, model_id in enumerate(records.model_ids):
        if not _PLAIN_INTEGER.fullmatch(model_id) or not limits.min <= int(model_id) <= limits.max:
            raise DataError(
                f"{records.path_of(record)}: modelId {model_id!r} is no plain 64-bit integer, but the entity "
                f"column holds integers ({integer}); make the column a string, or use the models of this column"
            )
    return pa.array(list(map(int, records.model_ids)), integer)


def tabulate(
    records: ModelRecords, sorted_entities: SortedEntities, indices: Integers, features: FeatureList
) -> CoefficientTable:
    """Return the coefficients of known features as a table; read_avro says what becomes of absent values.

    indices: int64 [feature numbers], the index in `features` of each feature of the records, INTERCEPT_INDEX
    or UNKNOWN. Raises DataError for a coefficient that occurs twice and for means that are not finite.
    """
    keys = _Keys(records, sorted_entities, indices, features)
    mean_keys, means = keys.of(records.means, "mean")
    variance_keys, variances = keys.of(records.variances, "variance")
    finite = np.isfinite(means)
    if not finite.all():
        entry = int(np.argmin(finite))
        raise DataError(
            f"{keys.describe(mean_keys[entry])}: the mean is {means[entry]}, but coefficients must be "
            "finite; train the model again"
        )
    table_keys = np.union1d(mean_keys, variance_keys)
    rows = np.arange(len(sorted_entities.entities) + 1)
    return CoefficientTable(
        entities=sorted_entities.entities,
        offsets=np.searchsorted(table_keys, rows * keys.width),
        features=(table_keys % keys.width + INTERCEPT_INDEX).astype(np.int32),
        means=_placed(means, mean_keys, table_keys, absent=0.0),
        variances=_placed(variances, variance_keys, table_keys, absent=np.nan) if records.has_variances else None,
    )


def count_unknown(records: ModelRecords, indices: Integers) -> int:
    """Count the UNKNOWN coefficients (pairs of entity and feature with a mean or a variance)."""
    pairs = []
    for entries in (records.means, records.variances):
        record = np.repeat(np.arange(len(entries.counts)), entries.counts)
        unknown = indices[entries.features] == UNKNOWN
        pairs.append(record[unknown] * len(indices) + entries.features[unknown])
    return len(np.union1d(*pairs))


class _Keys:
    """Numbers that order entries as the table does: by entity, the intercept first, then by feature index."""

    def __init__(
        self, records: ModelRecords, sorted_entities: SortedEntities, indices: Integers, features: FeatureList
    ) -> None:
        self.width = len(features) + 1
        self._records = records
        self._sorted_entities = sorted_entities
        self._row_of_record = sorted_entities.row_of_record
        self._indices = indices
        self._features = features

    def of(self, entries: Entries, kind: str) -> tuple[Integers, Floats]:
        """Key and value of each entry whose feature is known; none may occur twice."""
        index = self._indices[entries.features]
        known = index != UNKNOWN
        row = np.repeat(self._row_of_record, entries.counts)
        keys = (row * self.width + index - INTERCEPT_INDEX)[known]
        ordered = np.sort(keys)
        repeated = ordered[1:] == ordered[:-1]
        if repeated.any():
            raise DataError(
                f"{self.describe(ordered[np.argmax(repeated)])}: the {kind} occurs twice, and which one "
                "holds cannot be known; write the model again"
            )
        return keys, entries.values[known]

    def describe(self, key: int) -> str:
        row, place = divmod(int(key), self.width)
        index = place + INTERCEPT_INDEX
        feature = INTERCEPT if index == INTERCEPT_INDEX else self._features.names[index]
        path = self._records.path_of(self._sorted_entities.records[row])
        return f"{path}: feature {feature} of entity {self._sorted_entities.entities[row].as_py()!r}"


def _placed(values: Floats, keys: Integers, table_keys: Integers, *, absent: float) -> Floats:
    column = np.full(len(table_keys), absent)
    column[np.searchsorted(table_keys, keys)] = values
    return column
