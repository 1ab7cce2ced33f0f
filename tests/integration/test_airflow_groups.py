"""Two pipelines in task groups of one DAG, with a Spark connection that has secrets, by `airflow dags test`."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import yaml
from airflow_standalone import airflow, airflow_environment

from gdmix_core.models.native import read_model
from gdmix_core.samples.generated import generate_sample, write_generated

pytestmark = [pytest.mark.airflow, pytest.mark.spark, pytest.mark.slow]

DAG = '''"""airflow dag"""
import json
from pathlib import Path
from airflow.sdk import DAG, TaskGroup
from gdmix_operators.factory import add_pipeline

config = json.loads(Path(__file__).with_name("pipeline.json").read_text())
with DAG("models"), TaskGroup("all"):
    light = add_pipeline({**config, "output": config["output"] + "/light"}, group_id="light")
    coordinates = {**config["coordinates"], "global": {**config["coordinates"]["global"], "l2": 500.0}}
    del coordinates["per_user"]["random_effect"]["rows_per_group"]  # so few rows are one task
    # One of the two in Spark says as much as both would.
    config |= {"coordinates": coordinates, "output": config["output"] + "/heavy", "engine": {"data": "embedded"}}
    heavy = add_pipeline(config, group_id="heavy")
    light >> heavy
'''


def test_each_is_made_and_no_secret_is_told(tmp_path: Path, airflow_home: Callable[[Path], Path]) -> None:
    write_generated(str(tmp_path / "input"), generate_sample(users=20, movies=40, ratings=160))
    config = {
        "name": "ratings",
        "input": str(tmp_path / "input"),
        "output": str(tmp_path / "runs"),
        "columns": {"label": "response", "weight": "weight"},
        "coordinates": {
            "global": {"fixed_effect": {}, "data": "global", "bag": "global"},
            "per_user": {
                "random_effect": {"entity": "user_id", "shards": 2, "groups": 2, "rows_per_group": 40},
                "data": "per_user",
                "bag": "per_user",
            },
        },
        "passes": {"max": 2, "min_delta": "none"},
        "metrics": ["auc"],
        "spark": {"driver_memory": "1g"},
        "engine": {"data": "spark"},
    }
    dags = tmp_path / "dags"
    dags.mkdir()
    (dags / "pipeline.json").write_text(json.dumps(config))
    (dags / "models.py").write_text(DAG)
    home = airflow_home(tmp_path / "home")
    extra = {"deploy-mode": "client", "token": "hidden-token", "more": {"key": "hidden-key"}}
    connection = {"conn_type": "spark", "host": "local[2]", "login": "me", "password": "hidden-word", "extra": extra}
    environment = airflow_environment(home, dags) | {"AIRFLOW_CONN_SPARK_LOCAL": json.dumps(connection)}
    watch = CommandLines()
    with watch:
        output = airflow(environment, "dags", "test", "models", "--conf", '{"passes": 1}')
    assert "per_user: 2 shards in 2 group(s)" in output
    assert "group 2 of 2" in output
    assert "per_user: 2 shards in 1 group(s)" in output
    assert any("spark-submit" in line or "SparkSubmit" in line for line in watch.seen)
    assert not [line for line in watch.seen if "hidden-" in line]
    assert "hidden-" not in output
    written = [path for folder in (tmp_path / "runs", home / "logs") for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in written if b"hidden-" in path.read_bytes()]

    for name in ("light", "heavy"):
        run = tmp_path / "runs" / name
        assert (run / "export" / "manifest.json").exists()
        assert not (run / "passes" / "02").exists()
        origin = yaml.safe_load((run / "config.yaml").read_text())["origin"]
        assert origin["passes"] == 2
        assert origin["by"].endswith(" of models")
    norms = {name: _norm(tmp_path / "runs" / name) for name in ("light", "heavy")}
    assert norms["heavy"] < norms["light"] / 3


def _norm(run: Path) -> float:
    return float(abs(read_model(str(run / "export" / "global" / "shard-00000.parquet")).means[:-1]).sum())


class CommandLines:
    """All command lines of processes below this one, inside the block."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.2):
            for process in psutil.Process().children(recursive=True):
                try:
                    self.seen.add(" ".join(process.cmdline()))
                except psutil.Error:
                    continue
