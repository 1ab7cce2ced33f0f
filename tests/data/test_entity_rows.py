"""Rows of whole entities: a sample of them, and pieces, against plain lists."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from gdmix_core.data.entity_rows import EntityRows
from gdmix_core.data.ragged import Bag


def rows_of(lengths: list[int], *, leverage: bool = True, seed: int = 0) -> EntityRows:
    rng = np.random.default_rng(seed)
    total = sum(lengths)
    entries = rng.integers(0, 4, total)
    offsets = np.concatenate([[0], np.cumsum(entries)]).astype(np.int64)
    indices, values = rng.integers(0, 9, offsets[-1]).astype(np.int32), rng.normal(size=offsets[-1])
    end = np.cumsum(lengths, dtype=np.int64)
    return EntityRows(
        pa.array([10 * e for e in range(len(lengths))], pa.int64()),
        end - np.array(lengths, np.int64),
        end,
        rng.permutation(total),
        *rng.normal(size=(3, total)),
        Bag(offsets, indices, values),
        rng.random(total) if leverage else None,
    )


def listed(rows: EntityRows) -> list[tuple]:
    """By entity: its id and, by row, everything the row has."""
    bag = rows.bag
    found = []
    for e, entity in enumerate(rows.ids.to_pylist()):
        own = []
        for i in range(rows.begin[e], rows.end[e]):
            entries = slice(bag.offsets[i], bag.offsets[i + 1])
            leverage = None if rows.margin_variance is None else rows.margin_variance[i]
            numbers = (rows.row[i], rows.label[i], rows.weight[i], rows.offset[i], leverage)
            own.append((*numbers, bag.indices[entries].tolist(), bag.values[entries].tolist()))
        found.append((entity, own))
    return found


lengths = st.lists(st.integers(1, 6), max_size=12)


@given(lengths, st.integers(1, 15), st.booleans())
def test_every_step_th_entity(counts: list[int], step: int, leverage: bool):
    rows = rows_of(counts, leverage=leverage)
    sample = rows.every(step)
    assert listed(sample) == listed(rows)[::step]
    assert len(sample.row) == sum(counts[::step])
    assert len(sample.bag.offsets) == len(sample.row) + 1
    assert (sample.margin_variance is None) == (not leverage)


@given(lengths, st.integers(1, 15))
def test_pieces_hold_all_entities_once_and_in_order(counts: list[int], parts: int):
    rows = rows_of(counts)
    pieces = rows.cut(parts)
    assert len(pieces) <= parts
    assert [entity for piece in pieces for entity in listed(piece)] == listed(rows)
    assert all(len(piece) for piece in pieces)


@given(lengths, st.integers(1, 4), st.integers(1, 4))
def test_pieces_of_a_sample(counts: list[int], step: int, parts: int):
    rows = rows_of(counts)
    assert [entity for piece in rows.every(step).cut(parts) for entity in listed(piece)] == listed(rows)[::step]


def test_a_sample_of_a_piece_begins_at_its_own_first_entity():
    rows = rows_of([2, 3, 1, 4, 2])
    second = rows.cut(2)[1]
    assert listed(second.every(2)) == listed(second)[::2]
