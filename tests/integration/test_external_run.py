"""Scores of a model trained elsewhere through validate, and random effects on top of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import synthetic_input as synthetic

from gdmix_core.data.frame import Frame
from gdmix_core.errors import DataError
from gdmix_core.scoring.score_files import write_scores
from gdmix_core.scoring.score_input import score_input

ROWS = 120
DROP = {"on_error": "drop", "max_dropped": 1.0}
PER_USER = {"random_effect": {"entity": "user_id", "shards": 3}, "bag": "per_user"}


def external(*scores: Path, **changes: Any) -> dict[str, Any]:
    return {"fixed_effect": {"model": "external", "scores": list(map(str, scores)), **changes}}


def config_of(source: Path, output: Path, elsewhere: dict[str, Any], **changes: Any) -> Any:
    return synthetic.make_config(
        source, output, **({"coordinates": {"global": elsewhere, "per_user": PER_USER}} | changes)
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """uids 1000 … 1119 and, to validate with, 5000 … 5029."""
    rows, more = synthetic.make_rows(ROWS), synthetic.make_rows(30, seed=1, first_uid=5000)
    return synthetic.write_directory(tmp_path_factory.mktemp("external") / "input", rows, more, files=2)


def scores_of(uids: Any) -> np.ndarray:
    return np.sin(np.asarray(uids, np.float64)).astype(np.float32).astype(np.float64)


def write(path: Path, uids: Any, scores: Any = None) -> Path:
    scores = scores_of(uids) if scores is None else scores
    pq.write_table(pa.table({"uid": pa.array(uids), "score": pa.array(scores, pa.float64())}), path, row_group_size=50)
    return path


def test_broken_rules_are_counted_and_dropped(spark: None, source: Path, tmp_path: Path):
    uids = [*range(1000, 1120), *range(5000, 5030)]
    lacking = {1003, 5001, 5002}
    first = [uid for uid in uids if uid not in lacking]
    parquet = write(tmp_path / "a.parquet", first, np.where(np.isin(first, [1010, 5005]), np.nan, scores_of(first)))
    # Some again, twice, and some of no record; as Photon ML writes them, with strings for uids.
    again = [1020, 1021, 1021, 5010, 7000, 7000, 7001]
    photon = tmp_path / "b.avro"
    write_scores(str(photon), pa.table({"uid": pa.array(again), "score": scores_of(again)}), "photon")
    run = synthetic.validate(
        config_of(source, tmp_path / "run", external(parquet, photon), checks=DROP, frame={"rows_per_block": 40})
    )
    report = synthetic.report_of(run)
    broken = {name: check["broken"] for name, check in report["checks"].items() if check["broken"]}
    assert broken == {"global.score.present": 3, "global.score.unique": 3, "global.score.finite": 2}
    first_offenders = {name: [f["uid"] for f in report["checks"][name]["first"]] for name in broken}
    assert first_offenders == {
        "global.score.present": [1003, 5001, 5002],
        "global.score.unique": [1020, 1021, 5010],
        "global.score.finite": [1010, 5005],
    }
    assert {f["file"] for f in report["checks"]["global.score.finite"]["first"]} == {str(parquet)}
    assert report["external_scores"] == {"global": {"scores": 147 + 7, "unused": 3, "zeros": 0}}
    bad = lacking | {1010, 5005, 1020, 1021, 5010}
    frame = Frame(run)
    column = frame.score_column("global")
    for split, members in (("training", range(1000, 1120)), ("validation", range(5000, 5030))):
        kept = [uid for uid in members if uid not in bad]
        assert frame.ids(split, "uid").to_pylist() == kept
        found = pa.concat_tables(table for _, table in frame.read(split, [column]))[column]
        assert found.type == pa.float32()
        assert found.to_pylist() == scores_of(kept).tolist()
        assert report["splits"][split]["dropped"] == len(members) - len(kept)


def test_failing_says_what_to_do_and_zero_is_asked_for(spark: None, source: Path, tmp_path: Path):
    scores = write(tmp_path / "scores.parquet", range(1000, 1100))
    with pytest.raises(DataError, match=r"global\.score\.present: 50 records .* first uid 1100 .*missing: zero"):
        synthetic.validate(config_of(source, tmp_path / "run", external(scores)))
    assert not (tmp_path / "run" / "frame" / "manifest.json").exists()
    run = synthetic.validate(config_of(source, tmp_path / "run", external(scores, missing="zero")))
    assert synthetic.report_of(run)["external_scores"]["global"] == {"scores": 100, "unused": 0, "zeros": 50}
    frame = Frame(run)
    column = frame.score_column("global")
    found = pa.concat_tables(table for _, table in frame.read("training", [column]))[column]
    assert found.to_pylist() == [*scores_of(range(1000, 1100)), *[0.0] * 20]

    # The same files: nothing to do; a change of them: validated again, though the input is as it was.
    manifest = Path(run.frame("manifest.json"))
    stamp = manifest.stat().st_mtime_ns
    config = run.config
    synthetic.validate(config)
    assert manifest.stat().st_mtime_ns == stamp
    write(scores, range(1000, 1101))
    os.utime(scores, ns=(1, 1))
    assert synthetic.report_of(synthetic.validate(config))["external_scores"]["global"]["zeros"] == 49


def test_several_external_coordinates_and_text_uids(spark: None, tmp_path: Path):
    rows = synthetic.as_text(synthetic.make_rows(40), "uid")
    source = synthetic.write_directory(tmp_path / "input", rows, suffix=".parquet")
    ones = write(tmp_path / "ones.parquet", rows["uid"], np.ones(40))
    twos = write(tmp_path / "twos.parquet", rows["uid"][::-1], np.arange(40.0))
    coordinates = {"one": external(ones), "per_user": PER_USER, "two": external(twos)}
    run = synthetic.whole_run(config_of(source, tmp_path / "run", {}, coordinates=coordinates, passes={"max": 1}))
    order = np.argsort(rows["uid"])
    assert np.load(run.scores(1, "one", "training")).tolist() == [1.0] * 40
    assert np.load(run.scores(1, "two", "training")).tolist() == (39.0 - order).tolist()


def test_the_scores_of_a_logistic_fixed_effect_give_what_the_fixed_effect_gives(
    spark: None, source: Path, tmp_path: Path
):
    """All models, scores and metrics of the random effect to the last bit."""
    logistic = {"fixed_effect": {}, "bag": "global", "l2": 0.3}
    whole = synthetic.whole_run(config_of(source, tmp_path / "whole", logistic, passes={"max": 1}))
    for split in ("training", "validation"):
        score_input(whole.root, str(source), str(tmp_path / "scores" / f"{split}.parquet"), split=split)
    # In a second pass the random effect would train on the same scores again.
    run = synthetic.whole_run(
        config_of(source, tmp_path / "external", external(tmp_path / "scores", score="global"), passes={"max": 3})
    )
    assert run.plan.passes == 1
    compared = [
        *(
            f"passes/01/{name}/scores/{split}.npy"
            for name in ("global", "per_user")
            for split in Frame(run).manifest["splits"]
        ),
        *(f"passes/01/per_user/model/shard-{n:05d}.parquet" for n in range(3)),
        *(
            f"export/per_user/{part}-{n:05d}.{end}"
            for n in range(3)
            for part, end in (("shard", "parquet"), ("part", "avro"))
        ),
    ]
    for name in compared:
        ours, theirs = (Path(r.root, name).read_bytes() for r in (run, whole))
        if name.endswith(".avro"):  # its sync marker is random
            ours, theirs = (without_sync(content) for content in (ours, theirs))
        assert ours == theirs, name
    for coordinate in ("global", "per_user"):
        found = [r.result(f"pass_01.{coordinate}.evaluate")["metrics"] for r in (run, whole)]
        assert found[0] == found[1]
        assert found[0]["validation"]["auc"] is not None


def without_sync(content: bytes) -> bytes:
    return content.replace(content[-16:], b"")
