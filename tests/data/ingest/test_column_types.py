"""Parquet columns in every Arrow type: encodings are what they encode; one that cannot be used is one message."""

from __future__ import annotations

import datetime
import decimal
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gdmix_core.config.pipeline import Config
from gdmix_core.data.ingest.records import read_records, read_uids
from gdmix_core.data.ingest.source import open_layout
from gdmix_core.data.plain_columns import plain
from gdmix_core.errors import DataError
from gdmix_core.execution import preflight
from gdmix_core.pipeline.loading import parse_config

ROWS = 40
RNG = np.random.default_rng(0)
USERS = [f"u{k}" for k in RNG.integers(0, 5, ROWS)]
COLUMNS: dict[str, pa.Array] = {
    "uid": pa.array(range(ROWS), pa.int64()),
    "label": pa.array(RNG.integers(0, 2, ROWS), pa.int64()),
    "weight": pa.array(RNG.integers(1, 9, ROWS) / 4, pa.float64()),
    "user": pa.array(USERS),
    "f_indices": pa.array([[0, 2]] * ROWS, pa.list_(pa.int64())),
    "f_values": pa.array((RNG.integers(-8, 8, (ROWS, 2)) / 4).tolist(), pa.list_(pa.float32())),
    "d": pa.array((RNG.integers(1, 8, (ROWS, 3)) / 4).tolist(), pa.list_(pa.float64())),
}
DTYPES = {"uid": "long", "label": "int", "weight": "double", "user": "string"}
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def write_input(folder: Path, files: list[dict[str, pa.Array]], *, mark: bool = False, **dtypes: str) -> Config:
    """mark: whether metadata and feature lists begin with a byte order mark."""
    first = BYTE_ORDER_MARK if mark else b""
    scalars = [{"name": n, "dtype": t, "shape": [], "isSparse": False} for n, t in {**DTYPES, **dtypes}.items()]
    bags = [
        {"name": "f", "dtype": "float", "shape": [3], "isSparse": True},
        {"name": "d", "dtype": "double", "shape": [3], "isSparse": False},
    ]
    for name in ("metadata", "featureList", "trainingData"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    described = json.dumps({"features": [*scalars, *bags]}).encode()
    (folder / "metadata" / "tensor_metadata.json").write_bytes(first + described)
    for bag in ("f", "d"):
        (folder / "featureList" / bag).write_bytes(first + b"a,\nb,\nc,\n")
    for number, columns in enumerate(files):
        pq.write_table(pa.table(columns), folder / "trainingData" / f"part-{number}.parquet")
    return config_of(folder)


def config_of(folder: Path) -> Config:
    coordinates = {
        "global": {"fixed_effect": {}, "bag": "f"},
        "dense": {"fixed_effect": {}, "bag": "d"},
        "per_user": {"random_effect": {"entity": "user"}, "bag": "f"},
    }
    return parse_config(
        {
            "name": "types",
            "input": str(folder),
            "output": str(folder / "out"),
            "columns": {"uid": "uid", "label": "label", "weight": "weight"},
            "coordinates": coordinates,
            "metrics": ["auc", "auc@user"],
        }
    )


def read(config: Config) -> dict[str, list]:
    """Everything that validate decodes, row by row; no record may break a rule."""
    layout = open_layout(config)
    found: dict[str, list] = {}
    for piece in layout.pieces:
        for records in read_records(piece, layout.sources[0], config):
            assert not records.violations.any()
            columns = {"uid": records.uid.to_pylist(), "user": records.ids["user"].to_pylist()}
            columns |= {role: values.tolist() for role, values in records.numbers.items()}
            for key, bag in records.bags.items():
                columns[key] = [
                    dict(zip(bag.indices[a:b].tolist(), bag.values[a:b].tolist(), strict=True))
                    for a, b in zip(bag.offsets, bag.offsets[1:], strict=False)
                ]
            for name, values in columns.items():
                found.setdefault(name, []).extend(values)
    return found


def as_type(kind: pa.DataType) -> Callable[[pa.Array], pa.Array]:
    return lambda array: pa.array(array.to_pylist(), kind)


ENCODINGS: list[tuple[str, str, Callable[[pa.Array], pa.Array]]] = [
    ("user", "dictionary", lambda a: a.dictionary_encode()),
    ("user", "dictionary of large strings", lambda a: a.cast(pa.large_string()).dictionary_encode()),
    ("user", "string_view", as_type(pa.string_view())),
    ("user", "large_string", as_type(pa.large_string())),
    ("user", "binary_view", lambda a: a.cast(pa.binary()).cast(pa.binary_view())),
    ("user", "large_binary", lambda a: a.cast(pa.large_binary())),
    ("uid", "dictionary of integers", lambda a: a.dictionary_encode()),
    ("uid", "int8", as_type(pa.int8())),
    ("uid", "uint16", as_type(pa.uint16())),
    ("uid", "uint64", as_type(pa.uint64())),
    ("label", "bool", lambda a: a.cast(pa.bool_())),
    ("label", "uint8", as_type(pa.uint8())),
    ("label", "uint64", as_type(pa.uint64())),
    ("label", "dictionary", lambda a: a.dictionary_encode()),
    ("weight", "float16", lambda a: a.cast(pa.float16())),
    ("weight", "decimal", lambda a: a.cast(pa.decimal128(9, 4))),
    ("weight", "dictionary", lambda a: a.dictionary_encode()),
    ("f_indices", "large_list of int8", as_type(pa.large_list(pa.int8()))),
    ("f_indices", "list of uint64", as_type(pa.list_(pa.uint64()))),
    ("f_indices", "fixed_size_list", as_type(pa.list_(pa.int32(), 2))),
    ("f_values", "list of float16", lambda a: a.cast(pa.list_(pa.float16()))),
    ("f_values", "list_view", as_type(pa.list_view(pa.float32()))),
    ("f_values", "list of integers", lambda a: None),
    ("d", "fixed_size_list", as_type(pa.list_(pa.float32(), 3))),
    ("d", "list of decimals", lambda a: a.cast(pa.list_(pa.decimal128(9, 4)))),
]


@pytest.mark.parametrize(("name", "kind", "encode"), ENCODINGS, ids=[f"{n} as {k}" for n, k, _ in ENCODINGS])
def test_an_encoded_column_is_what_it_encodes(tmp_path: Path, name: str, kind: str, encode: Callable) -> None:
    columns = dict(COLUMNS)
    if kind == "list of integers":
        columns[name] = pa.array([[1, 2]] * ROWS, pa.list_(pa.float32()))
        encode = as_type(pa.list_(pa.int64()))
    expected = read(write_input(tmp_path / "plain", [columns]))
    assert expected["user"] == USERS
    found = read(write_input(tmp_path / "encoded", [{**columns, name: encode(columns[name])}]))
    assert found == expected


def test_views_and_run_ends_that_parquet_cannot_hold() -> None:
    lists = [[1, 2], None, [3]]
    for kind in (pa.list_view(pa.int64()), pa.large_list_view(pa.int64())):
        assert plain(pa.array(lists, kind)).to_pylist() == lists
    texts = pa.array(["a", "a", None])
    assert plain(pa.compute.run_end_encode(texts)).equals(texts)
    assert plain(pa.compute.run_end_encode(pa.array([1, 1, 2]))).to_pylist() == [1, 1, 2]


WRONG: list[tuple[str, str, pa.Array, str]] = [
    ("uid", "timestamp", pa.array([datetime.datetime(2024, 1, 1)] * ROWS), "seconds since 1970"),
    ("uid", "double", pa.array(np.arange(ROWS) + 0.0), "write it as int64, uint64 or string.*Int64"),
    ("uid", "struct", pa.array([{"a": 1}] * ROWS), "write a single int64, uint64 or string a row"),
    ("uid", "list", pa.array([[1]] * ROWS), "write a single int64, uint64 or string a row"),
    ("uid", "string", pa.array([str(i) for i in range(ROWS)]), "write integers .*dtype in .* to string"),
    ("uid", r"decimal128\(20, 0\)", pa.array([decimal.Decimal(i) for i in range(ROWS)], pa.decimal128(20, 0)), "int64"),
    ("user", "date32", pa.array([datetime.date(2024, 1, 1)] * ROWS), "as a string or an integer"),
    ("user", "int64", pa.array(range(ROWS)), "write strings, or correct the dtype in .* to long"),
    ("user", "int64", pa.array(range(ROWS)).dictionary_encode(), "write strings"),
    ("user", "double", pa.array(np.arange(ROWS) + 0.0), "Int64"),
    ("label", "timestamp", pa.array([datetime.datetime(2024, 1, 1)] * ROWS), "as a number, such as the seconds"),
    ("label", "double", pa.array(np.ones(ROWS)), "write integers, or correct the dtype in .* to double"),
    ("label", "string", pa.array(["1"] * ROWS), "write a single number a row"),
    ("label", "list", pa.array([[1]] * ROWS), "write a single number a row"),
    ("weight", "string", pa.array(["1"] * ROWS), "write a single number a row"),
    ("weight", "duration", pa.array([datetime.timedelta(1)] * ROWS), "as a number"),
    ("f_indices", "list<.*double", pa.array([[0.0, 2.0]] * ROWS), "must be a list, each value an integer"),
    ("f_values", "list<.*string", pa.array([["a", "b"]] * ROWS), "must be a list, each value a number"),
    ("d", "double", pa.array(np.ones(ROWS)), "must be a list, each value a number"),
]


@pytest.mark.parametrize(
    ("name", "kind", "array", "advice"), WRONG, ids=[f"{n}-{k}-{i}" for i, (n, k, *_) in enumerate(WRONG)]
)
def test_a_type_that_cannot_be_used_is_one_message(
    tmp_path: Path, name: str, kind: str, array: pa.Array, advice: str
) -> None:
    config = write_input(tmp_path, [COLUMNS, {**COLUMNS, name: array}, {**COLUMNS, name: array}])
    with pytest.raises(
        DataError, match=rf"part-1\.parquet .and 1 more files.: column {name} .* is {kind}.*{advice}"
    ) as e:
        open_layout(config)
    assert len(str(e.value).splitlines()) == 1
    # Before Spark, where the first file tells it already.
    with pytest.raises(DataError, match=rf"part-0\.parquet: column {name} .* is {kind}"):
        preflight.check(write_input(tmp_path / "first", [{**COLUMNS, name: array}]))


def test_a_column_of_nothing_is_absent_and_an_empty_file_has_no_types(tmp_path: Path) -> None:
    nothing = {**COLUMNS, "weight": pa.nulls(ROWS), "user": pa.nulls(ROWS)}
    config = write_input(tmp_path, [nothing, {name: pa.array([], pa.float64()) for name in COLUMNS}])
    layout = open_layout(config)
    (records,) = read_records(layout.pieces[0], layout.sources[0], config)
    assert records.ids["user"].null_count == ROWS
    assert (records.violations != 0).all()


def test_lists_that_are_all_empty_have_no_type(tmp_path: Path) -> None:
    """As pandas writes them."""
    empty = pa.array([[]] * ROWS)
    assert empty.type == pa.list_(pa.null())
    config = write_input(tmp_path, [{**COLUMNS, "f_indices": empty, "f_values": empty}, COLUMNS])
    layout = open_layout(config)
    (records,) = read_records(layout.pieces[0], layout.sources[0], config)
    assert not records.violations.any()
    assert all(len(records.bags[key].indices) == 0 for key, bag in layout.bags.items() if bag.name == "f")


def test_a_column_that_a_file_has_twice_is_named(tmp_path: Path) -> None:
    config = write_input(tmp_path, [COLUMNS])
    table = pa.table(COLUMNS)
    path = tmp_path / "trainingData" / "part-0.parquet"
    pq.write_table(table.append_column("user", table["user"]), path)
    with pytest.raises(DataError, match=r"part-0\.parquet: it has 2 columns named user; keep one"):
        open_layout(config)


BIG = [2**64 - 1 - i for i in range(ROWS)]


def test_unsigned_ids_stay_exact(tmp_path: Path) -> None:
    ids = pa.array(BIG, pa.uint64())
    config = write_input(tmp_path, [{**COLUMNS, "uid": ids, "user": ids.dictionary_encode()}], user="long")
    layout = open_layout(config)
    assert layout.uid_type == "unsigned"
    assert layout.id_types() == {"user": "unsigned"}
    found = read(config)
    assert found["uid"] == found["user"] == BIG
    (uids,) = read_uids(layout.pieces[0], layout.sources[0], config)
    assert uids.to_pylist() == BIG


@pytest.mark.parametrize("order", [0, 1])
def test_files_of_both_kinds_are_exact_or_one_error(tmp_path: Path, order: int) -> None:
    small = COLUMNS["uid"]
    files = [{**COLUMNS, "uid": pa.array(BIG, pa.uint64())}, {**COLUMNS, "uid": small}]
    config = write_input(tmp_path / "fine", files[:: 1 - 2 * order])
    assert sorted(read(config)["uid"]) == sorted([*BIG, *small.to_pylist()])
    files[1] = {**COLUMNS, "uid": pa.array([i - 5 for i in range(ROWS)], pa.int64())}
    config = write_input(tmp_path / "negative", files[:: 1 - 2 * order])
    with pytest.raises(DataError, match=rf"part-{1 - order}\.parquet: column uid: 5 values are negative, first -5"):
        read(config)


def test_integers_that_no_double_holds_are_labels_all_the_same(tmp_path: Path) -> None:
    config = write_input(tmp_path, [{**COLUMNS, "weight": pa.array([2**60 + 1] * ROWS)}])
    assert read(config)["weight"] == [2.0**60] * ROWS


def test_a_byte_order_mark_is_not_a_part_of_a_name(tmp_path: Path) -> None:
    config = write_input(tmp_path, [COLUMNS], mark=True)
    expected = read(write_input(tmp_path / "plain", [COLUMNS]))
    assert read(config) == expected
    from gdmix_core.data.feature_list import read_feature_list

    assert read_feature_list(open_layout(config).feature_lists["f"]).names[0] == ("a", "")


def test_the_message_is_one_for_all_columns(tmp_path: Path) -> None:
    times: Any = pa.array([datetime.datetime(2024, 1, 1)] * ROWS)
    with pytest.raises(DataError) as error:
        preflight.check(write_input(tmp_path, [{**COLUMNS, "uid": times, "user": times, "label": times}]))
    text = str(error.value)
    assert "for 3 reasons" in text
    assert all(f"column {name} " in text for name in ("uid", "user", "label"))
