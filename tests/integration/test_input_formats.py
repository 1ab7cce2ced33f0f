"""Whatever form the input has, validate makes the same frame of it; and the frame holds what the input said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import synthetic_input as synthetic

from gdmix_core.data.frame import Frame
from gdmix_core.data.ragged import Bag
from gdmix_core.data.shards import read_entities
from gdmix_core.pipeline.run import Run

pytestmark = pytest.mark.usefixtures("spark")

TRAINING = synthetic.make_rows(300, seed=1)
VALIDATION = synthetic.make_rows(80, seed=2, first_uid=5000)


def content(run: Run) -> dict[str, Any]:
    """Everything the frame says, split by split, as plain arrays."""
    frame = Frame(run)
    found: dict[str, Any] = {}
    for split in ("training", "validation"):
        for column in ("label", "weight", "offset"):
            found[split, column] = frame.column(split, column).tolist()
        for column in ("uid", *frame.manifest["ids"]):
            found[split, column] = frame.ids(split, column).to_pylist()
        for bag in frame.manifest["bags"]:
            found[split, bag] = synthetic.dense(frame.bag(split, bag), frame.feature_count(bag)).tolist()
    return found


def expected(columns: dict[str, Any], split: str, *, ids: tuple[str, ...] = ("uid", "user_id")) -> dict[str, Any]:
    order = np.argsort(np.array(columns["uid"]))
    columns = synthetic.select_rows(columns, order)
    found: dict[str, Any] = {}
    for role, column in (("label", "response"), ("weight", "weight"), ("offset", "offset")):
        found[split, role] = columns[column].astype(np.float64).tolist()
    for column in ids:
        found[split, column] = list(columns[column])
    for bag, features in synthetic.FEATURES.items():
        found[split, bag] = synthetic.dense(columns[bag], features).tolist()
    return found


@pytest.fixture(scope="module")
def reference(spark: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("reference")
    source = synthetic.write_directory(folder / "input", TRAINING, VALIDATION)
    found = content(synthetic.validate(synthetic.make_config(source, folder / "run")))
    assert found == expected(TRAINING, "training") | expected(VALIDATION, "validation")
    return found


@pytest.mark.parametrize(
    ("suffix", "files", "reverse"),
    [(".tfrecord.gz", 1, False), (".tfrecord.deflate", 3, True), (".parquet", 2, True), (".tfrecord", 5, True)],
)
def test_formats_and_files_give_the_same_frame(reference, tmp_path: Path, suffix, files, reverse):
    source = synthetic.write_directory(
        tmp_path / "input", TRAINING, VALIDATION, suffix=suffix, files=files, reverse=reverse
    )
    run = synthetic.validate(synthetic.make_config(source, tmp_path / "run", frame={"rows_per_block": 90}))
    assert content(run) == reference
    blocks = Frame(run).manifest["splits"]["training"]["blocks"]
    assert len(blocks) > 1


def test_mixed_formats_in_one_directory(reference, tmp_path: Path):
    source = synthetic.write_directory(tmp_path / "input", synthetic.select_rows(TRAINING, range(100)), VALIDATION)
    rest = {".tfrecord.gz": range(100, 150), ".parquet": range(150, 300)}
    for suffix, rows in rest.items():
        synthetic.write_file(source / "trainingData" / f"more{suffix}", synthetic.select_rows(TRAINING, rows))
    (source / "trainingData" / "_SUCCESS").touch()
    (source / "trainingData" / ".hidden.tfrecord").write_bytes(b"not a record")
    assert content(synthetic.validate(synthetic.make_config(source, tmp_path / "run"))) == reference


def shifted_ids(source: Path, by: int) -> None:
    """Rewrites uid and user_id of the Parquet files as uint64, larger by so much; user_id as a dictionary."""
    for path in source.rglob("*.parquet"):
        table = pq.read_table(path)
        for name in ("uid", "user_id"):
            ids = pa.array([value + by for value in table[name].to_pylist()], pa.uint64())
            ids = ids.dictionary_encode() if name == "user_id" else ids
            table = table.set_column(table.column_names.index(name), name, ids)
        pq.write_table(table, path)


def test_unsigned_ids_on_both_sides_of_two_to_the_63rd(reference, tmp_path: Path):
    """Spark has no unsigned integers: rows travel through it in their order all the same, and arrive as they were."""
    by = 2**63 - 1150
    source = synthetic.write_directory(
        tmp_path / "input", TRAINING, VALIDATION, suffix=".parquet", files=2, reverse=True
    )
    shifted_ids(source, by)
    run = synthetic.partition(
        synthetic.validate(synthetic.make_config(source, tmp_path / "run", frame={"rows_per_block": 90}))
    )
    found = content(run)
    for split in ("training", "validation"):
        assert found[split, "uid"] == [uid + by for uid in reference[split, "uid"]]
        assert found[split, "user_id"] == [user + by for user in reference[split, "user_id"]]
    same = {key: value for key, value in found.items() if key[1] not in ("uid", "user_id")}
    assert same == {key: value for key, value in reference.items() if key[1] not in ("uid", "user_id")}
    assert min(found["training", "uid"]) < 2**63 < max(found["training", "uid"])
    of_user: dict[int, list[int]] = {}
    for shard in range(3):
        for table in read_entities(run, "per_user", "training", shard, 10**6):
            assert table["entity"].type == pa.uint64()
            assert table["entity"].to_pylist() == sorted(table["entity"].to_pylist())
            for entity, row in zip(table["entity"].to_pylist(), table["row"].to_pylist(), strict=True):
                of_user.setdefault(entity, []).append(row)
    expected_rows: dict[int, list[int]] = {}
    for row, user in enumerate(found["training", "user_id"]):
        expected_rows.setdefault(user, []).append(row)
    assert of_user == expected_rows


def test_separate_directories_are_joined_by_uid(reference, tmp_path: Path):
    mine = ("uid", "response", "weight", "offset", "global")
    other = ("uid", "user_id", "per_user")
    rng = np.random.default_rng(0)
    source = tmp_path / "input"
    for name, kept in (("global", mine), ("users", other)):
        parts = [
            synthetic.select_rows({c: data[c] for c in kept}, rng.permutation(len(data["uid"])))
            for data in (TRAINING, VALIDATION)
        ]
        suffix = ".tfrecord" if name == "global" else ".parquet"
        synthetic.write_directory(source / name, *parts, files=2, suffix=suffix)
    coordinates = {
        "global": {"fixed_effect": {}, "bag": "global", "data": "global"},
        "per_user": {"random_effect": {"entity": "user_id"}, "bag": "per_user", "data": "users"},
    }
    config = synthetic.make_config(source, tmp_path / "run", coordinates=coordinates)
    assert content(synthetic.validate(config)) == reference


def test_bags_of_the_same_name_in_two_directories(spark: None, tmp_path: Path):
    source = tmp_path / "input"
    renamed = {"uid": TRAINING["uid"], "user_id": TRAINING["user_id"], "global": TRAINING["global"]}
    synthetic.write_directory(source / "a", {k: v for k, v in TRAINING.items() if k != "per_user"})
    shifted = Bag(TRAINING["global"].offsets, TRAINING["global"].indices, TRAINING["global"].values * 2)
    synthetic.write_directory(source / "b", {**renamed, "global": shifted})
    coordinates = {
        "global": {"fixed_effect": {}, "bag": "global", "data": "a"},
        "per_user": {"random_effect": {"entity": "user_id"}, "bag": "global", "data": "b"},
    }
    config = synthetic.make_config(source, tmp_path / "run", coordinates=coordinates, metrics=["auc"])
    frame = Frame(synthetic.validate(config))
    first, second = frame.bag_of("global"), frame.bag_of("per_user")
    assert first != second
    assert first is not None
    assert second is not None
    a, b = (synthetic.dense(frame.bag("training", key), 6) for key in (first, second))
    assert a.any()
    assert np.array_equal(2 * a, b)


@pytest.mark.parametrize("suffix", [".tfrecord", ".parquet"])
def test_string_uids_and_entities(spark: None, tmp_path: Path, suffix):
    training = synthetic.as_text(TRAINING, "uid", "user_id")
    validation = synthetic.as_text(VALIDATION, "uid", "user_id")
    source = synthetic.write_directory(tmp_path / "input", training, validation, suffix=suffix, files=2)
    run = synthetic.validate(synthetic.make_config(source, tmp_path / "run", frame={"rows_per_block": 70}))
    assert content(run) == expected(training, "training") | expected(validation, "validation")


@pytest.mark.parametrize("suffix", [".tfrecord", ".parquet"])
def test_dense_bags(reference, tmp_path: Path, suffix):
    """A dense bag is the sparse one with its zeros left out."""
    dense = [
        {
            **data,
            "global": synthetic.dense(data["global"], 6).astype(np.float32),
        }
        for data in (TRAINING, VALIDATION)
    ]
    metadata = synthetic.describe(TRAINING, **{"global": {"isSparse": False}})
    source = synthetic.write_directory(tmp_path / "input", *dense, suffix=suffix, metadata=metadata)
    run = synthetic.validate(synthetic.make_config(source, tmp_path / "run"))
    assert content(run) == reference
    assert len(Frame(run).bag("training", "global").values) == len(TRAINING["global"].values)


def test_doubles_of_parquet_stay_doubles(spark: None, tmp_path: Path):
    bag = TRAINING["global"]
    rng = np.random.default_rng(3)
    training = {
        **TRAINING,
        "offset": rng.normal(size=300),
        "global": Bag(bag.offsets, bag.indices, rng.normal(size=len(bag.values))),
    }
    source = synthetic.write_directory(tmp_path / "input", training, suffix=".parquet")
    run = synthetic.validate(synthetic.make_config(source, tmp_path / "run"))
    assert Frame(run).bag("training", "global").values.dtype == np.float64
    found, wanted = content(run), expected(training, "training")
    assert {key: found[key] for key in wanted} == wanted


def test_weight_and_offset_have_defaults_and_validation_is_optional(spark: None, tmp_path: Path):
    training = {k: v for k, v in TRAINING.items() if k not in ("weight", "offset")}
    source = synthetic.write_directory(tmp_path / "input", training)
    config = synthetic.make_config(source, tmp_path / "run", columns={"label": "response"})
    frame = Frame(synthetic.validate(config))
    assert set(frame.column("training", "weight")) == {1.0}
    assert set(frame.column("training", "offset")) == {0.0}
    assert frame.rows("validation") == 0


def test_unknown_metadata_keys_and_columns_are_ignored(reference, tmp_path: Path):
    metadata = synthetic.describe(TRAINING)
    metadata["features"].append({"name": "unused", "dtype": "string", "shape": [], "isSparse": False, "extra": 1})
    metadata |= {"numberOfTrainingSamples": 17, "comment": {"by": "someone"}}
    source = synthetic.write_directory(tmp_path / "input", TRAINING, VALIDATION, metadata=metadata)
    assert content(synthetic.validate(synthetic.make_config(source, tmp_path / "run"))) == reference


def test_frame_rows_are_dense_in_uid_order_and_the_manifest_fits_the_blocks(spark: None, tmp_path: Path):
    source = synthetic.write_directory(tmp_path / "input", TRAINING, VALIDATION)
    run = synthetic.validate(synthetic.make_config(source, tmp_path / "run", frame={"rows_per_block": 50}))
    manifest = run.result("validate")
    for split, data in (("training", TRAINING), ("validation", VALIDATION)):
        blocks = manifest["splits"][split]["blocks"]
        assert [b["start"] for b in blocks] == np.cumsum([0, *(b["rows"] for b in blocks)])[:-1].tolist()
        uids: list[int] = []
        for block in blocks:
            table = pq.read_table(run.frame(split, block["file"]))
            assert table.num_rows == block["rows"]
            uids += table["uid"].to_pylist()
        assert uids == sorted(data["uid"].tolist())
        assert manifest["splits"][split]["rows"] == len(uids)
    assert len(manifest["splits"]["training"]["blocks"]) >= 5
    frame = Frame(run)
    (middle,) = frame.numbers("training", ["label"], 40, 130)
    assert middle.tolist() == frame.column("training", "label")[40:130].tolist()
    part, whole = frame.bag("training", "global", 40, 130), frame.bag("training", "global")
    assert np.array_equal(synthetic.dense(part, 6), synthetic.dense(whole, 6)[40:130])
