"""What validate says of records that break a rule: every rule, its count and its first offenders; fail and drop."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import synthetic_input as synthetic

from gdmix_core.data.frame import Frame
from gdmix_core.data.ragged import Bag
from gdmix_core.errors import DataError
from gdmix_core.pipeline.run import Run

ROWS = 200
DROP = {"on_error": "drop", "max_dropped": 1.0}
TYPES = {
    "uid": pa.int64(),
    "response": pa.float64(),
    "weight": pa.float64(),
    "offset": pa.float64(),
    "user_id": pa.int64(),
    "global_indices": pa.list_(pa.int64()),
    "global_values": pa.list_(pa.float32()),
    "per_user_indices": pa.list_(pa.int64()),
    "per_user_values": pa.list_(pa.float32()),
}
NAN, INF = float("nan"), float("inf")

# (check, what is done to a record, uids it is done to); "+" adds a record of the same uid
BROKEN: list[tuple[str, dict[str, Any], list[int]]] = [
    ("uid.present", {"uid": None}, [1, 2]),
    ("uid.unique", {"+": "training"}, [5, 6, 7]),
    ("uid.disjoint", {"+": "validation"}, [8, 9]),
    ("response.present", {"response": None}, [10]),
    ("response.legal", {"response": 2.0}, [11]),
    ("response.legal", {"response": NAN}, [12]),
    ("response.legal", {"response": -1.0}, [13]),
    ("weight.present", {"weight": None}, [20]),
    ("weight.positive", {"weight": 0.0}, [21]),
    ("weight.positive", {"weight": -1.0}, [22]),
    ("weight.positive", {"weight": INF}, [23]),
    ("weight.positive", {"weight": NAN}, [24]),
    ("offset.present", {"offset": None}, [30]),
    ("offset.finite", {"offset": -INF}, [31]),
    ("offset.finite", {"offset": NAN}, [32]),
    ("user_id.present", {"user_id": None}, [40, 41]),
    ("global.index", {"global_indices": [0, 6], "global_values": [1.0, 1.0]}, [50]),
    ("global.index", {"global_indices": [-1], "global_values": [1.0]}, [51]),
    ("per_user.index", {"per_user_indices": [4], "per_user_values": [1.0]}, [52]),
    ("global.length", {"global_indices": [0, 1], "global_values": [1.0]}, [53]),
    ("global.length", {"global_indices": [0, 1], "global_values": None}, [54]),
    ("global.finite", {"global_indices": [0], "global_values": [NAN]}, [55]),
    ("global.finite", {"global_indices": [3], "global_values": [INF]}, [56]),
    ("per_user.finite", {"per_user_indices": [3], "per_user_values": [-INF]}, [57]),
]
EXPECTED: dict[str, int] = {}
for check, _, uids in BROKEN:
    EXPECTED[check] = EXPECTED.get(check, 0) + len(uids)


def good_records(rows: int, first_uid: int, seed: int = 0) -> list[dict[str, Any]]:
    columns = synthetic.make_rows(rows, seed=seed, first_uid=first_uid)
    columns["uid"] = np.arange(first_uid, first_uid + rows)
    records = []
    for i in range(rows):
        record = {name: columns[name][i].item() for name in ("uid", "response", "weight", "offset", "user_id")}
        for bag in synthetic.FEATURES:
            span = slice(columns[bag].offsets[i], columns[bag].offsets[i + 1])
            record[f"{bag}_indices"] = columns[bag].indices[span].tolist()
            record[f"{bag}_values"] = columns[bag].values[span].tolist()
        records.append(record)
    return records


def write_records(path: Path, records: list[dict[str, Any]], types: dict[str, pa.DataType] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    types = TYPES if types is None else types
    pq.write_table(pa.table({k: pa.array([r[k] for r in records], t) for k, t in types.items()}), path)


def empty_directory(directory: Path) -> Path:
    """Metadata and feature lists, where labels are doubles, and no records."""
    rows = synthetic.make_rows(1)
    metadata = synthetic.describe(rows, response={"dtype": "double"})
    synthetic.write_directory(directory, rows, metadata=metadata)
    (directory / "trainingData" / "part-000.tfrecord").unlink()
    return directory


def write_broken(directory: Path) -> Path:
    empty_directory(directory)
    training, validation = good_records(ROWS, 0), good_records(50, 1000, seed=1)
    for _, change, uids in BROKEN:
        for uid in uids:
            if "+" in change:
                twin = {**training[uid], "response": 1.0}
                (training if change["+"] == "training" else validation).append(twin)
            else:
                training[uid] = {**training[uid], **change}
    # Not a fault: indices out of order, and one that stands there twice.
    training[100] |= {"global_indices": [5, 0, 5], "global_values": [1.0, 2.0, 0.5]}
    training[101] |= {"per_user_indices": [3, 3], "per_user_values": [1.0, -1.0]}
    training[102] |= {"global_indices": None, "global_values": None}
    rng = np.random.default_rng(0)
    shuffled = [training[i] for i in rng.permutation(len(training))]
    write_records(directory / "trainingData" / "a.parquet", shuffled[:90])
    write_records(directory / "trainingData" / "b.parquet", shuffled[90:])
    write_records(directory / "validationData" / "v.parquet", validation)
    return directory


@pytest.fixture(scope="module")
def broken(spark: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_broken(tmp_path_factory.mktemp("broken") / "input")


@pytest.fixture(scope="module")
def dropped(broken: Path) -> Run:
    return synthetic.validate(
        synthetic.make_config(broken, broken.parent / "dropped", checks=DROP, frame={"rows_per_block": 60})
    )


def test_every_rule_is_counted_with_its_first_offenders(dropped: Run):
    report = synthetic.report_of(dropped)
    counts = {name: check["broken"] for name, check in report["checks"].items() if check["broken"]}
    assert counts == EXPECTED
    for check in EXPECTED:
        first = report["checks"][check]["first"]
        uids = [uid for name, change, listed in BROKEN if name == check for uid in listed]
        if check != "uid.present":
            assert [offender["uid"] for offender in first] == sorted(uids), check
        assert all(Path(offender["file"]).exists() for offender in first)


def test_dropping_leaves_the_records_without_fault(dropped: Run):
    bad = {uid for _, _, uids in BROKEN for uid in uids}
    frame = Frame(dropped)
    assert frame.ids("training", "uid").to_pylist() == [uid for uid in range(ROWS) if uid not in bad]
    assert frame.ids("validation", "uid").to_pylist() == list(range(1000, 1050))
    splits = synthetic.report_of(dropped)["splits"]
    assert splits["training"] == {
        "records": ROWS + 3,
        "rows": ROWS - len(bad),
        "dropped": len(bad) + 3,
        "label_mean": pytest.approx(frame.column("training", "label").mean()),
        "label_range": [0.0, 1.0],
    }
    assert (splits["validation"]["records"], splits["validation"]["dropped"]) == (52, 2)


def test_duplicate_indices_are_summed_and_counted(dropped: Run):
    assert synthetic.report_of(dropped)["duplicate_indices_summed"] == {"global": 1, "per_user": 1}
    frame = Frame(dropped)
    uids = frame.ids("training", "uid").to_pylist()
    values = synthetic.dense(frame.bag("training", "global"), 6)
    assert values[uids.index(100)].tolist() == [2.0, 0, 0, 0, 0, 1.5]
    assert values[uids.index(102)].tolist() == [0.0] * 6
    user_values = synthetic.dense(frame.bag("training", "per_user"), 4)
    assert user_values[uids.index(101)].tolist() == [0.0] * 4
    bag = frame.bag("training", "global")
    for row in range(len(bag)):
        assert (np.diff(bag.indices[bag.offsets[row] : bag.offsets[row + 1]]) > 0).all()


def test_failing_names_every_rule_and_leaves_a_report_but_no_frame(broken: Path, tmp_path: Path):
    config = synthetic.make_config(broken, tmp_path / "run")
    with pytest.raises(DataError, match=r"first uid 11 in .*parquet; correct the label or the task") as error:
        synthetic.validate(config)
    for check in EXPECTED:
        assert f"{check}: {EXPECTED[check]} records break" in str(error.value)
    assert (tmp_path / "run" / "validate" / "report.json").exists()
    assert not (tmp_path / "run" / "frame" / "manifest.json").exists()


def test_the_ceiling_of_dropping(broken: Path, tmp_path: Path):
    config = synthetic.make_config(broken, tmp_path / "run", checks={"on_error": "drop", "max_dropped": 0.12})
    with pytest.raises(DataError, match=r"\d+ of 255 records would be dropped.*12\.00%"):
        synthetic.validate(config)
    assert not (tmp_path / "run" / "frame" / "manifest.json").exists()


def test_columns_of_another_type_and_columns_that_are_not_there(spark: None, tmp_path: Path):
    source = empty_directory(tmp_path / "input")
    rows = synthetic.make_rows(20, first_uid=50)
    del rows["response"]  # described as double, which TFRecord files of this label are not
    synthetic.write_file(
        source / "trainingData" / "texts.tfrecord", rows | {"weight": ["heavy"] * 20, "user_id": ["x"] * 20}
    )
    lacking = {n: c for n, c in synthetic.make_rows(10, first_uid=100).items() if n not in ("offset", "response")}
    synthetic.write_file(source / "trainingData" / "lacking.tfrecord", lacking)
    write_records(source / "trainingData" / "good.parquet", good_records(30, 200))
    run = synthetic.validate(synthetic.make_config(source, tmp_path / "run", checks=DROP))
    counts = {name: check["broken"] for name, check in synthetic.report_of(run)["checks"].items() if check["broken"]}
    assert counts == {
        "weight.type": 20, "user_id.type": 20, "offset.present": 10, "response.present": 30,
    }  # fmt: skip
    assert Frame(run).rows("training") == 30


@pytest.mark.parametrize(
    ("task", "label", "legal"),
    [
        ("linear_regression", -3.5, True),
        ("linear_regression", INF, False),
        ("poisson_regression", 7.0, True),
        ("poisson_regression", -1.0, False),
        ("poisson_regression", NAN, False),
        ("logistic_regression", 0.5, False),
        ("smoothed_hinge", 1.0, True),
        ("smoothed_hinge", -1.0, False),
    ],
)
def test_labels_by_task(task, label, legal):
    from gdmix_core.data.ingest.records import _legal

    assert _legal(np.array([label]), task).tolist() == [legal]


def test_an_empty_training_split(spark: None, tmp_path: Path):
    source = empty_directory(tmp_path / "input")
    write_records(source / "validationData" / "some.parquet", good_records(30, 50))
    write_records(source / "trainingData" / "none.parquet", [])
    with pytest.raises(DataError, match="training split is empty"):
        synthetic.validate(synthetic.make_config(source, tmp_path / "run"))
    assert not (tmp_path / "run" / "frame" / "manifest.json").exists()


def test_an_empty_validation_file_is_no_validation(spark: None, tmp_path: Path):
    source = synthetic.write_directory(tmp_path / "input", synthetic.make_rows(30))
    write_records(source / "validationData" / "none.parquet", [])
    run = synthetic.validate(synthetic.make_config(source, tmp_path / "run"))
    assert Frame(run).rows("validation") == 0


def test_no_record_at_all(spark: None, tmp_path: Path):
    source = empty_directory(tmp_path / "input")
    write_records(source / "trainingData" / "none.parquet", [])
    with pytest.raises(DataError, match="no record with a uid"):
        synthetic.validate(synthetic.make_config(source, tmp_path / "run"))


def test_every_validation_record_dropped_is_an_error(spark: None, tmp_path: Path):
    source = empty_directory(tmp_path / "input")
    write_records(source / "trainingData" / "good.parquet", good_records(30, 0))
    bad = [{**record, "response": 3.0} for record in good_records(4, 500)]
    write_records(source / "validationData" / "bad.parquet", bad)
    with pytest.raises(DataError, match="validation split is empty"):
        synthetic.validate(synthetic.make_config(source, tmp_path / "run", checks=DROP))


def test_directories_that_disagree_on_uids(spark: None, tmp_path: Path):
    rows = synthetic.make_rows(60)
    rows["uid"] = np.arange(60)
    source = tmp_path / "input"
    synthetic.write_directory(source / "a", {k: v for k, v in rows.items() if k != "per_user"})
    other = {k: rows[k] for k in ("uid", "user_id", "per_user")}
    other["uid"] = np.where(rows["uid"] < 57, rows["uid"], rows["uid"] + 1000)  # 57, 58, 59 are others here
    synthetic.write_directory(source / "b", other)
    coordinates = {
        "global": {"fixed_effect": {}, "bag": "global", "data": "a"},
        "per_user": {"random_effect": {"entity": "user_id"}, "bag": "per_user", "data": "b"},
    }
    config = synthetic.make_config(source, tmp_path / "run", coordinates=coordinates, checks=DROP)
    run = synthetic.validate(config)
    check = synthetic.report_of(run)["checks"]["uid.in_all_directories"]
    assert check["broken"] == 6
    assert [first["uid"] for first in check["first"]] == [57, 58, 59, 1057, 1058, 1059]
    assert Frame(run).ids("training", "uid").to_pylist() == list(range(57))
    with pytest.raises(DataError, match=r"uid\.in_all_directories: 6 records"):
        synthetic.validate(synthetic.make_config(source, tmp_path / "run2", coordinates=coordinates))


@pytest.mark.parametrize("position", [0.02, 0.5])
def test_a_corrupt_file_is_named_with_the_offset(spark: None, tmp_path: Path, position):
    source = synthetic.write_directory(tmp_path / "input", synthetic.make_rows(200), files=2)
    path = source / "trainingData" / "part-001.tfrecord"
    content = bytearray(path.read_bytes())
    at = int(len(content) * position)
    content[at : at + 4] = bytes(255 - b for b in content[at : at + 4])
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"part-001\.tfrecord") as error:
        synthetic.validate(synthetic.make_config(source, tmp_path / "run"))
    assert "offset" in str(error.value)
    assert "Traceback" not in str(error.value)
    assert not (tmp_path / "run" / "frame" / "manifest.json").exists()


def test_changed_input_or_settings_are_validated_again_and_unchanged_ones_are_not(spark: None, tmp_path: Path):
    rows = synthetic.make_rows(60)
    source = synthetic.write_directory(tmp_path / "input", rows)
    config = synthetic.make_config(source, tmp_path / "run")
    manifest = Path(synthetic.validate(config).frame("manifest.json"))
    before = manifest.stat().st_mtime_ns
    synthetic.validate(config)
    assert manifest.stat().st_mtime_ns == before
    synthetic.write_file(source / "trainingData" / "more.tfrecord", synthetic.make_rows(5, first_uid=7000))
    run = synthetic.validate(config)
    assert Frame(run).rows("training") == 65


def test_bags_keep_float32(dropped: Run):
    bag = Frame(dropped).bag("training", "global")
    assert isinstance(bag, Bag)
    assert (bag.values.dtype, bag.indices.dtype, bag.offsets.dtype) == (np.float32, np.int32, np.int64)


def test_a_thousand_small_files_are_validated_as_one_is_and_in_seconds(spark: None, tmp_path: Path):
    """A task for each of them takes minutes, on a free machine too."""
    rows = synthetic.make_rows(1000)
    frames, seconds = [], []
    for files in (1, 1000):
        source = synthetic.write_directory(tmp_path / f"input{files}", rows, files=files, suffix=".parquet")
        began = time.monotonic()
        run = synthetic.validate(synthetic.make_config(source, tmp_path / f"run{files}", frame={"rows_per_block": 300}))
        seconds.append(time.monotonic() - began)
        frames.append({path.name: path.read_bytes() for path in Path(run.frame()).rglob("*.parquet")})
        report = synthetic.report_of(run)
        assert (report.pop("files"), report["splits"]["training"]["rows"]) == (files, 1000)
    assert len(frames[0]) == 4
    assert frames[0] == frames[1]
    assert seconds[1] - seconds[0] < 40, seconds
