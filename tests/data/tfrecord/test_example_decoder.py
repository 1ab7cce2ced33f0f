"""The Example decoder against protobuf's own parser: what it writes, what the wire format allows, damage."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from example_oracle import Example, assert_same_as_oracle, chunk_of, has_odd_entries, serialize
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_writer import WireWriter, delimited

from gdmix_core.data.tfrecord.decoder import MISSING, OK, WRONG_KIND, Field, Kind, decode
from gdmix_core.errors import ConfigError, DataError

NAMES = ["", "a", "b", "user_id", "ключ", "長い名前" * 40]
names = st.sampled_from(NAMES)
kinds: st.SearchStrategy[Kind] = st.sampled_from(["int64", "float", "bytes"])
int64s = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-2, 300))
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "int64": int64s,
    "float": st.floats(width=32),
    "bytes": st.binary(max_size=20),
}
fields = st.dictionaries(names, kinds, max_size=5).map(lambda d: [Field(n, k) for n, k in d.items()])


def feature_of(kind: str) -> st.SearchStrategy[tuple[str, list[Any]]]:
    return st.tuples(st.just(kind), st.lists(VALUES[kind], max_size=200 if kind == "int64" else 5))


features = st.one_of(*map(feature_of, VALUES), st.just(("none", [])))


@settings(deadline=None)
@given(st.lists(st.dictionaries(names, features, max_size=6), max_size=5), fields, st.booleans())
def test_what_protobuf_writes(examples: list[dict[str, Any]], wanted: list[Field], packed: bool) -> None:
    records = [serialize(example, packed=packed) for example in examples]
    assert_same_as_oracle(decode(chunk_of(records), wanted), [Example.FromString(r) for r in records], wanted)


few_fields = st.permutations(["a", "ключ", ""]).flatmap(
    lambda few: st.lists(kinds, min_size=1, max_size=3).map(lambda drawn: list(map(Field, few, drawn)))
)
examples_on_wire = st.integers(0, 2**63).map(lambda seed: WireWriter(random.Random(seed)).example())


@settings(deadline=None, max_examples=400)
@given(st.lists(examples_on_wire, min_size=1, max_size=3), few_fields)
def test_what_the_wire_format_allows(records: list[bytes], wanted: list[Field]) -> None:
    assert_same_as_oracle(decode(chunk_of(records), wanted), [Example.FromString(r) for r in records], wanted)


def damaged(data: bytes, draw: st.DataObject) -> bytes:
    mutant = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 3))):
        if not mutant:
            break
        at = draw.draw(st.integers(0, len(mutant) - 1))
        action = draw.draw(st.sampled_from(["set", "cut", "remove", "insert"]))
        if action == "set":
            mutant[at] = draw.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
        elif action == "cut":
            del mutant[at:]
        elif action == "remove":
            del mutant[at]
        else:
            mutant.insert(at, draw.draw(st.integers(0, 255)))
    return bytes(mutant)


def check_damaged(mutant: bytes, wanted: list[Field]) -> None:
    try:
        parsed = Example.FromString(mutant)
    except DecodeError:
        parsed = None
    try:
        columns = decode(chunk_of([mutant]), wanted)
    except DataError as error:
        # what protobuf reads is read, but for groups
        assert parsed is None or "groups" in str(error)  # noqa: PT017
        assert "records: record 0" in str(error)  # noqa: PT017
        return
    if parsed is not None and not has_odd_entries(parsed):
        assert_same_as_oracle(columns, [parsed], wanted)


@settings(deadline=None, max_examples=400)
@given(examples_on_wire, few_fields, st.data())
def test_fuzz_damaged_records(record: bytes, wanted: list[Field], draw: st.DataObject) -> None:
    check_damaged(damaged(record, draw), wanted)


@settings(deadline=None, max_examples=20)
@given(examples_on_wire, few_fields)
def test_fuzz_every_byte_missing(record: bytes, wanted: list[Field]) -> None:
    for at in range(len(record)):
        check_damaged(record[:at] + record[at + 1 :], wanted)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=60), fields)
def test_fuzz_random_bytes(record: bytes, wanted: list[Field]) -> None:
    try:
        columns = decode(chunk_of([record]), wanted)
    except DataError:
        return
    assert all(len(column) == 1 for column in columns.values())


def test_records_of_one_layout_and_then_another() -> None:
    first = {"uid": ("int64", [1]), "weight": ("float", [0.5]), "x": ("int64", [3, 300])}
    other = {"aaa": ("bytes", [b"new"]), "uid": ("int64", [2]), "x": ("float", [1.0])}
    records = [serialize(e) for e in (first, first, other, first, {}, other)]
    columns = decode(chunk_of(records), [Field("x", "int64"), Field("uid", "int64"), Field("aaa", "bytes")])
    assert columns["x"].values.tolist() == [3, 300] * 3
    assert columns["x"].status.tolist() == [OK, OK, WRONG_KIND, OK, MISSING, WRONG_KIND]
    assert columns["x"].offsets.tolist() == [0, 2, 4, 4, 6, 6, 6]
    assert columns["uid"].values.tolist() == [1, 1, 2, 1, 2]
    assert columns["aaa"].values.to_pylist() == [b"new", b"new"]


def test_more_features_than_are_remembered() -> None:
    example = {f"feature {i}": ("int64", [i]) for i in range(1000)}
    wanted = [Field(f"feature {i}", "int64") for i in (0, 7, 300, 999)]
    columns = decode(chunk_of([serialize(example)] * 3), wanted)
    assert [column.values.tolist() for column in columns.values()] == [[i] * 3 for i in (0, 7, 300, 999)]


def test_an_empty_list_is_a_value_and_a_feature_without_list_is_not() -> None:
    records = [serialize({"a": ("float", [])}), serialize({"a": ("none", [])}), serialize({})]
    column = decode(chunk_of(records), [Field("a", "float")])["a"]
    assert column.status.tolist() == [OK, MISSING, MISSING]
    assert column.values.dtype == np.float32
    assert len(column.values) == 0


def test_no_records_no_fields() -> None:
    assert decode(chunk_of([serialize({"a": ("int64", [1])})]), []) == {}
    column = decode(chunk_of([]), [Field("a", "bytes")])["a"]
    assert len(column) == 0
    assert column.offsets.tolist() == [0]
    assert len(column.values) == 0


def test_one_field_asked_for_twice() -> None:
    with pytest.raises(ConfigError, match="asked for twice: a;"):
        decode(chunk_of([]), [Field("a", "int64"), Field("a", "float")])


@pytest.mark.parametrize(
    ("record", "what"),
    [
        (b"\x0a\x05\x0a", "reaches beyond the end"),
        (b"\x0a", "cut off"),
        (b"\x08" + b"\xff" * 11, "longer than ten bytes"),
        (b"\x02\x00", "number that protobuf does not allow"),
        (b"\x0e\x00", "wire type 3, 4, 6 or 7"),
        (
            delimited(1, delimited(1, delimited(1, b"a") + delimited(2, delimited(2, delimited(1, b"abc"))))),
            "float",
        ),
        (
            delimited(1, delimited(1, delimited(1, b"a") + delimited(2, delimited(3, delimited(1, b"\x80"))))),
            "cut off",
        ),
        (
            delimited(
                1,
                delimited(1, delimited(1, b"a") + delimited(2, delimited(3, delimited(1, b"\x80" * 10 + b"\0")))),
            ),
            "longer than ten bytes",
        ),
    ],
)
def test_malformed_records_are_named(record: bytes, what: str) -> None:
    good = serialize({"a": ("int64", [1])})
    with pytest.raises(DataError, match=what) as error:
        decode(chunk_of([good, record]), [Field("a", "int64")])
    assert "records: record 1, byte offset" in str(error.value)
