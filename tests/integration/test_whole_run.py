"""Whole runs through both Spark jobs: the same bytes however the input is cut, resuming, exporting and scoring."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import synthetic_input as synthetic
from run_directory import walk

from gdmix_core.data.feature_list import FeatureList, read_feature_list, write_feature_list
from gdmix_core.data.frame import Frame
from gdmix_core.data.ragged import Bag
from gdmix_core.errors import DataError
from gdmix_core.pipeline.run import Run
from gdmix_core.scoring.score_input import score_input

pytestmark = pytest.mark.usefixtures("spark")

TRAINING = synthetic.make_rows(400, seed=1, users=15)
VALIDATION = synthetic.make_rows(120, seed=2, users=18, first_uid=5000)
CAPPED = {
    "global": {"fixed_effect": {}, "bag": "global"},
    "per_user": {"random_effect": {"entity": "user_id", "shards": 3, "samples": {"max": 40}}, "bag": "per_user"},
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.write_directory(tmp_path_factory.mktemp("source") / "input", TRAINING, VALIDATION)


@pytest.fixture(scope="module")
def reference(spark: None, source: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("reference") / "run"
    return synthetic.whole_run(synthetic.make_config(source, root, coordinates=CAPPED))


def results(run: Run) -> dict[str, Any]:
    """Models and scores as bytes; metrics without the key, which is also the input files'."""
    found: dict[str, Any] = {}
    root = Path(run.path("passes"))
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.suffix in {".parquet", ".npy"}:
            found[name] = path.read_bytes()
        elif path.name == "metrics.json":
            content = json.loads(path.read_text())
            del content["key"]
            found[name] = content
    assert any(name.endswith("validation.npy") for name in found)
    return found


@pytest.mark.parametrize("processes", [1, 2])
def test_files_order_compression_and_cores_change_no_byte(reference: Run, tmp_path: Path, processes):
    shuffled = synthetic.select_rows(TRAINING, np.random.default_rng(5).permutation(400))
    source = synthetic.write_directory(
        tmp_path / "input",
        shuffled,
        VALIDATION,
        files=4,
        suffix=(".tfrecord.gz", ".parquet")[processes - 1],
        reverse=True,
    )
    engine = {"local": {"processes": processes}}
    run = synthetic.whole_run(synthetic.make_config(source, tmp_path / "run", coordinates=CAPPED, engine=engine))
    assert results(run) == results(reference)


def test_the_size_of_blocks_changes_no_model_of_an_entity(reference: Run, tmp_path: Path, source: Path):
    config = synthetic.make_config(source, tmp_path / "run", coordinates=CAPPED, frame={"rows_per_block": 70})
    run = synthetic.whole_run(config)
    assert len(Frame(run).blocks("training")) > 3
    assert results(run) == results(reference)


def test_every_row_lies_in_one_shard_and_all_of_an_entity_in_the_same(reference: Run):
    homes: dict[int, int] = {}
    for split, data in (("training", TRAINING), ("validation", VALIDATION)):
        rows: list[int] = []
        for number in range(3):
            table = pq.read_table(reference.shard("per_user", split, number))
            entities = table["entity"].to_pylist()
            assert entities == sorted(entities)
            assert all(homes.setdefault(entity, number) == number for entity in entities)
            rows += table["row"].to_pylist()
        assert sorted(rows) == list(range(len(data["uid"])))
    counts = reference.result("partition")["coordinates"]["per_user"]
    by_user = np.unique(TRAINING["user_id"], return_counts=True)[1]
    assert counts["totals"]["training"]["entities"] == len(by_user)
    assert counts["totals"]["training"]["active_rows"] == np.minimum(by_user, 40).sum()
    assert sum(counts["rows"]["training"].values()) == 400


def test_a_finished_run_is_not_touched_by_running_it_again(reference: Run, tmp_path: Path):
    def stamps() -> dict[str, int]:
        marked = ("passes", "export", "frame", "shards")
        return {str(p): p.stat().st_mtime_ns for name in marked for p in Path(reference.path(name)).rglob("*.parquet")}

    before = stamps()
    assert len(before) > 10
    synthetic.whole_run(reference.config)
    assert stamps() == before


