"""The TFRecord writer against protobuf's own serializer, the crc32c package, our reader, and TensorFlow."""

from __future__ import annotations

import gzip
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gdmix_core.data.ragged import Bag
from gdmix_core.data.tfrecord.decoder import MISSING, OK, Field, Kind, decode
from gdmix_core.data.tfrecord.files import iter_chunks
from gdmix_core.errors import DataError
from gdmix_core.samples.tfrecord_writer import encode_examples, write_tfrecord
from tests.data.tfrecord.example_oracle import Example, chunk_of, serialize
from tests.data.tfrecord.tfrecord_oracle import file_of, payloads_of

int64s = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-2, 300))
float32s = st.floats(width=32)
DTYPES = {"int64": np.int64, "float": np.float32}


def records_of(columns: dict[str, Any]) -> list[bytes]:
    """The records that the columns become, whose frames are as the format says."""
    framed = encode_examples(columns).tobytes()
    records, at = [], 0
    while at < len(framed):
        length = int.from_bytes(framed[at : at + 8], "little")
        records.append(framed[at + 12 : at + 12 + length])
        at += length + 16
    assert file_of(records) == framed
    return records


def bag_of_rows(rows: list[list[tuple[int, float]]]) -> Bag:
    flat = [entry for row in rows for entry in row]
    return Bag(
        np.cumsum([0, *map(len, rows)], dtype=np.int64),
        np.array([index for index, _ in flat], np.int64),
        np.array([value for _, value in flat], np.float32),
    )


def tables(rows: int) -> st.SearchStrategy[dict[str, tuple[str, list[Any]]]]:
    entries = st.lists(st.tuples(int64s, float32s), max_size=150)
    bags = st.tuples(st.just("bag"), st.lists(entries, min_size=rows, max_size=rows))
    texts = st.tuples(st.just("bytes"), st.lists(st.none() | st.binary(max_size=200), min_size=rows, max_size=rows))
    return st.dictionaries(st.text(max_size=20), bags | texts, min_size=1, max_size=5)


def lists_of(name: str, kind: str, row: Any) -> dict[str, tuple[str, list[Any]]]:
    """The features of a record that a row of a column stands for."""
    if kind == "bag":
        indices, values = ([entry[at] for entry in row] for at in (0, 1))
        return {f"{name}_indices": ("int64", indices), f"{name}_values": ("float", values)}
    return {} if row is None else {name: ("bytes", [row])}


@settings(deadline=None)
@given(st.integers(0, 5).flatmap(tables))
def test_records_as_protobuf_writes_them(table: dict[str, tuple[str, list[Any]]]) -> None:
    columns = {
        name: bag_of_rows(rows) if kind == "bag" else pa.array(rows, pa.binary())
        for name, (kind, rows) in table.items()
    }
    expected = [
        serialize(
            {key: lists for name, (kind, rows) in table.items() for key, lists in lists_of(name, kind, rows[r]).items()}
        )
        for r in range(len(next(iter(columns.values()))))
    ]
    assume(
        not any(
            kind == "bag" and {f"{name}_indices", f"{name}_values"} & set(table) for name, (kind, _) in table.items()
        )
    )
    records = records_of(columns)
    # protobuf sorts the keys in its own way
    assert [Example.FromString(r).SerializeToString(deterministic=True) for r in records] == expected
    assert [len(record) for record in records] == [len(record) for record in expected]

    decoded = decode(chunk_of(records), [Field(name, "bytes") for name, (kind, _) in table.items() if kind == "bytes"])
    for name, column in decoded.items():
        rows = table[name][1]
        assert column.status.tolist() == [MISSING if row is None else OK for row in rows]
        assert column.values.to_pylist() == [row for row in rows if row is not None]


dtypes = st.one_of(
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(sizes=(8, 16, 32), endianness="?"),
    hnp.floating_dtypes(endianness="?"),
    st.just(np.dtype(bool)),
)
# float64 within the range of float32
arrays = hnp.arrays(dtypes, hnp.array_shapes(max_dims=2, max_side=5)).filter(
    lambda array: array.dtype.str[1:] != "f8" or not (np.abs(array[np.isfinite(array)]) > 3e38).any()
)


@settings(deadline=None)
@given(arrays, st.booleans())
def test_dense_numbers(array: np.ndarray, reverse: bool) -> None:
    array = array[::-1] if reverse else array
    kind: Kind = "float" if array.dtype.kind == "f" else "int64"
    column = decode(chunk_of(records_of({"a": array})), [Field("a", kind)])["a"]
    assert column.status.tolist() == [OK] * len(array)
    width = 1 if array.ndim == 1 else array.shape[1]
    assert column.offsets.tolist() == [width * i for i in range(len(array) + 1)]
    np.testing.assert_array_equal(column.values, array.reshape(-1).astype(DTYPES[kind]))


