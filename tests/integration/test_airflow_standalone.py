"""The DAG in a real Airflow with scheduler: scheduled, triggered as the UI does, backfilled, killed, resumed.

One `airflow standalone` serves all tests here; no two tests wait for the same runs, and all DAGs are the same
pipeline. The runs do not go on side by side: on a busy machine the first test would have to wait for all of them.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from airflow_standalone import Standalone, airflow, write_dag
from waiting import wait_for

from gdmix_core.samples.generated import generate_sample, write_generated

pytestmark = [pytest.mark.airflow, pytest.mark.spark, pytest.mark.slow]

TODAY = datetime.datetime.now(datetime.UTC).date()
DAYS = [str(TODAY - datetime.timedelta(days=n)) for n in range(6)]  # DAYS[0] is today
# No two days have the same number of ratings, so each run shows whose input it has read.
RATINGS = {day: 140 + 10 * n for n, day in enumerate(DAYS)}

PIPELINE = """\
columns: {label: response, weight: weight}
coordinates:
  global:
    fixed_effect: {}
    data: global
    bag: global
  per_user:
    random_effect: {entity: user_id, shards: 2}
    data: per_user
    bag: per_user
metrics: [auc, logloss]
spark: {driver_memory: 1g}
engine: {local: {processes: 2}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, airflow_home: Callable[[Path], Path]) -> Path:
    folder = tmp_path_factory.mktemp("airflow")
    airflow_home(folder / "home")
    (folder / "dags").mkdir()
    for day, ratings in RATINGS.items():
        sample = generate_sample(users=20, movies=40, ratings=ratings)
        write_generated(str(folder / "input" / day), sample)
    write(folder, "daily", passes=1, schedule="@daily")
    write(folder, "triggered", passes=2, groups=3)
    write(folder, "killed", passes=2)
    return folder


def write(folder: Path, name: str, passes: int, groups: int = 1, **airflow: Any) -> None:
    content = yaml.safe_load(PIPELINE) | {
        "name": name,
        "passes": {"max": passes},
        "input": f"{folder}/input/{{{{ ds }}}}",
        "output": f"{folder}/runs/{name}/{{{{ ds }}}}",
        "airflow": {"start_date": DAYS[-1], "retries": 1, "retry_delay_seconds": 1} | airflow,
    }
    # Of two shards and 60 rows a group no more than two are made.
    content["coordinates"]["per_user"]["random_effect"] |= {"groups": groups, "rows_per_group": 60}
    write_dag(folder / "dags", name, content)


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Standalone]:
    server = Standalone(folder / "home", folder / "dags")
    spark = {"conn_type": "spark", "host": "local[1]", "extra": {"deploy-mode": "client"}}
    server.environment["AIRFLOW_CONN_SPARK_LOCAL"] = json.dumps(spark)
    with server:
        server.wait_for_dags("daily", "triggered", "killed")
        yield server


