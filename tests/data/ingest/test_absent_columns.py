"""Columns that the pipeline reads and the data do not have: all files or one of them, in either format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import synthetic_input as synthetic
from hypothesis import given, settings
from hypothesis import strategies as st
from validated_here import validate_here

from gdmix_core.config.pipeline import Config
from gdmix_core.data.frame import Frame
from gdmix_core.data.ingest.source import open_layout
from gdmix_core.data.ingest.stored_columns import names_in_records
from gdmix_core.errors import DataError

ROWS = synthetic.make_rows(60)
MORE = synthetic.make_rows(40, seed=3, first_uid=5000)
STORED = ["uid", "response", "weight", "offset", "user_id", "global_indices", "global_values", "per_user_indices"]


def rename(path: Path, **names: str) -> None:
    table = pq.read_table(path)
    pq.write_table(table.rename_columns([names.get(name, name) for name in table.column_names]), path)


def drop(path: Path, *names: str) -> None:
    pq.write_table(pq.read_table(path).drop_columns(list(names)), path)


def metadata_of(rows: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return synthetic.describe(rows, **changes)


def renamed(rows: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    return {new if name == old else name: column for name, column in rows.items()}


def config_of(tmp_path: Path, **changes: Any) -> Config:
    return synthetic.make_config(tmp_path / "input", tmp_path / "run", **changes)


@pytest.mark.parametrize("files", [1, 2])
@pytest.mark.parametrize("column", STORED)
def test_a_parquet_file_without_a_column(tmp_path: Path, column: str, files: int):
    """Found from the footers, before Spark, with the file and what may be meant; whatever on_error says."""
    source = synthetic.write_directory(tmp_path / "input", ROWS, suffix=".parquet", files=files)
    path = source / "trainingData" / f"part-00{files - 1}.parquet"
    rename(path, **{column: f"{column}_v2"})
    drops = {"on_error": "drop", "max_dropped": 1.0}
    with pytest.raises(DataError, match=rf"{path}: no column {column}\b.*; did you mean {column}_v2\?") as error:
        open_layout(config_of(tmp_path, checks=drops))
    assert "Write the column under this name in every file" in str(error.value)
    drop(path, f"{column}_v2")
    with pytest.raises(DataError, match=rf"{path}: no column {column}\b"):
        open_layout(config_of(tmp_path))


def test_a_bag_under_another_name_and_many_files(tmp_path: Path):
    source = synthetic.write_directory(tmp_path / "input", ROWS, suffix=".parquet", files=6)
    for number in range(1, 6):
        path = source / "trainingData" / f"part-00{number}.parquet"
        rename(path, global_indices="wide_indices", global_values="wide_values")
    with pytest.raises(
        DataError,
        match=r"5 of 6 files: .*part-001\.parquet, .*part-002\.parquet, .*part-003\.parquet and 2 more: no column "
        r"global_indices and no global_values, which bag global \(read by coordinate global\) needs; did you mean "
        r"wide_indices, wide_values\?",
    ):
        open_layout(config_of(tmp_path))


def test_a_file_without_rows_may_lack_them(tmp_path: Path):
    source = synthetic.write_directory(tmp_path / "input", ROWS, suffix=".parquet")
    empty = pq.read_table(source / "trainingData" / "part-000.parquet").slice(0, 0).select(["uid"])
    pq.write_table(empty, source / "trainingData" / "none.parquet")
    run = validate_here(config_of(tmp_path))
    assert Frame(run).rows("training") == 60


def test_scores_need_neither_label_nor_weight(tmp_path: Path):
    source = synthetic.write_directory(tmp_path / "input", ROWS, suffix=".parquet")
    drop(source / "trainingData" / "part-000.parquet", "response", "weight")
    assert open_layout(config_of(tmp_path), labelled=False).files
    drop(source / "trainingData" / "part-000.parquet", "user_id")
    with pytest.raises(DataError, match=r"no column user_id \(the entity of coordinate per_user"):
        open_layout(config_of(tmp_path), labelled=False)


@pytest.mark.parametrize("suffix", [".parquet", ".tfrecord"])
def test_missing_is_sparse_is_named(tmp_path: Path, suffix: str):
    metadata = metadata_of(ROWS)
    for entry in metadata["features"]:
        if entry["name"] == "global":
            del entry["isSparse"]
    synthetic.write_directory(tmp_path / "input", ROWS, suffix=suffix, metadata=metadata)
    with pytest.raises(DataError, match=r"global_indices and global_values: set isSparse to true for global in .*json"):
        validate_here(config_of(tmp_path))


@pytest.mark.parametrize("suffix", [".parquet", ".tfrecord"])
def test_a_dense_bag_described_as_sparse_is_named(tmp_path: Path, suffix: str):
    rows = {**ROWS, "global": synthetic.dense(ROWS["global"], 6).astype(np.float32)}
    metadata = metadata_of(rows, **{"global": {"isSparse": True}})
    synthetic.write_directory(tmp_path / "input", rows, suffix=suffix, metadata=metadata)
    with pytest.raises(DataError, match="it has global, a dense vector: set isSparse to false for global"):
        validate_here(config_of(tmp_path))


@pytest.mark.parametrize("on_error", ["fail", "drop"])
def test_tfrecords_without_the_bag(tmp_path: Path, on_error: Any):
    rows = renamed(ROWS, "global", "wide")
    synthetic.write_directory(tmp_path / "input", rows, files=2, metadata=metadata_of(ROWS))
    feature_list = tmp_path / "input" / "featureList" / "global"
    feature_list.write_text("".join(f"global_{i},\n" for i in range(6)))
    config = config_of(tmp_path, checks={"on_error": on_error} | ({"max_dropped": 1.0} if on_error == "drop" else {}))
    with pytest.raises(DataError, match=r"did you mean wide_indices, wide_values\?") as error:
        validate_here(config)
    assert "global.in_some_record: 2 files break" in str(error.value)
    report = json.loads((tmp_path / "run" / "validate" / "report.json").read_text())
    check = report["checks"]["global.in_some_record"]
    assert (check["broken"], len(check["first"])) == (2, 2)
    assert report["checks"]["per_user.in_some_record"]["broken"] == 0
    assert not (tmp_path / "run" / "frame" / "manifest.json").exists()


def test_one_of_two_tfrecord_files_with_another_name(tmp_path: Path):
    source = synthetic.write_directory(tmp_path / "input", ROWS)
    synthetic.write_file(source / "trainingData" / "part-001.tfrecord", renamed(MORE, "per_user", "by_user"))
    with pytest.raises(
        DataError,
        match=r"per_user.in_some_record: 1 files .*first .*part-001\.tfrecord; .*by_user_indices.*in its place",
    ):
        validate_here(config_of(tmp_path))


def test_a_validation_file_with_another_name(tmp_path: Path):
    source = synthetic.write_directory(tmp_path / "input", ROWS, MORE)
    synthetic.write_file(source / "validationData" / "part-000.tfrecord", renamed(MORE, "global", "wide"))
    with pytest.raises(DataError, match=r"global.in_some_record: 1 files .*validationData/part-000\.tfrecord"):
        validate_here(config_of(tmp_path))


def test_a_file_whose_bags_are_empty_is_legal(tmp_path: Path):
    """The columns are not there, and no others are in their place: rows without features."""
    source = synthetic.write_directory(tmp_path / "input", ROWS)
    alone = {name: column for name, column in MORE.items() if name != "global"}
    synthetic.write_file(source / "trainingData" / "part-001.tfrecord", alone)
    run = validate_here(config_of(tmp_path))
    frame = Frame(run)
    assert frame.rows("training") == 100
    entries = np.diff(frame.bag("training", "global").offsets)
    uids = np.array(frame.ids("training", "uid").to_pylist())
    assert entries[uids >= 5000].sum() == 0
    assert entries.sum() == len(ROWS["global"].indices)


def test_a_column_that_every_record_lacks_is_told_with_what_is_there(tmp_path: Path):
    rows = renamed(renamed(ROWS, "weight", "weights"), "user_id", "userid")
    synthetic.write_directory(tmp_path / "input", rows, metadata=metadata_of(ROWS))
    with pytest.raises(DataError) as error:
        validate_here(config_of(tmp_path))
    assert "weight.present: 60 records break" in str(error.value)
    assert "did you mean weights?" in str(error.value)
    assert "did you mean userid?" in str(error.value)


def texts(column: str = "title", said: str = "words", rows: dict[str, Any] = ROWS) -> dict[str, Any]:
    return {**rows, column: [said] * len(rows["uid"])}


def text_config(tmp_path: Path) -> Config:
    coordinates = {
        "global": {"fixed_effect": {"model": "text", "document": ["title"], "encoder": {"type": "cnn"}}},
        "per_user": {"random_effect": {"entity": "user_id"}, "bag": "per_user"},
    }
    return config_of(tmp_path, coordinates=coordinates)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (texts("titles"), r"title.in_some_record: 1 files .*did you mean titles\?"),
        (texts("title", ""), "its columns are there, but no record has anything in them"),
    ],
)
def test_texts_that_are_not_there(tmp_path: Path, rows: dict[str, Any], words: str):
    synthetic.write_directory(tmp_path / "input", rows, metadata=metadata_of(texts()))
    with pytest.raises(DataError, match=words):
        validate_here(text_config(tmp_path))


def test_one_file_whose_text_has_another_name(tmp_path: Path):
    source = synthetic.write_directory(tmp_path / "input", texts())
    synthetic.write_file(source / "trainingData" / "more.tfrecord", texts("headline", rows=MORE))
    with pytest.raises(
        DataError, match=r"title.in_some_record: 1 files .*more\.tfrecord; .*have headline in its place"
    ):
        validate_here(text_config(tmp_path))


@settings(max_examples=40)
@given(st.data())
def test_names_in_records(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    """Against the names that were written, in the encodings that our own encoder has."""
    kinds = st.sampled_from(["numbers", "texts", "bag"])
    columns = data.draw(st.dictionaries(st.text(min_size=1, max_size=9), kinds, min_size=1, max_size=5))
    bag = synthetic.random_bag(np.random.default_rng(0), 3, 4)
    held: dict[str, Any] = {"numbers": np.arange(3), "texts": ["a", "b" * 200, ""], "bag": bag}
    path = tmp_path_factory.mktemp("names") / "x.tfrecord"
    stored = [
        n
        for name, kind in columns.items()
        for n in ([f"{name}_indices", f"{name}_values"] if kind == "bag" else [name])
    ]
    if len(set(stored)) < len(stored):
        return
    synthetic.write_file(path, {name: held[kind] for name, kind in columns.items()})
    assert names_in_records(str(path)) == sorted(stored)


def test_a_parquet_file_of_a_merged_schema_with_another_name(tmp_path: Path):
    """The older name is there, and null."""
    source = synthetic.write_directory(tmp_path / "input", ROWS, suffix=".parquet")
    path = source / "trainingData" / "part-001.parquet"
    synthetic.write_file(path, MORE)
    table = pq.read_table(path)
    for part in ("indices", "values"):
        name = f"per_user_{part}"
        table = table.append_column(f"by_user_{part}", table[name])
        at = table.column_names.index(name)
        table = table.set_column(at, name, pa.nulls(len(table), table[name].type))
    pq.write_table(table, path)
    with pytest.raises(
        DataError,
        match=r"per_user.in_some_record: 1 files .*first .*part-001\.parquet; .*by_user_indices.*in its place",
    ):
        validate_here(config_of(tmp_path))