def test_a_changed_setting_is_what_a_fresh_run_would_make(reference: Run, tmp_path: Path, source: Path):
    changed = {**CAPPED, "per_user": {**CAPPED["per_user"], "l2": 5.0}}
    run = synthetic.copy_run(reference, tmp_path / "copy", coordinates=changed)
    frame = Path(run.frame("manifest.json")).stat().st_mtime_ns
    synthetic.partition(run)
    walk(run)
    assert Path(run.frame("manifest.json")).stat().st_mtime_ns == frame
    fresh = synthetic.copy_run(reference, tmp_path / "fresh", coordinates=changed)
    for name in ("passes", "export"):
        shutil.rmtree(fresh.path(name))
    walk(fresh)
    assert results(run) == results(fresh)
    assert results(run) != results(reference)


# Export and scoring


@pytest.fixture(scope="module")
def new_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The validation rows as new data: no labels, no weights, uids in another order."""
    unlabelled = {k: v for k, v in VALIDATION.items() if k not in ("response", "weight")}
    return synthetic.write_directory(tmp_path_factory.mktemp("new") / "input", unlabelled, files=2)


def read_scores(path: Path) -> dict[int, dict[str, float]]:
    return {row["uid"]: row for row in pq.read_table(path).to_pylist()}


def validation_scores(run: Run) -> dict[int, dict[str, float]]:
    """The run's own, of the pass that was exported."""
    best = run.result("select")["pass"]
    frame = Frame(run)
    parts = {name: np.load(run.scores(best, name, "validation")) for name in run.config.coordinates}
    offset = frame.column("validation", "offset")
    total = (offset + sum(part.astype(np.float64) for part in parts.values())).astype(np.float32)
    uids = frame.ids("validation", "uid").to_pylist()
    return {
        uid: {"uid": uid, "score": float(total[i]), **{name: float(part[i]) for name, part in parts.items()}}
        for i, uid in enumerate(uids)
    }


@pytest.mark.parametrize("kind", ["native", "avro"])
def test_scores_of_new_data_are_the_runs_own(reference: Run, new_data: Path, tmp_path: Path, kind):
    rows, unknown = score_input(reference.root, str(new_data), str(tmp_path / "s.parquet"), kind=kind)
    found, expected = read_scores(tmp_path / "s.parquet"), validation_scores(reference)
    assert rows == len(found) == 120
    assert set(found) == set(expected)
    for uid, row in expected.items():
        assert found[uid]["global"] == pytest.approx(row["global"], rel=1e-6, abs=1e-7)
        assert found[uid]["per_user"] == row["per_user"]
        assert found[uid]["score"] == pytest.approx(row["score"], rel=1e-6, abs=1e-6)
    without = ~np.isin(VALIDATION["user_id"], TRAINING["user_id"])
    assert unknown == {"per_user": int(without.sum())}
    assert without.any()
    for uid in VALIDATION["uid"][without]:
        assert found[uid]["per_user"] == 0.0


def test_the_export_alone_scores_as_the_run_does(reference: Run, new_data: Path, tmp_path: Path):
    shutil.copytree(reference.path("export"), tmp_path / "moved")
    score_input(str(tmp_path / "moved"), str(new_data), str(tmp_path / "a.parquet"))
    score_input(reference.root, str(new_data), str(tmp_path / "b.parquet"))
    assert read_scores(tmp_path / "a.parquet") == read_scores(tmp_path / "b.parquet")


