"""Ids of every type: unsigned ones are looked up, hashed, sorted, cut and joined by their value, above 2⁶³ too."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdmix_core.data.engines.uid_ranges import range_of, range_starts
from gdmix_core.data.hashing import hash_ids
from gdmix_core.data.id_index import IdIndex
from gdmix_core.data.id_types import among, arrow_type, from_order_preserving, order_preserving, plain_ids
from gdmix_core.data.shards import entity_runs
from gdmix_core.errors import DataError
from gdmix_core.models.alignment import positions

signed = st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3)
unsigned = st.integers(0, 2**64 - 1) | st.integers(2**63 - 2, 2**63 + 2) | st.integers(0, 3)
OF_TYPE = {"integer": signed, "unsigned": unsigned, "text": st.text(max_size=3)}
INTEGERS = ["integer", "unsigned"]


def array(values: list, kind: str) -> pa.Array:
    return pa.array(values, arrow_type(kind))


@given(st.lists(unsigned | st.none()))
def test_the_order_is_kept_on_the_way_through_signed_numbers(values: list):
    there = order_preserving(array(values, "unsigned"))
    assert there.type == pa.int64()
    assert from_order_preserving(there).to_pylist() == values
    known = [v for v in values if v is not None]
    assert np.argsort(there.drop_null().to_numpy(), kind="stable").tolist() == sorted(
        range(len(known)), key=lambda i: known[i]
    )


@given(st.data())
@pytest.mark.parametrize("here", INTEGERS)
@pytest.mark.parametrize("there", INTEGERS)
def test_looked_up_by_value_whatever_the_types(here: str, there: str, data: st.DataObject):
    known = data.draw(st.lists(OF_TYPE[there], unique=True, max_size=8))
    wanted = data.draw(
        st.lists(OF_TYPE[here] | st.sampled_from(known or [0]).filter(lambda v: fits(v, here)), max_size=8)
    )
    expected = [known.index(v) if v in known else -1 for v in wanted]
    assert IdIndex(array(known, there)).positions(array(wanted, here)).tolist() == expected
    assert positions(array(known, there), array(wanted, here)).tolist() == expected
    held = [v if fits(v, there) else None for v in wanted]
    assert among(array(wanted, here), arrow_type(there)).to_pylist() == held


def fits(value: int, kind: str) -> bool:
    return (0 <= value < 2**64) if kind == "unsigned" else (-(2**63) <= value < 2**63)


@given(st.integers(0, 2**63 - 1))
def test_an_integer_has_one_hash_in_every_type(value: int):
    """So it goes to the same shard, is chosen alike, and is found in an index of the other type."""
    assert hash_ids(array([value], "unsigned")) == hash_ids(array([value], "integer"))


def test_known_hashes_of_large_integers():
    """SplitMix64 of the state x, as its authors give it: the second output of the generator seeded with 0 is that of
    the increment 0x9E3779B97F4A7C15, which is above 2⁶³."""
    assert hash_ids(array([0, 0x9E3779B97F4A7C15], "unsigned")).tolist() == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]


@given(st.lists(unsigned, min_size=1, unique=True), st.integers(1, 5))
def test_ranges_are_cut_by_value(values: list, ranges: int):
    ids = array(values, "unsigned")
    starts = range_starts(ids, ranges)
    found = range_of(pa.concat_arrays([ids, array([None], "unsigned")]), starts)
    assert found.tolist() == [sum(start <= v for start in starts.to_pylist()) for v in values] + [found[-1]]
    begins, lengths = entity_runs(array(sorted(values + values), "unsigned"))
    assert (begins.tolist(), lengths.tolist()) == (list(range(0, 2 * len(values), 2)), [2] * len(values))


@pytest.mark.parametrize(
    ("ids", "kind"),
    [
        (["b", "a"], "text"),
        (np.array([3, 1], np.int8), "integer"),
        (pa.array([3, 2**64 - 1], pa.uint64()), "unsigned"),
        (pa.array(["a", "b"]).dictionary_encode(), "text"),
        (pa.array(["a", "b"], pa.string_view()), "text"),
        (pa.chunked_array([["a"], ["b"]], pa.large_string()), "text"),
        (pa.array([5, 6], pa.uint16()), "integer"),
        ([], "text"),
    ],
)
def test_ids_of_a_notebook(ids: object, kind: str):
    assert plain_ids(ids) == array(ids.to_pylist() if hasattr(ids, "to_pylist") else list(ids), kind)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1.5, 2.0], "ids: must be integers or strings, not double"),
        (["a", None], "1 of 2 entities are null"),
        (["b", "a", "b"], "entity 'b' is there 2 times"),
        ([[1], [2]], "not list"),
        (["a", 1], "not an array of integers or strings"),
    ],
)
def test_ids_that_cannot_be(ids: object, message: str):
    with pytest.raises(DataError, match=message):
        plain_ids(ids)