@pytest.mark.parametrize(
    "strings",
    [
        ["a", "", "ключ"],
        [b"a", b"", "ключ".encode()],
        np.array(["a", "", "ключ"]),
        np.array(["a", "", "ключ"], object),
        pa.array(["a", "", "ключ"]),
        pa.array(["no", "a", "", "ключ", "no"], pa.large_string()).slice(1, 3),
        pa.array([b"a", b"", "ключ".encode()], pa.binary()),
        pa.array(["a", "", "ключ"]).dictionary_encode(),
    ],
)
def test_strings(strings: Any) -> None:
    records = records_of({"entity": strings})
    assert records == [serialize({"entity": ("bytes", [s.encode()])}) for s in ("a", "", "ключ")]


def test_nulls_leave_the_feature_out() -> None:
    for strings in (["a", None, "b"], pa.array(["a", None, "b"]), np.array(["a", None, "b"], object)):
        column = decode(chunk_of(records_of({"s": strings})), [Field("s", "bytes")])["s"]
        assert column.status.tolist() == [OK, MISSING, OK]
        assert column.values.to_pylist() == [b"a", b"b"]
    assert records_of({"s": [None, None]}) == [serialize({})] * 2


def some_columns(rows: int) -> dict[str, Any]:
    random = np.random.default_rng(5)
    offsets = np.cumsum([0, *random.integers(0, 5, rows)], dtype=np.int64)
    return {
        "uid": np.arange(rows) + 10**12,
        "response": random.integers(0, 2, rows).astype(np.int32),
        "weight": random.random(rows),
        "user": [f"user {i % 97}" for i in range(rows)],
        "global": Bag(
            offsets,
            random.integers(0, 10**6, offsets[-1]).astype(np.int32),
            random.normal(size=offsets[-1]).astype(np.float32),
        ),
    }


FIELDS = [
    Field("uid", "int64"),
    Field("response", "int64"),
    Field("weight", "float"),
    Field("user", "bytes"),
    Field("global_indices", "int64"),
    Field("global_values", "float"),
]


@pytest.mark.parametrize("name", ["part.tfrecord", "part.tfrecord.gz", "part.tfrecord.deflate"])
def test_files_of_many_rows(tmp_path: Path, name: str) -> None:
    rows = 20_011  # more than two blocks
    columns = some_columns(rows)
    assert write_tfrecord(str(tmp_path / name), columns) == rows
    chunks = list(iter_chunks(str(tmp_path / name), chunk_bytes=300_000))
    assert len(chunks) > 3
    decoded = [decode(chunk, FIELDS) for chunk in chunks]
    bag = columns["global"]
    expected = {
        "uid": columns["uid"],
        "response": columns["response"],
        "weight": columns["weight"].astype(np.float32),
        "global_indices": bag.indices,
        "global_values": bag.values,
    }
    for field, values in expected.items():
        np.testing.assert_array_equal(np.concatenate([part[field].values for part in decoded]), values)
    users = [value for part in decoded for value in part["user"].values.to_pylist()]
    assert users == [user.encode() for user in columns["user"]]
    lengths = np.concatenate([np.diff(part["global_values"].offsets) for part in decoded])
    np.testing.assert_array_equal(lengths, np.diff(bag.offsets))


@pytest.mark.parametrize("suffix", ["", ".gz", ".deflate"])
def test_files_and_urls_as_the_format_says(tmp_path: Path, suffix: str) -> None:
    columns, (path, url) = some_columns(300), (f"{tmp_path}/part{suffix}", f"memory://urls{suffix}/part{suffix}")
    records = records_of(columns)
    for place in (path, url):
        write_tfrecord(place, some_columns(2))
        assert write_tfrecord(place, columns) == 300
        assert payloads_of(iter_chunks(place)) == records
        filesystem, name = fsspec.core.url_to_fs(place)
        assert [Path(found).name for found in filesystem.ls(Path(name).parent, detail=False)] == [Path(name).name]
    expand = {"": bytes, ".gz": gzip.decompress, ".deflate": zlib.decompress}[suffix]
    assert expand(Path(path).read_bytes()) == file_of(records)


@pytest.mark.parametrize("place", ["{}/part.tfrecord", "memory://atomic/part.tfrecord"])
def test_a_file_that_fails_leaves_the_one_before(tmp_path: Path, place: str) -> None:
    path = place.format(tmp_path)
    write_tfrecord(path, {"a": np.arange(3)})
    before = payloads_of(iter_chunks(path))
    breaking = np.concatenate([np.zeros(10_000), [1e39]])  # in the second block
    with pytest.raises(DataError, match="too large for float32"):
        write_tfrecord(path, {"a": breaking})
    assert payloads_of(iter_chunks(path)) == before
    filesystem, name = fsspec.core.url_to_fs(path)
    assert [Path(found).name for found in filesystem.ls(Path(name).parent, detail=False)] == ["part.tfrecord"]
    filesystem.rm(name)


def test_no_rows(tmp_path: Path) -> None:
    assert write_tfrecord(str(tmp_path / "empty"), {"uid": np.empty(0, np.int64), "user": []}) == 0
    assert (tmp_path / "empty").read_bytes() == b""