@pytest.mark.parametrize("kind", ["native", "avro"])
def test_another_order_of_features_and_unknown_ones(reference: Run, new_data: Path, tmp_path: Path, kind):
    """Features are matched by name and term; what the model does not know counts nothing."""
    shutil.copytree(new_data, tmp_path / "input")
    unlabelled = {k: v for k, v in VALIDATION.items() if k not in ("response", "weight")}
    names = read_feature_list(str(new_data / "featureList" / "global")).names
    order = [("new", "1"), *reversed(names), ("new", "2")]
    moved = np.array([order.index(name) for name in names])
    bag = unlabelled["global"]
    extra = np.arange(len(bag) + 1)  # every row also has the unknown feature 0
    indices = np.insert(moved[bag.indices], bag.offsets[:-1], 0).astype(np.int32)
    values = np.insert(bag.values, bag.offsets[:-1], 9.0).astype(np.float32)
    unlabelled["global"] = Bag(bag.offsets + extra, indices, values)
    metadata = synthetic.describe(unlabelled, **{"global": {"shape": [len(order)]}})
    synthetic.write_directory(tmp_path / "input", unlabelled, metadata=metadata)
    write_feature_list(str(tmp_path / "input" / "featureList" / "global"), FeatureList(order))
    score_input(reference.root, str(tmp_path / "input"), str(tmp_path / "s.parquet"), kind=kind)
    found, expected = read_scores(tmp_path / "s.parquet"), validation_scores(reference)
    for uid, row in expected.items():
        assert found[uid]["global"] == pytest.approx(row["global"], rel=1e-5, abs=1e-6)


def test_a_broken_record_of_new_data_is_named(reference: Run, tmp_path: Path):
    bag = VALIDATION["global"]
    values = bag.values.copy()
    values[0] = np.nan
    bad = {k: v for k, v in VALIDATION.items() if k not in ("response", "weight")}
    source = synthetic.write_directory(tmp_path / "input", {**bad, "global": Bag(bag.offsets, bag.indices, values)})
    with pytest.raises(DataError, match=r"part-000\.tfrecord: uid \d+ breaks 'feature values are finite'"):
        score_input(reference.root, str(source), str(tmp_path / "s.parquet"))
    assert not (tmp_path / "s.parquet").exists()


def test_entities_of_another_type_are_an_error_that_says_so(reference: Run, tmp_path: Path):
    text = synthetic.as_text({k: v for k, v in VALIDATION.items() if k not in ("response", "weight")}, "user_id")
    source = synthetic.write_directory(tmp_path / "input", text)
    with pytest.raises(DataError, match="user_id"):
        score_input(reference.root, str(source), str(tmp_path / "s.parquet"))


def test_no_data_to_score_is_an_error(reference: Run, new_data: Path, tmp_path: Path):
    with pytest.raises(DataError, match=r"no .*files"):
        score_input(reference.root, str(new_data), str(tmp_path / "s.parquet"), split="validation")


def test_a_directory_that_is_no_model(new_data: Path, tmp_path: Path):
    with pytest.raises(DataError, match="neither a finished run nor an export"):
        score_input(str(tmp_path), str(new_data), str(tmp_path / "s.parquet"))


def test_two_directories_and_a_uid_that_one_lacks(tmp_path: Path):
    """Trained and scored from separate directories, string ids, and more shards than entities."""
    source, new = tmp_path / "input", tmp_path / "new"
    mine, other = ("uid", "response", "weight", "offset", "global"), ("uid", "user_id", "per_user")
    data = [synthetic.as_text(rows, "uid", "user_id") for rows in (TRAINING, VALIDATION)]
    rng = np.random.default_rng(0)
    for name, kept in (("a", mine), ("b", other)):
        parts = [synthetic.select_rows({c: rows[c] for c in kept}, rng.permutation(len(rows["uid"]))) for rows in data]
        synthetic.write_directory(source / name, *parts)
        synthetic.write_directory(new / name, parts[1])
    coordinates = {
        "global": {"fixed_effect": {}, "bag": "global", "data": "a"},
        "per_user": {"random_effect": {"entity": "user_id", "shards": 30}, "bag": "per_user", "data": "b"},
    }
    run = synthetic.whole_run(synthetic.make_config(source, tmp_path / "run", coordinates=coordinates))
    expected = validation_scores(run)
    for kind in ("native", "avro"):
        score_input(run.root, str(new), str(tmp_path / "s.parquet"), kind=kind)  # type: ignore[arg-type]
        found = read_scores(tmp_path / "s.parquet")
        assert {uid: row["per_user"] for uid, row in found.items()} == {u: r["per_user"] for u, r in expected.items()}
    some = synthetic.select_rows({c: data[1][c] for c in other}, range(1, 120))
    synthetic.write_directory(new / "b", some)
    with pytest.raises(DataError, match=rf"/b: uid {data[1]['uid'][0]} is missing \(1 are\)"):
        score_input(run.root, str(new), str(tmp_path / "s.parquet"))
