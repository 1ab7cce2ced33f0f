"""The command that starts a Spark application: whose master, whose Python, whose spark-submit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gdmix_core.config.pipeline import Config
from gdmix_core.execution import spark_submit
from gdmix_core.pipeline.run import Run
from gdmix_operators.spark_submit import spark_submit_hook

ROOT = Path(__file__).resolve().parents[2]


def command(pipeline: dict[str, Any]) -> tuple[list[str], dict[str, str]]:
    run = Run("s3://bucket/run", Config.model_validate(pipeline))
    hook = spark_submit_hook(run, run.plan["validate"])
    return hook._build_spark_submit_command("validate.py"), hook._env or {}


def connection(monkeypatch: pytest.MonkeyPatch, name: str, host: str, **extra: str) -> None:
    content = {"conn_type": "spark", "host": host, "extra": extra}
    monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(content))


def test_without_connection(pipeline: dict[str, Any]) -> None:
    """The provider alone would take YARN, silently."""
    pipeline["spark"] = {"master": "local[3]", "driver_memory": "5g", "conf": {"spark.ui.enabled": "true"}}
    found, environment = command(pipeline)
    assert found[found.index("--master") + 1] == "local[3]"
    assert found[found.index("--driver-memory") + 1] == "5g"
    assert found[found.index("--deploy-mode") + 1] == "client"
    assert found[found.index("--name") + 1] == "ratings.validate"
    assert "spark.ui.enabled=true" in found
    assert found[-3:] == ["validate.py", "--run", "s3://bucket/run"]
    assert environment["PYSPARK_PYTHON"] == environment["PYSPARK_DRIVER_PYTHON"] == sys.executable
    assert str(ROOT) in environment["PYTHONPATH"].split(os.pathsep)
    assert "AIRFLOW_CONN_SPARK_LOCAL" not in os.environ


def test_with_connection(pipeline: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline["spark"] = {"master": "local[3]"}
    connection(monkeypatch, "spark_local", "local[7]")
    found, environment = command(pipeline)
    assert found[found.index("--master") + 1] == "local[7]"
    assert environment["PYSPARK_PYTHON"] == sys.executable


def test_cluster_uses_its_own_python(pipeline: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    connection(monkeypatch, "cluster", "spark://master:7077", **{"deploy-mode": "client"})
    pipeline["airflow"]["spark_connection"] = "cluster"
    found, environment = command(pipeline)
    assert found[found.index("--master") + 1] == "spark://master:7077"
    assert environment == {}


@pytest.mark.parametrize(
    ("given", "driver"),
    [
        ("jupyter", sys.executable),
        ("/opt/bin/ipython3", sys.executable),
        ("/opt/bin/python3.11", "/opt/bin/python3.11"),
    ],
)
def test_a_notebooks_program_is_no_driver(given: str, driver: str) -> None:
    assert spark_submit.environment({"PYSPARK_DRIVER_PYTHON": given})["PYSPARK_DRIVER_PYTHON"] == driver


def test_a_folder_without_spark_is_named() -> None:
    said = "/x/bin/spark-submit: line 27: /old/bin/spark-class: No such file or directory"
    assert spark_submit.reason(said) == "no Spark is in /old/bin/; unset SPARK_HOME"


def test_spark_submit_off_the_path(pipeline: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """As when Airflow is started by its full path, without activating its environment."""
    monkeypatch.setenv("PATH", "/nowhere")
    found, _ = command(pipeline)
    assert found[0] == str(Path(sys.executable).with_name("spark-submit"))
    assert Path(found[0]).exists()


ON_KILL = """
import os, subprocess, sys, psutil
from gdmix_core.workers import processes
from gdmix_operators.operators.partition import PartitionOperator
from gdmix_operators.operators.steps import TrainRandomEffectOperator
if sys.argv[1] == "spark":
    # As deep as spark-submit's, and deaf to SIGTERM; who kills a command before its shell gets another one.
    nap = f"sleep 600.{os.getpid()}"
    script = f"trap '' TERM; sh -c '{nap} & wait' & while true; do {nap}; done"
    for _ in range(10):
        subprocess.Popen(["sh", "-c", script], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while len(psutil.Process().children(recursive=True)) < 40:
        pass
    operator = PartitionOperator(task_id="partition")
else:
    processes.start("http.server", ["0"])
    operator = TrainRandomEffectOperator(task_id="train")
below = psutil.Process().children(recursive=True)
print(*(p.pid for p in below), flush=True)
operator.on_kill()
# On a busy machine what was told to end takes a moment.
psutil.wait_procs(below, timeout=120)
# Those that were started meanwhile have lost their parents.
named = [p for p in psutil.process_iter(["cmdline"]) if f"600.{os.getpid()}" in (p.info["cmdline"] or [])]
left = {p.pid for p in [*below, *named] if p.is_running() and p.status() != "zombie"}
print(*left, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "processes"), [("spark", 40), ("worker", 1)])
def test_on_kill_ends_all_below(kind: str, processes: int) -> None:
    """By itself: after a timeout nobody else does it, as there is no signal to the process group."""
    done = subprocess.run(
        [sys.executable, "-c", ON_KILL, kind],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "plugins")])},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    before, after = done.stdout.splitlines()[-2:]
    assert len(before.split()) == processes
    assert after == ""
