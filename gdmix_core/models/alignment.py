"""Bringing earlier models and new ones together: the same entities, the same features, whatever each of them has."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gdmix_core.data.id_types import among
from gdmix_core.errors import DataError
from gdmix_core.jit import njit
from gdmix_core.models.table import CoefficientTable


class _Entities:
    """An Arrow array as a sequence that bisect can search."""

    def __init__(self, values: pa.Array) -> None:
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, position: int) -> int | str:
        found: int | str = self._values[position].as_py()
        return found


def slice_entities(table: CoefficientTable, ids: pa.Array) -> CoefficientTable:
    """Return the part of a table sorted by entity that lies between the first and the last of the sorted ids."""
    if len(ids) == 0:
        return table.between(0, 0)
    entities = _Entities(table.entities)
    return table.between(bisect_left(entities, ids[0].as_py()), bisect_right(entities, ids[-1].as_py()))


def look_up(
    table: CoefficientTable, ids: pa.Array, coefficient_begin: NDArray[np.int64], features: NDArray[np.int32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Look up (means, variances) float64 [coefficients] of the entities' features in the table, nan for none.

    ids: E entities; entity e's features are features[coefficient_begin[e] : coefficient_begin[e + 1]]
    """
    model_of = positions(table.entities, ids)
    means = np.full(len(features), np.nan)
    variances = np.full(len(features), np.nan)
    known = np.full(len(table.means), np.nan) if table.variances is None else table.variances
    _look_up(model_of, coefficient_begin, features, table.offsets, table.features, table.means, known, means, variances)
    return means, variances


def merge_models(
    table: CoefficientTable, earlier: CoefficientTable, *, entities: bool, features: bool
) -> tuple[CoefficientTable, int, int]:
    """Add what only the earlier table has; return (table, models in both, coefficients these have only in the earlier).

    entities: whether earlier models are taken of entities that the table has not, or that have no coefficient there
    features: whether the other entities' earlier coefficients are taken of features that their models have not
    Both tables and the result are sorted by entity.
    """
    ids = table.entities
    if entities:
        new = earlier.entities.filter(pc.invert(pc.is_in(earlier.entities, value_set=table.entities)))
        if len(new):
            ids = pa.concat_arrays([table.entities, new])
            ids = ids.take(pc.sort_indices(ids))
    mine, theirs = positions(table.entities, ids), positions(earlier.entities, ids)
    room = len(table.features) + len(earlier.features)
    offsets = np.zeros(len(ids) + 1, np.int64)
    indices, means, variances = np.empty(room, np.int32), np.empty(room), np.empty(room)
    unknown = np.full(room, np.nan)
    matched = np.zeros(2, np.int64)
    _merge(
        entities, features, mine, theirs,
        table.offsets, table.features, table.means, unknown if table.variances is None else table.variances,
        earlier.offsets, earlier.features, earlier.means, unknown if earlier.variances is None else earlier.variances,
        offsets, indices, means, variances, matched,
    )  # fmt: skip
    used = int(offsets[-1])
    has_variances = table.variances is not None or earlier.variances is not None
    found = CoefficientTable(
        ids, offsets, indices[:used].copy(), means[:used].copy(), variances[:used].copy() if has_variances else None
    )
    return found, int(matched[0]), int(matched[1])


def positions(entities: pa.Array, ids: pa.Array) -> NDArray[np.int64]:
    """Return int64: where each id is among the entities, or −1. Raises DataError for texts among integers."""
    try:
        wanted = among(ids, entities.type)
    except pa.ArrowInvalid:
        raise DataError(
            f"ids are {ids.type}, but the models' entities are {entities.type}; give both in one type"
        ) from None
    found = pc.index_in(wanted, value_set=entities, skip_nulls=True).fill_null(-1)
    return found.to_numpy(zero_copy_only=False).astype(np.int64)


@njit(cache=True, nogil=True)
def _look_up(
    model_of: NDArray[np.int64],
    coefficient_begin: NDArray[np.int64],
    features: NDArray[np.int32],
    offsets: NDArray[np.int64],
    known: NDArray[np.int32],
    known_means: NDArray[np.float64],
    known_variances: NDArray[np.float64],
    means: NDArray[np.float64],
    variances: NDArray[np.float64],
) -> None:
    for e in range(len(model_of)):
        if model_of[e] < 0:
            continue
        at, end = offsets[model_of[e]], offsets[model_of[e] + 1]
        for k in range(coefficient_begin[e], coefficient_begin[e + 1]):
            while at < end and known[at] < features[k]:
                at += 1
            if at < end and known[at] == features[k]:
                means[k] = known_means[at]
                variances[k] = known_variances[at]


@njit(cache=True, nogil=True)
def _merge(
    entities: bool,
    features: bool,
    mine: NDArray[np.int64],
    theirs: NDArray[np.int64],
    my_offsets: NDArray[np.int64],
    my_features: NDArray[np.int32],
    my_means: NDArray[np.float64],
    my_variances: NDArray[np.float64],
    their_offsets: NDArray[np.int64],
    their_features: NDArray[np.int32],
    their_means: NDArray[np.float64],
    their_variances: NDArray[np.float64],
    offsets: NDArray[np.int64],
    indices: NDArray[np.int32],
    means: NDArray[np.float64],
    variances: NDArray[np.float64],
    matched: NDArray[np.int64],
) -> None:
    """Entity by entity, the union of two ascending lists of features; where both have one, mine counts."""
    used = 0
    for e in range(len(mine)):
        a, a_end, b, b_end = 0, 0, 0, 0
        if mine[e] >= 0:
            a, a_end = my_offsets[mine[e]], my_offsets[mine[e] + 1]
        if theirs[e] >= 0:
            b, b_end = their_offsets[theirs[e]], their_offsets[theirs[e] + 1]
        both = a < a_end and b < b_end
        wanted = features if both else entities
        if both:
            matched[0] += 1
        while a < a_end or b < b_end:
            if b == b_end or (a < a_end and my_features[a] <= their_features[b]):
                if b < b_end and my_features[a] == their_features[b]:
                    b += 1
                indices[used], means[used], variances[used] = my_features[a], my_means[a], my_variances[a]
                a += 1
                used += 1
            else:
                if both:
                    matched[1] += 1
                if wanted:
                    indices[used] = their_features[b]
                    means[used] = their_means[b]
                    variances[used] = their_variances[b]
                    used += 1
                b += 1
        offsets[e + 1] = used