def bag_of(offsets: list[int], indices: int, values: int) -> Bag:
    return Bag(np.array(offsets, np.int64), np.zeros(indices, np.int32), np.zeros(values, np.float32))


@pytest.mark.parametrize(
    ("columns", "what"),
    [
        ({}, "no columns"),
        ({"a": np.zeros(2), "b": ["x"]}, r"different numbers of rows \(a: 2, b: 1\)"),
        (
            {"a": bag_of([0, 3], 2, 2)},
            "offsets do not rise from 0 to the number of its values, 2",
        ),
        ({"a": bag_of([0, 2, 1], 2, 2)}, "column a_indices: its offsets do not rise"),
        ({"a": bag_of([-1, 2], 2, 2)}, "column a_indices: its offsets do not rise"),
        ({"a": bag_of([0, 2], 2, 3)}, "the bag has 2 indices and 3 values"),
        ({"a": bag_of([0, 2], 2, 2), "a_values": np.zeros(1)}, "the feature a_values twice"),
        ({"a": np.zeros((1, 1, 1))}, "column a: ndarray has no place in an Example"),
        ({"a": np.array([1 + 2j])}, "column a: ndarray has no place in an Example"),
        ({"a": np.array([2**63], np.uint64)}, "column a: 9223372036854775808 is too large for an int64"),
        ({"a": np.array([1e39])}, "column a: a value is too large for float32"),
        ({"a": [{"b": 1}]}, "column a: list has no place in an Example"),
        ({"a": ["x", 1]}, "column a: list has no place in an Example"),
    ],
)
def test_columns_that_cannot_be_written(columns: dict[str, Any], what: str) -> None:
    with pytest.raises(DataError, match=what):
        encode_examples(columns)


TENSORFLOW = """
import sys, numpy as np, tensorflow as tf
folder = sys.argv[1]
spec = {
    "uid": tf.io.FixedLenFeature([], tf.int64),
    "weight": tf.io.FixedLenFeature([], tf.float32),
    "user": tf.io.FixedLenFeature([], tf.string),
    "global": tf.io.SparseFeature("global_indices", "global_values", tf.float32, 1000000, already_sorted=True),
}
columns = []
for suffix, compression in (("", ""), (".gz", "GZIP"), (".deflate", "ZLIB")):
    ours = tf.data.TFRecordDataset(f"{folder}/ours.tfrecord{suffix}", compression_type=compression)
    (batch,) = ours.batch(10**6).map(lambda records: tf.io.parse_example(records, spec))
    sparse = batch.pop("global")
    columns.append({name: tensor.numpy() for name, tensor in batch.items()})
    columns[-1] |= {"rows": sparse.indices[:, 0].numpy(), "indices": sparse.indices[:, 1].numpy()}
    columns[-1] |= {"values": sparse.values.numpy()}
    with tf.io.TFRecordWriter(f"{folder}/theirs.tfrecord{suffix}", compression) as writer:
        for record in ours:
            example = tf.train.Example.FromString(record.numpy())
            writer.write(example.SerializeToString())
first = columns[0]
for other in columns[1:]:
    assert all(np.array_equal(first[name], other[name]) for name in first)
np.savez(f"{folder}/read.npz", **{n: v.astype("S") if v.dtype == object else v for n, v in first.items()})
"""


@pytest.mark.tensorflow
def test_tensorflow_reads_our_files_and_we_read_theirs(tmp_path: Path) -> None:
    rows = 300
    columns = some_columns(rows)
    suffixes = ["", ".gz", ".deflate"]
    for suffix in suffixes:
        write_tfrecord(str(tmp_path / f"ours.tfrecord{suffix}"), columns)
    subprocess.run([sys.executable, "-c", TENSORFLOW, str(tmp_path)], check=True)

    bag = columns["global"]
    read = np.load(tmp_path / "read.npz")
    np.testing.assert_array_equal(read["uid"], columns["uid"])
    np.testing.assert_array_equal(read["weight"], columns["weight"].astype(np.float32))
    assert read["user"].tolist() == [user.encode() for user in columns["user"]]
    np.testing.assert_array_equal(read["rows"], np.repeat(np.arange(rows), np.diff(bag.offsets)))
    np.testing.assert_array_equal(read["indices"], bag.indices)
    np.testing.assert_array_equal(read["values"], bag.values)

    for suffix in suffixes:
        ours, theirs = (
            [decode(chunk, FIELDS) for chunk in iter_chunks(str(tmp_path / f"{whose}.tfrecord{suffix}"))]
            for whose in ("ours", "theirs")
        )
        for mine, other in zip(ours, theirs, strict=True):
            for name, column in mine.items():
                assert column.offsets.tolist() == other[name].offsets.tolist()
                assert column.status.tolist() == other[name].status.tolist() == [OK] * rows
                assert column.values.tolist() == other[name].values.tolist()
