"""A search as its users start it: `gdmix run` on one machine, and mapped tasks in Airflow; both find the same."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow_standalone import airflow, airflow_environment, write_dag
from gdmix_command import gdmix

from gdmix_core.samples.generated import generate_sample, write_generated

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

PIPELINE = """\
name: search
columns: {label: response, weight: weight}
coordinates:
  global: {fixed_effect: {}, data: global, bag: global}
  per_user: {random_effect: {entity: user_id, shards: 2}, data: per_user, bag: per_user, l2: [1, 10]}
passes: {max: 2}
metrics: [auc, logloss]
tune: {parallel: 2, parameters: {coordinates.global.l2: [0.1, 100]}}
engine: {local: {processes: 1}}
"""
TRIALS = [(10, 100), (10, 0.1), (1, 100), (1, 0.1)]  # per_user first, which is a list of its own


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search")
    write_generated(str(folder / "input"), generate_sample(users=60, movies=200, ratings=3000))
    return folder


def pipeline(folder: Path, output: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(PIPELINE)
    return content | {"input": str(folder / "input"), "output": str(folder / output)}


def best(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "best.json").read_text())
    return found


def printed(*arguments: Any) -> str:
    """What the command prints on a wide terminal."""
    done = gdmix(*arguments, env=os.environ | {"COLUMNS": "160"})
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def on_one_machine(folder: Path) -> str:
    """What `gdmix run` prints."""
    (folder / "search.yaml").write_text(yaml.safe_dump(pipeline(folder, "machine")))
    return printed("run", str(folder / "search.yaml"))


def test_gdmix_run(folder: Path, on_one_machine: str) -> None:
    found = best(folder / "machine")
    for number, (user, everyone) in enumerate(TRIALS, start=1):
        values = f"trial {number} of 4: per_user.l2={user}, global.l2={everyone}: auc "
        assert values + f"{found['trials'][number - 1]['value']:.5f}" in on_one_machine
    assert f"best by auc: trial {found['trial']}, pass {found['pass']}, exported" in on_one_machine
    assert found["value"] == max(trial["value"] for trial in found["trials"])
    table = on_one_machine[on_one_machine.index("┏") : on_one_machine.index("└")]
    assert table in printed("show", str(folder / "machine"))
    trial = printed("show", str(folder / "machine" / "trials" / "003"))
    assert trial.count("per_user") == 2
    assert str(folder / "machine" / "trials" / "003") in trial


def test_the_best_trial_scores_new_data(folder: Path, on_one_machine: str) -> None:
    output = str(folder / "scores.parquet")
    source = str(folder / "input")
    scored = printed("score", "--model", str(folder / "machine"), "--input", source, "--output", output)
    assert "rows scored" in scored


def test_mapped_trials_in_airflow_find_the_same(
    folder: Path, on_one_machine: str, airflow_home: Callable[[Path], Path]
) -> None:
    """Then again, over the same data, with a value in the form: one trial is left of every pair."""
    (folder / "dags").mkdir()
    write_dag(folder / "dags", "search", pipeline(folder, "airflow"))
    environment = airflow_environment(airflow_home(folder / "home"), folder / "dags")
    airflow(environment, "dags", "test", "search")
    assert best(folder / "airflow") == best(folder / "machine")
    assert states(folder) == {
        ("round_01", 0): ("success", "trial 1: per_user.l2=10, global.l2=100"),
        ("round_01", 1): ("success", "trial 2: per_user.l2=10, global.l2=0.1"),
        ("round_02", 0): ("success", "trial 3: per_user.l2=1, global.l2=100"),
        ("round_02", 1): ("success", "trial 4: per_user.l2=1, global.l2=0.1"),
    }
    airflow(environment, "dags", "test", "search", "--conf", json.dumps({"l2": 5}))
    assert [trial["parameters"] for trial in best(folder / "airflow")["trials"]] == [
        {"coordinates.global.l2": 5, "coordinates.per_user.l2": 5}
    ]
    assert {state for state, _ in states(folder).values()} == {"success", "skipped"}
    exported = json.loads((folder / "airflow" / "export" / "manifest.json").read_text())["config"]["coordinates"]
    assert {coordinate["l2"] for coordinate in exported.values()} == {5}


def states(folder: Path) -> dict[tuple[str, int], tuple[str, str | None]]:
    """(state, name) of the mapped tasks of the last run."""
    with sqlite3.connect(folder / "home" / "airflow.db") as database:
        rows = database.execute(
            "select task_id, map_index, state, rendered_map_index from task_instance "
            "where task_id like 'round_%' and run_id = (select run_id from dag_run order by id desc limit 1)"
        ).fetchall()
    return {(task, index): (state, name) for task, index, state, name in rows}
