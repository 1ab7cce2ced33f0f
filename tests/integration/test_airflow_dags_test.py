"""`airflow dags test`: the whole pipeline in one process, without scheduler, API server or Spark connection."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from airflow_standalone import ROOT, airflow, airflow_environment

from gdmix_core.samples.generated import generate_sample, write_generated

pytestmark = [pytest.mark.airflow, pytest.mark.spark, pytest.mark.slow]


def test_movielens(tmp_path: Path, airflow_home: Callable[[Path], Path]) -> None:
    """The project's own DAG, as its README runs it, on a sample of the same shape."""
    write_generated(str(tmp_path / "input"), generate_sample(users=20, movies=40, ratings=160))
    environment = airflow_environment(airflow_home(tmp_path / "home"), ROOT / "dags")
    conf = {"input": str(tmp_path / "input"), "output": str(tmp_path / "run"), "passes": 1, "engine": "spark"}
    output = airflow(environment, "dags", "test", "movielens", "--conf", json.dumps(conf))
    assert "Spark runs on local[*], the YAML's spark.master" in output
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["config"]
    assert config["input"] == str(tmp_path / "input")
    assert config["passes"]["max"] == 1
    best = json.loads((tmp_path / "run" / "best.json").read_text())
    assert best["pass"] == 1
    assert best["metric"] == "auc"
    assert (tmp_path / "run" / "export" / "manifest.json").exists()
