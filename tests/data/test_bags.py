"""Feature bags against plain Python: canonical form, packing for the shuffle, taking rows, Arrow in and out."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdmix_core.data import bags
from gdmix_core.data.ragged import Bag

FEATURES = 6
Rows = list[list[tuple[int, float]]]
values = st.floats(-1e6, 1e6, width=32)
raw_rows = st.lists(
    st.lists(st.tuples(st.integers(-2, FEATURES + 1), values | st.just(float("nan"))), max_size=8), max_size=8
)
rows = st.lists(st.lists(st.tuples(st.integers(0, 2**31 - 1), values), max_size=5), max_size=8)
dtypes = st.sampled_from([np.float32, np.float64])


def make(content: Rows, dtype: type = np.float64) -> Bag:
    offsets = np.cumsum([0, *map(len, content)]).astype(np.int64)
    flat = [entry for row in content for entry in row]
    return Bag(offsets, np.array([j for j, _ in flat], np.int32), np.array([v for _, v in flat], dtype))


def plain(bag: Bag) -> Rows:
    return [
        list(zip(bag.indices[a:b].tolist(), bag.values[a:b].tolist(), strict=True))
        for a, b in zip(bag.offsets[:-1], bag.offsets[1:], strict=True)
    ]


@settings(deadline=None, derandomize=True)
@given(raw_rows, dtypes)
def test_canonical_form(content, dtype):
    raw = make(content, dtype)
    found, faults = bags.canonical(raw.offsets, raw.indices.astype(np.int64), raw.values, FEATURES)
    for i, row in enumerate(content):
        inside = [(j, v) for j, v in row if 0 <= j < FEATURES]
        got = plain(found)[i]
        assert [j for j, _ in got] == sorted({j for j, _ in inside})
        for j, value in got:
            expected = np.sum([v for k, v in inside if k == j])
            assert value == pytest.approx(expected, rel=1e-5, abs=1e-1, nan_ok=True)
        assert bool(faults[i] & bags.OUT_OF_RANGE) == (len(inside) < len(row))
        assert bool(faults[i] & bags.NOT_FINITE) == any(not np.isfinite(v) for _, v in inside)
        assert bool(faults[i] & bags.DUPLICATE) == (len({j for j, _ in inside}) < len(inside))


def test_duplicates_whose_sum_overflows_are_not_finite():
    raw = make([[(1, 3e38), (1, 3e38)], [(1, 3e38), (2, 3e38)]], np.float32)
    _, faults = bags.canonical(raw.offsets, raw.indices.astype(np.int64), raw.values, FEATURES)
    assert faults.tolist() == [bags.DUPLICATE | bags.NOT_FINITE, 0]


@settings(deadline=None, derandomize=True)
@given(rows, dtypes, st.integers(0, 8), st.integers(0, 8))
def test_packing_and_back_also_of_a_slice(content, dtype, low, high):
    bag = make(content, dtype)
    packed = bags.pack(bag)
    assert plain(bags.unpack(packed, np.dtype(dtype))) == plain(bag)
    part = packed.slice(low, max(0, high - low))
    assert plain(bags.unpack(part, np.dtype(dtype))) == plain(bag)[low : max(low, high)]


def test_unpacking_nulls():
    packed = bags.pack(make([[(3, 1.5)], []]))
    with_null = pa.array([packed[0].as_py(), None, packed[1].as_py()], pa.binary())
    assert plain(bags.unpack(with_null, np.dtype(np.float64))) == [[(3, 1.5)], [], []]
    assert plain(bags.unpack(pa.array([], pa.binary()), np.dtype(np.float32))) == []


@settings(deadline=None, derandomize=True)
@given(rows.filter(len), st.data())
def test_take_and_concatenate(content, data):
    bag = make(content)
    positions = data.draw(st.lists(st.integers(0, len(content) - 1)))
    taken = bags.take(bag, np.array(positions, np.int64))
    assert plain(taken) == [plain(bag)[p] for p in positions]
    assert plain(bags.concatenate([bag, taken], np.dtype(np.float64))) == plain(bag) + plain(taken)


@settings(deadline=None, derandomize=True)
@given(rows, dtypes)
def test_arrow_and_back(content, dtype):
    bag = make(content, dtype)
    table = pa.table(dict(zip(("i", "v"), bags.to_arrow(bag), strict=True)))
    back = bags.from_arrow(table["i"], table["v"])
    assert plain(back) == plain(bag)
    assert (back.values.dtype, back.indices.dtype) == (dtype, np.int32)


def test_lists_with_nulls_and_several_chunks():
    column = pa.chunked_array([pa.array([[1, 2], None]), pa.array([[], [3]], pa.list_(pa.int64()))])
    offsets, flat = bags.flatten_lists(column)
    assert offsets.tolist() == [0, 2, 2, 2, 3]
    assert flat.tolist() == [1, 2, 3]


@settings(deadline=None, derandomize=True)
@given(st.lists(st.lists(st.sampled_from([0.0, -0.0, 1.5, -2.0, float("nan")]), max_size=5), max_size=6))
def test_sparse_of_dense(content):
    offsets = np.cumsum([0, *map(len, content)]).astype(np.int64)
    flat = np.array([v for row in content for v in row])
    before = flat.copy()
    kept, indices, found = bags.sparse_of_dense(offsets, flat)
    assert np.array_equal(flat, before, equal_nan=True)
    for i, row in enumerate(content):
        expected = [(j, v) for j, v in enumerate(row) if v != 0]
        span = slice(kept[i], kept[i + 1])
        assert indices[span].tolist() == [j for j, _ in expected]
        assert np.array_equal(found[span], [v for _, v in expected], equal_nan=True)
