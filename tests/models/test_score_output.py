"""`gdmix score` into the score files of GDMix and Photon ML, from a model and data on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import synthetic_input as synthetic
from click.testing import CliRunner
from run_directory import Rows, make_run

from gdmix_core import steps
from gdmix_core.cli import main
from gdmix_core.errors import DataError
from gdmix_core.models.score_files import ScoreColumns, read_scores
from gdmix_core.models.scoring import score_input

COLUMNS = ScoreColumns(label="response")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An export of a fixed effect and a random one, over the features of synthetic_input."""
    data = synthetic.make_rows(200, seed=1)
    bags = {name: synthetic.dense(data[name], size) for name, size in synthetic.FEATURES.items()}
    rows = Rows(data["response"], data["weight"], data["offset"], ids={"user_id": data["user_id"]}, bags=bags)
    config = {
        "columns": {"label": "response", "weight": "weight", "offset": "offset"},
        "coordinates": {
            "global": {"fixed_effect": {}, "bag": "global"},
            "per_user": {"random_effect": {"entity": "user_id", "shards": 2}, "bag": "per_user"},
        },
        "engine": {"local": {"processes": 1}},
    }
    names = {name: [(f"{name}_{i}", "") for i in range(size)] for name, size in synthetic.FEATURES.items()}
    run = make_run(tmp_path_factory.mktemp("model"), config, rows, feature_names=names)
    for step in run.plan.steps[2:]:
        steps.execute(run, step)
    return run.path("export")


DATA = synthetic.make_rows(90, seed=2)


@pytest.fixture
def source(tmp_path: Path) -> str:
    return str(synthetic.write_directory(tmp_path / "input", DATA))


def by_uid(table: Any) -> dict[Any, dict[str, Any]]:
    return {row["uid"]: row for row in table.to_pylist()}


@pytest.mark.parametrize("scores", ["gdmix", "photon"])
def test_the_scores_of_parquet_with_labels_weights_and_offsets(model: str, source: str, tmp_path: Path, scores):
    plain, avro = str(tmp_path / "s.parquet"), str(tmp_path / "s.avro")
    score_input(model, source, plain)
    output = CliRunner().invoke(
        main, ["score", "--model", model, "--input", source, "--output", avro, "--scores", scores]
    )
    assert output.exit_code == 0, output.output
    assert output.output.startswith("90 rows scored")
    expected, found = by_uid(pq.read_table(plain)), by_uid(read_scores(avro, COLUMNS, integer_uids=True))
    assert found.keys() == expected.keys()
    for row, uid in enumerate(DATA["uid"].tolist()):
        assert found[uid]["score"] == expected[uid]["score"]
        assert found[uid]["label"] == DATA["response"][row]
        assert found[uid]["weight"] == DATA["weight"][row]
        own = expected[uid]["global"] + expected[uid]["per_user"]
        if scores == "gdmix":
            assert found[uid]["score_per_coordinate"] == pytest.approx(own, abs=1e-5)


def test_data_without_labels_have_none(model: str, tmp_path: Path):
    data = {name: column for name, column in DATA.items() if name not in ("response", "weight")}
    source = synthetic.write_directory(tmp_path / "input", data)
    score_input(model, str(source), str(tmp_path / "s.avro"), scores="gdmix")
    found = read_scores(str(tmp_path / "s.avro"), COLUMNS)
    assert found["label"].null_count == found["weight"].null_count == 90


def test_labels_that_are_described_and_absent_or_illegal_are_no_error(model: str, tmp_path: Path):
    labels = DATA["response"].astype(np.float32).copy()
    labels[0] = 5
    data = {**DATA, "response": labels}
    metadata = synthetic.describe({**DATA, "response": labels})
    source = synthetic.write_directory(tmp_path / "input", data, metadata=metadata)
    score_input(model, str(source), str(tmp_path / "s.avro"), scores="photon")
    assert sorted(read_scores(str(tmp_path / "s.avro"))["label"].to_pylist())[-1] == 5
    del data["response"]
    source = synthetic.write_directory(tmp_path / "other", data, metadata=metadata)
    score_input(model, str(source), str(tmp_path / "t.avro"), scores="photon")
    assert read_scores(str(tmp_path / "t.avro"))["label"].null_count == 90


def test_uids_of_strings_do_not_fit_gdmixs_files(model: str, tmp_path: Path):
    source = synthetic.write_directory(tmp_path / "input", synthetic.as_text(DATA, "uid"))
    with pytest.raises(DataError, match="integer uids only; write photon or parquet"):
        score_input(model, str(source), str(tmp_path / "s.avro"), scores="gdmix")
    assert not (tmp_path / "s.avro").exists()
    score_input(model, str(source), str(tmp_path / "s.avro"), scores="photon")
    assert set(read_scores(str(tmp_path / "s.avro"))["uid"].to_pylist()) == {f"uid-{u + 100:08d}" for u in DATA["uid"]}
