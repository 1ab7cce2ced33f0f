"""DeText's records, whose sparse features are X_indices0 and X_values or X_values0, are read as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import synthetic_input as synthetic
from example_oracle import serialize
from tfrecord_oracle import file_of
from validated_here import validate_here

from gdmix_core.data.frame import Frame
from gdmix_core.data.source import open_layout
from gdmix_core.errors import DataError

ROWS = synthetic.make_rows(80)
NAMES = [("indices0", "values0"), ("indices0", "values"), ("indices", "values")]


def write(path: Path, rows: dict[str, Any], names: tuple[str, str], **more: str) -> None:
    """As Parquet or TFRecord, the bag `global` under the given names; more: columns to write again under new names."""
    synthetic.write_file(path.with_suffix(".parquet"), rows)
    table = pq.read_table(path.with_suffix(".parquet"))
    path.with_suffix(".parquet").unlink()
    new = {"global_indices": f"global_{names[0]}", "global_values": f"global_{names[1]}"}
    for name, copy in more.items():
        table = table.append_column(copy, table[name])
    table = table.rename_columns([new.get(name, name) for name in table.column_names])
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        path.write_bytes(file_of([example(row) for row in table.to_pylist()]))


def example(row: dict[str, Any]) -> bytes:
    """By protobuf's own writer: int64 lists of integers, float lists of the rest, as DeText's records have them."""
    integers = {name for name in row if name in ("uid", "user_id", "response") or "_indices" in name}
    return serialize(
        {
            name: ("int64" if name in integers else "float", values if isinstance(values, list) else [values])
            for name, values in row.items()
        }
    )


@pytest.mark.parametrize("suffix", [".parquet", ".tfrecord"])
@pytest.mark.parametrize("names", NAMES)
def test_the_bag_is_that_of_plain_records(tmp_path: Path, names: tuple[str, str], suffix: str):
    source = synthetic.write_directory(tmp_path / "input", ROWS)
    (source / "trainingData" / "part-000.tfrecord").unlink()
    write(source / "trainingData" / f"part{suffix}", ROWS, names)
    frame = Frame(validate_here(synthetic.make_config(source, tmp_path / "run")))
    order = np.argsort(ROWS["uid"])
    expected = synthetic.dense(ROWS["global"], 6)[order]
    assert np.array_equal(synthetic.dense(frame.bag("training", "global"), 6), expected.astype(np.float32))


@pytest.mark.parametrize("suffix", [".parquet", ".tfrecord"])
def test_files_of_either_kind_side_by_side(tmp_path: Path, suffix: str):
    source = synthetic.write_directory(tmp_path / "input", ROWS)
    more = synthetic.make_rows(50, seed=4, first_uid=7000)
    write(source / "trainingData" / f"more{suffix}", more, NAMES[0])
    frame = Frame(validate_here(synthetic.make_config(source, tmp_path / "run")))
    assert len(frame.bag("training", "global").indices) == len(ROWS["global"].indices) + len(more["global"].indices)


@pytest.mark.parametrize("suffix", [".parquet", ".tfrecord"])
def test_lists_of_documents_are_refused(tmp_path: Path, suffix: str):
    source = synthetic.write_directory(tmp_path / "input", ROWS)
    write(source / "trainingData" / f"more{suffix}", ROWS, NAMES[0], global_indices="global_indices1")
    with pytest.raises(DataError, match=r"more.*: global_indices1 is there: these are DeText's ranking records"):
        validate_here(synthetic.make_config(source, tmp_path / "run"))


def test_both_names_in_one_file_are_refused(tmp_path: Path):
    source = synthetic.write_directory(tmp_path / "input", ROWS)
    write(source / "trainingData" / "more.parquet", ROWS, NAMES[2], global_indices="global_indices0")
    with pytest.raises(DataError, match="both global_indices and global_indices0 are there"):
        open_layout(synthetic.make_config(source, tmp_path / "run"))


def test_indices_that_count_from_one_are_told(tmp_path: Path):
    source = synthetic.write_directory(tmp_path / "input", ROWS)
    (source / "trainingData" / "part-000.tfrecord").unlink()
    bag = ROWS["global"]
    shifted = {**ROWS, "global": type(bag)(bag.offsets, bag.indices + 1, bag.values)}
    write(source / "trainingData" / "part.tfrecord", shifted, NAMES[0])
    with pytest.raises(DataError, match=r"global\.index: .*indices are within 0 … 5.*DeText counts from 1"):
        validate_here(synthetic.make_config(source, tmp_path / "run"))
