"""Hashes of ids against the same formulas in Python's integers; they are part of the format of shards."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from gdmix_core.data.hashing import hash_ids

MASK = 2**64 - 1


def mix(x: int) -> int:
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def of_text(text: str) -> int:
    h = 0xCBF29CE484222325
    for octet in text.encode():
        h = ((h ^ octet) * 0x100000001B3) & MASK
    return mix(h)


@settings(deadline=None, derandomize=True)
@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_integers(ids):
    assert hash_ids(pa.array(ids, pa.int64())).tolist() == [mix((i + 0x9E3779B97F4A7C15) & MASK) for i in ids]


@settings(deadline=None, derandomize=True)
@given(st.lists(st.text(max_size=20)), st.integers(0, 5))
def test_strings_also_of_a_slice(ids, skipped):
    array = pa.array(ids, pa.string())
    assert hash_ids(array).tolist() == [of_text(i) for i in ids]
    assert hash_ids(array.slice(skipped)).tolist() == [of_text(i) for i in ids[skipped:]]


def test_narrow_types_and_nulls():
    assert hash_ids(pa.array([7, None], pa.int16())).tolist() == hash_ids(pa.array([7, 0])).tolist()
    assert hash_ids(pa.array(["a", None])).tolist() == [of_text("a"), of_text("")]


def test_known_values_stay():
    """Another release must put an entity into the same shard."""
    assert hash_ids(pa.array([0, 1, -1])).tolist() == [mix((i + 0x9E3779B97F4A7C15) & MASK) for i in (0, 1, -1)]
    assert hash_ids(pa.array([0]))[0] == 16294208416658607535  # first output of SplitMix64 from state 0


def test_shards_are_even():
    shard = hash_ids(pa.array(np.arange(80_000))) % np.uint64(8)
    counts = np.bincount(shard.astype(int))
    assert counts.min() > 9_500
    texts = hash_ids(pa.array([f"u{i}" for i in range(80_000)])) % np.uint64(8)
    assert np.bincount(texts.astype(int)).min() > 9_500
