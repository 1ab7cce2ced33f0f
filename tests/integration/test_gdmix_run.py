"""The `gdmix` command as a user runs it, with both data engines, and how faults of the data look."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import synthetic_input as synthetic
from gdmix_command import gdmix

pytestmark = pytest.mark.slow
ENGINES = [pytest.param("spark", marks=pytest.mark.spark), "embedded"]

PIPELINE = """\
name: synthetic
input: {root}/input
output: {root}/{{{{ name }}}}
columns: {{label: response, weight: weight, offset: offset}}
coordinates:
  global: {{fixed_effect: {{}}, bag: global}}
  per_user: {{random_effect: {{entity: user_id, shards: 2}}, bag: per_user}}
metrics: [auc, logloss]
spark: {{master: "local[2]"}}
engine: {{data: {engine}}}
"""


def pipeline(root: Path, engine: str = "auto") -> Path:
    path = root / "pipeline.yaml"
    path.write_text(PIPELINE.format(root=root, engine=engine))
    return path


def test_a_run_its_table_and_scoring(tmp_path: Path):
    validation = synthetic.make_rows(60, seed=2, first_uid=5000)
    synthetic.write_directory(tmp_path / "input", synthetic.make_rows(200), validation)
    done = gdmix("run", pipeline(tmp_path), "--var", "name=r1", "--set", "passes.max=2")
    assert done.returncode == 0, done.stderr
    for word in ("validation metrics", "auc", "logloss", "per_user", "exported", str(tmp_path / "r1")):
        assert word in done.stdout
    scored = gdmix(
        "score", "--model", tmp_path / "r1", "--input", tmp_path / "input",
        "--output", tmp_path / "s.parquet", "--split", "validation",
    )  # fmt: skip
    assert scored.returncode == 0, scored.stderr
    assert "60 rows scored" in scored.stdout
    assert pq.read_metadata(tmp_path / "s.parquet").num_rows == 60


@pytest.mark.parametrize("engine", ENGINES)
def test_a_corrupt_file_is_one_line_and_exit_code_1(tmp_path: Path, engine: str):
    source = synthetic.write_directory(tmp_path / "input", synthetic.make_rows(200), files=2)
    path = source / "trainingData" / "part-001.tfrecord"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    done = gdmix("run", pipeline(tmp_path, engine), "--var", "name=r1")
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    assert str(path) in lines[0]
    assert "offset" in lines[0]
    assert "Traceback" not in done.stdout + done.stderr
    assert not (tmp_path / "r1" / "frame" / "manifest.json").exists()


def test_broken_rules_show_the_report(tmp_path: Path):
    rows = synthetic.make_rows(100)
    rows["response"][7] = 5
    synthetic.write_directory(tmp_path / "input", rows)
    done = gdmix("validate", pipeline(tmp_path), "--var", "name=r1")
    assert done.returncode == 1
    assert f"response.legal: 1 records break 'label is 0 or 1', first uid {rows['uid'][7]}" in done.stderr
    assert "100" not in done.stderr.split("response.legal")[0]
    assert "Traceback" not in done.stdout + done.stderr
    report = json.loads((tmp_path / "r1" / "validate" / "report.json").read_text())
    assert report["checks"]["response.legal"]["broken"] == 1
    assert not (tmp_path / "r1" / "frame" / "manifest.json").exists()


@pytest.mark.parametrize("engine", ENGINES)
def test_validate_warns_of_labels_that_scores_cannot_resolve(tmp_path: Path, engine: str):
    """Milliseconds since 1970, one a second: float32 goes in steps of two minutes there."""
    data = synthetic.make_rows(60, seed=3, task="linear_regression")
    data["response"] = 1.7e12 + 1000.0 * np.arange(60)
    synthetic.write_directory(tmp_path / "input", data, suffix=".parquet")
    changes = ("--var", "name=r1", "--set", "task=linear_regression", "--set", "metrics=[rmse]")
    done = gdmix("validate", pipeline(tmp_path, engine), *changes)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "scores are float32 and cannot resolve the labels: column response" in done.stderr
    (warning,) = json.loads((tmp_path / "r1" / "validate" / "report.json").read_text())["warnings"]
    assert "steps of 1.311e+05" in warning
