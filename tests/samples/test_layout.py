"""Sources on disk: what is written is what is read back, by our reader, by TensorFlow's and by Arrow's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gdmix_core.data.feature_list import FeatureList, read_feature_list
from gdmix_core.data.ragged import Bag
from gdmix_core.errors import DataError
from gdmix_core.samples.layout import Columns, Format, describe, source_writer, write_source
from tests.samples.reading import read_rows

NAMES = FeatureList([("genre", "Action"), ("genre", "Sci-Fi, B"), ("year", "")])
BAGS = {"movie": NAMES}


def columns(first: int, rows: int) -> Columns:
    """Row i has i % 4 features, so some have none."""
    counts = np.arange(first, first + rows) % 4
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    indices = np.concatenate([np.empty(0, int), *(np.arange(count) for count in counts)]).astype(np.int32)
    return {
        "uid": np.arange(first, first + rows),
        "weight": np.linspace(0.5, 2, rows, dtype=np.float32),
        "user": [f"user-{i}-é" for i in range(rows)],
        "response": (np.arange(rows) % 2).astype(np.int32),
        "movie": Bag(offsets, indices, (indices + 0.25).astype(np.float32)),
    }


def expected(source: Columns) -> list[dict[str, Any]]:
    rows = []
    bag = source["movie"]
    assert isinstance(bag, Bag)
    for i, (a, b) in enumerate(zip(bag.offsets[:-1], bag.offsets[1:], strict=True)):
        row: dict[str, Any] = {}
        for name, column in source.items():
            if isinstance(column, Bag):
                row["movie_indices"] = bag.indices[a:b].tolist()
                row["movie_values"] = bag.values[a:b].tolist()
            else:
                value = column[i]
                row[name] = value.item() if isinstance(value, np.generic) else value
        rows.append(row)
    return rows


def write(directory: Path, training: Columns, validation: Columns | None = None, **options: Any) -> None:
    metadata = describe(training, BAGS, ("response",))
    write_source(str(directory), bags=BAGS, metadata=metadata, training=training, validation=validation, **options)


@pytest.mark.parametrize(
    ("format", "compression", "suffix"),
    [("tfrecord", "", ".tfrecord"), ("tfrecord", ".gz", ".tfrecord.gz"), ("parquet", "", ".parquet")],
)
def test_round_trip(tmp_path: Path, format: Format, compression: str, suffix: str) -> None:
    training, validation = columns(0, 11), columns(11, 5)
    write(tmp_path, training, validation, files=3, format=format, compression=compression)
    assert read_rows(tmp_path, "training") == expected(training)
    assert read_rows(tmp_path, "validation") == expected(validation)
    files = sorted(path.name for path in (tmp_path / "trainingData").iterdir())
    assert files == [f"part-0000{k}{suffix}" for k in range(3)]
    assert read_feature_list(str(tmp_path / "featureList" / "movie")) == NAMES


def test_metadata(tmp_path: Path) -> None:
    write(tmp_path, columns(0, 7), columns(7, 2))
    assert json.loads((tmp_path / "metadata" / "tensor_metadata.json").read_text()) == {
        "features": [
            {"name": "uid", "dtype": "long", "shape": [], "isSparse": False},
            {"name": "weight", "dtype": "float", "shape": [], "isSparse": False},
            {"name": "user", "dtype": "string", "shape": [], "isSparse": False},
            {"name": "movie", "dtype": "float", "shape": [3], "isSparse": True},
        ],
        "labels": [{"name": "response", "dtype": "int", "shape": [], "isSparse": False}],
        "numberOfTrainingSamples": 7,
    }


@pytest.mark.tensorflow
def test_tensorflow_reads_the_records(tmp_path: Path) -> None:
    tf = pytest.importorskip("tensorflow")
    training = columns(0, 9)
    write(tmp_path, training, files=2)
    files = sorted(str(path) for path in (tmp_path / "trainingData").iterdir())
    spec = {
        "uid": tf.io.FixedLenFeature([], tf.int64),
        "weight": tf.io.FixedLenFeature([], tf.float32),
        "user": tf.io.FixedLenFeature([], tf.string),
        "response": tf.io.FixedLenFeature([], tf.int64),
        "movie_indices": tf.io.VarLenFeature(tf.int64),
        "movie_values": tf.io.VarLenFeature(tf.float32),
    }
    rows = []
    for record in tf.data.TFRecordDataset(files):
        example = tf.io.parse_single_example(record, spec)
        row = {name: example[name].numpy().tolist() for name in ("uid", "weight", "response")}
        row["user"] = example["user"].numpy().decode()
        lists = ("movie_indices", "movie_values")
        rows.append(row | {name: example[name].values.numpy().tolist() for name in lists})
    assert rows == expected(training)


def test_parquet_types(tmp_path: Path) -> None:
    write(tmp_path, columns(0, 4), format="parquet")
    schema = pq.read_schema(tmp_path / "trainingData" / "part-00000.parquet")
    assert schema.field("movie_indices").type == pa.list_(pa.int64())
    assert schema.field("movie_values").type == pa.list_(pa.float32())
    assert schema.field("uid").type == pa.int64()


def test_more_files_than_rows(tmp_path: Path) -> None:
    write(tmp_path, columns(0, 2), files=5)
    assert len(list((tmp_path / "trainingData").iterdir())) == 2
    assert read_rows(tmp_path, "training") == expected(columns(0, 2))


def test_without_validation_there_is_no_such_directory(tmp_path: Path) -> None:
    write(tmp_path, columns(0, 2))
    assert not (tmp_path / "validationData").exists()


def test_an_older_source_is_replaced_and_other_files_stay(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    write(tmp_path, columns(0, 8), columns(8, 3), files=4)
    write(tmp_path, columns(0, 3))
    assert [path.name for path in (tmp_path / "trainingData").iterdir()] == ["part-00000.tfrecord"]
    assert not (tmp_path / "validationData").exists()
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_source_that_was_not_finished_has_no_metadata(tmp_path: Path) -> None:
    write(tmp_path, columns(0, 8))
    metadata = describe(columns(0, 0), BAGS, ("response",))

    def killed() -> None:
        with source_writer(str(tmp_path), bags=BAGS, metadata=metadata) as write_file:
            assert write_file("training", columns(0, 8)) == 8
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed()
    assert (tmp_path / "trainingData").exists()
    assert not (tmp_path / "metadata").exists()


def test_an_object_store(tmp_path: Path) -> None:
    import fsspec

    training = columns(0, 5)
    metadata = describe(training, BAGS, ("response",))
    write_source("memory://layout/source", bags=BAGS, metadata=metadata, training=training)
    fsspec.filesystem("memory").get("/layout/source", str(tmp_path / "copy"), recursive=True)
    assert read_rows(tmp_path / "copy", "training") == expected(training)


def test_columns_of_different_lengths(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"same number of rows.*'weight': 4"):
        write(tmp_path, {**columns(0, 5), "weight": np.ones(4, np.float32)})
    assert not (tmp_path / "metadata").exists()


def test_parquet_takes_no_compression(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Parquet files compress themselves"):
        write(tmp_path, columns(0, 5), format="parquet", compression=".gz")


def test_a_dtype_without_a_name() -> None:
    with pytest.raises(DataError, match="column flag: dtype bool"):
        describe({"flag": np.ones(2, np.bool_)}, {}, ())