def config_of(root: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((root / "config.yaml").read_text())["config"]
    return content


def rows_read(root: Path) -> int:
    splits = json.loads((root / "frame" / "manifest.json").read_text())["splits"]
    return sum(split["rows"] for split in splits.values())


def check_complete(root: Path, day: str) -> None:
    """The run read the input of `day`, and all of it, and ended with an exported model."""
    assert config_of(root)["input"].endswith(f"/input/{day}")
    assert rows_read(root) == RATINGS[day]
    assert json.loads((root / "best.json").read_text())["pass"] in (1, 2)
    assert (root / "export" / "manifest.json").exists()


def test_scheduled(server: Standalone, folder: Path) -> None:
    """The newest whole day is processed on its own, and its paths are of that day, not of the day of the
    run.
    """
    first = wait_for("a scheduled run", lambda: next(iter(server.runs("daily", "scheduled")), None))
    run = server.wait_for_run("daily", first["dag_run_id"])
    day = run["data_interval_start"][:10]
    assert day in DAYS[:2]
    check_complete(folder / "runs" / "daily" / day, day)
    states = {task: found["state"] for task, found in server.tasks("daily", first["dag_run_id"]).items()}
    assert set(states.values()) == {"success"}


def test_triggered_with_the_form(server: Standalone, folder: Path) -> None:
    """The UI sends every field of the form, filled in or not, and the moment of the click as logical date."""
    conf = {
        "date": DAYS[3],
        "input": None,
        "output": f"{folder}/runs/by-hand/{{{{ ds_nodash }}}}",
        "passes": 1,
        "l2": 2.5,
        "l2_global": None,
        "l2_per_user": 0.5,
    }
    now = datetime.datetime.now(datetime.UTC).isoformat()
    run_id = server.trigger("triggered", conf, logical_date=now).raise_for_status().json()["dag_run_id"]
    server.wait_for_run("triggered", run_id)
    root = folder / "runs" / "by-hand" / DAYS[3].replace("-", "")
    check_complete(root, DAYS[3])
    coordinates = config_of(root)["coordinates"]
    assert (coordinates["global"]["l2"], coordinates["per_user"]["l2"]) == (2.5, 0.5)
    tasks = server.tasks("triggered", run_id)
    assert {task for task, found in tasks.items() if found["state"] == "skipped"} == {
        task for task in tasks if task.startswith("pass_02.")
    }
    path = f"/dags/triggered/dagRuns/{run_id}/taskInstances"
    found = server.get(f"{path}/pass_01.per_user.evaluate/xcomEntries/return_value", deserialize=True)["value"]
    assert set(found) == {"pass", "coordinate", "auc", "logloss"}
    found = server.get(f"{path}/pass_01.global.train/xcomEntries/return_value", deserialize=True)["value"]
    assert {"pass", "coordinate", "auc", "logloss", "iterations"} <= set(found)
    mapped = server.get(f"{path}/pass_01.per_user.train/listMapped")["task_instances"]
    assert sorted(task["map_index"] for task in mapped) == [0, 1]
    assert "group 2 of 2" in server.log("triggered", run_id, "pass_01.per_user.train", map_index=1)
    log = server.log("triggered", run_id, "pass_02.global.train")
    assert "pass_02.global.train is beyond this run's 1 pass" in log


def test_form_is_checked(server: Standalone) -> None:
    for conf in ({"passes": 3}, {"l2": -1}, {"date": "yesterday"}):
        assert server.trigger("triggered", conf).status_code == 400
    run_id = server.trigger("triggered", {"l2_per_usr": 1}).raise_for_status().json()["dag_run_id"]
    server.wait_for_run("triggered", run_id, state="failed")
    log = server.log("triggered", run_id, "validate")
    assert "ConfigError: unknown key in the run's conf: l2_per_usr (did you mean l2_per_user?)" in log
    task = server.tasks("triggered", run_id)["validate"]
    assert task["try_number"] == 1, "what fails the same way every time must not be tried again"


def test_missing_input(server: Standalone) -> None:
    """What the Spark application raised arrives in the task as that error, so it is not tried again
    either.
    """
    conf = {"date": "2020-01-01", "engine": "spark"}
    run_id = server.trigger("triggered", conf).raise_for_status().json()["dag_run_id"]
    server.wait_for_run("triggered", run_id, state="failed")
    assert "DataError: " in server.log("triggered", run_id, "validate")
    assert server.tasks("triggered", run_id)["validate"]["try_number"] == 1


def test_backfill(server: Standalone, folder: Path) -> None:
    """Two days, each from its own input into its own run directory."""
    days = DAYS[4:]
    arguments = ["backfill", "create", "--dag-id", "daily", "--dag-run-conf", '{"l2": 3}']
    dates = ["--from-date", days[-1], "--to-date", days[0]]

    def created() -> str | None:
        # With SQLite the command fails now and then because the scheduler is writing ("database is locked").
        try:
            return airflow(server.environment, *arguments, *dates)
        except AssertionError as error:
            if "database is locked" not in str(error) and "OperationalError" not in str(error):
                raise
            return None

    wait_for("the backfill to be created", created)
    runs = wait_for("two runs", lambda: found if len(found := server.runs("daily", "backfill")) == 2 else None)
    for run in runs:
        server.wait_for_run("daily", run["dag_run_id"])
    for day in days:
        root = folder / "runs" / "daily" / day
        check_complete(root, day)
        assert config_of(root)["coordinates"]["per_user"]["l2"] == 3


def workers_of(server: Standalone, root: Path, task: str) -> list[psutil.Process]:
    """The training processes that the task of this run has started."""
    wanted = {"gdmix_core.effects.random.worker", str(root), task}
    return [process for process in server.processes() if wanted <= set(_arguments(process))]


def _arguments(process: psutil.Process) -> list[str]:
    try:
        arguments: list[str] = process.cmdline()
    except psutil.NoSuchProcess:
        return []
    return arguments


def test_killed_and_resumed(server: Standalone, folder: Path) -> None:
    """A crash is tried again and a kill leaves no process; a cleared task goes on where the run had been."""
    root = folder / "runs" / "killed" / DAYS[1]
    run_id = server.trigger("killed", {"date": DAYS[1]}).raise_for_status().json()["dag_run_id"]

    # The process of the task dies, as when memory runs out: its workers must not live on, and Airflow tries
    # again.
    workers = wait_for("workers", lambda: workers_of(server, root, "pass_01.per_user.train") or None, every=0.1)
    task = workers[0].parent()
    task.kill()
    assert psutil.wait_procs([task, *workers], timeout=120)[1] == []

    # Somebody marks the task as failed while a worker hangs: stopped, it can not even react to SIGTERM.
    (worker, *_) = wait_for("workers", lambda: workers_of(server, root, "pass_02.per_user.train") or None, every=0.1)
    worker.suspend()
    task = worker.parent()
    path = f"/dags/killed/dagRuns/{run_id}/taskInstances/pass_02.per_user.train"
    server.patch(path, {"new_state": "failed"}).raise_for_status()
    assert psutil.wait_procs([task, worker], timeout=120)[1] == []
    assert workers_of(server, root, "pass_02.per_user.train") == []
    server.wait_for_run("killed", run_id, state="failed")
    assert server.get(f"/dags/killed/dagRuns/{run_id}/taskInstances/pass_01.per_user.train")["try_number"] == 2

    before = {path: path.stat().st_mtime_ns for path in root.rglob("*.json") if path.name != "config.yaml"}
    assert root / "passes" / "02" / "global" / "metrics.json" in before
    cleared = server.post(
        "/dags/killed/clearTaskInstances",
        {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": ["pass_02.per_user.train"],
            "include_downstream": True,
            "only_failed": False,
            "reset_dag_runs": True,
        },
    )
    cleared.raise_for_status()
    server.wait_for_run("killed", run_id)
    check_complete(root, DAYS[1])
    assert {path: os.stat(path).st_mtime_ns for path in before} == before


def test_kill_ends_spark(server: Standalone) -> None:
    """The JVM, its Python driver and their workers go with the task."""
    run_id = server.trigger("killed", {"date": DAYS[2], "engine": "spark"}).raise_for_status().json()["dag_run_id"]

    def tree() -> list[psutil.Process] | None:
        jvm = [p for p in server.processes() if p.name() == "java" and "killed.validate" in _arguments(p)]
        drivers = [child for process in jvm for child in process.children(recursive=True)]
        return [jvm[0].parent(), *jvm, *drivers] if drivers else None

    processes = wait_for("the driver", tree)
    path = f"/dags/killed/dagRuns/{run_id}/taskInstances/validate"
    server.patch(path, {"new_state": "failed"}).raise_for_status()
    assert psutil.wait_procs(processes, timeout=120)[1] == []
    server.wait_for_run("killed", run_id, state="failed")
