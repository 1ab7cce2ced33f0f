"""The validate task looks for what the training tasks will read before it submits anything; parsing does not."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import synthetic_input as synthetic
from airflow.sdk.execution_time import macros

from gdmix_core.errors import DataError, StepError
from gdmix_core.pipeline.loading import parse_config
from gdmix_operators.factory import build_dag
from gdmix_operators.spark_submit import driver_is_here


def lacking(folder: Path) -> dict[str, Any]:
    """A pipeline of which nothing is there."""
    text = {"model": "text", "document": "title", "vocabulary": {"file": "words/{{ ds }}.txt"}}
    external = {"model": "external", "scores": f"{folder}/scores/{{{{ ds }}}}"}
    return {
        "name": "lacking",
        "input": f"{folder}/input/{{{{ ds }}}}",
        "output": f"{folder}/runs/{{{{ ds }}}}",
        "coordinates": {
            "titles": {"fixed_effect": text},
            "elsewhere": {"fixed_effect": external},
            "own": {"fixed_effect": {"model": "python", "function": "no_such_module:train"}},
            "per_user": {"random_effect": {"entity": "user_id"}},
        },
    }


def execute(task: Any) -> Any:
    run = SimpleNamespace(
        logical_date=None, data_interval_start=None, data_interval_end=None, run_after=None, run_type="manual",
        conf=None,
    )  # fmt: skip
    params = {**task.dag.params, "date": "2026-11-03"}
    context: Any = {"dag": task.dag, "dag_run": run, "params": params, "macros": macros}
    task.render_template_fields(context)
    return task.execute(context)


def test_nothing_is_submitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")  # no spark-submit
    task = build_dag(lacking(tmp_path)).get_task("validate")  # parsing succeeds
    with pytest.raises(DataError) as error:
        execute(task)
    lines = str(error.value).splitlines()
    assert lines[0] == "the run cannot start, for 4 reasons:"
    assert [line.split(": ")[0].strip() for line in lines[1:]] == [
        "input",
        "coordinates.titles.fixed_effect.vocabulary.file",
        "coordinates.elsewhere.fixed_effect.scores",
        "coordinates.own.fixed_effect.function",
    ]
    assert f"{tmp_path}/words/2026-11-03.txt: no such file" in lines[2]


def test_what_is_watched_is_recorded_before_spark_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = lacking(tmp_path)
    for name in ("elsewhere", "own"):
        del content["coordinates"][name]
    synthetic.write_directory(tmp_path / "input/2026-11-03", {**synthetic.make_rows(5), "title": ["a"] * 5})
    content |= {"columns": {"label": "response"}, "engine": {"data": "spark"}}
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "2026-11-03.txt").write_text("film\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAVA_HOME", "/absent")
    with pytest.raises(StepError, match="JAVA_HOME is /absent"):
        execute(build_dag(content).get_task("validate"))
    recorded = json.loads((tmp_path / "runs/2026-11-03/watched.json").read_text())
    assert recorded == {"titles": {"vocabulary": hashlib.sha256(b"film\n").hexdigest()}}


def test_a_failed_night_does_not_block_the_next(tmp_path: Path) -> None:
    content = lacking(tmp_path)
    for name in ("titles", "elsewhere", "own"):
        del content["coordinates"][name]
    content |= {"columns": {"label": "response"}}
    content["initial_model"] = {"path": f"{tmp_path}/runs/{{{{ macros.ds_add(ds, -1) }}}}", "required": False}
    synthetic.write_directory(tmp_path / "input/2026-11-03", synthetic.make_rows(5))
    for day, finished in ((1, True), (2, False), (4, True)):
        folder = tmp_path / f"runs/2026-11-{day:02d}"
        (folder / "export").mkdir(parents=True)
        (folder / "config.yaml").write_text("config: {name: lacking}\n")
        if finished:
            described = {"formats": [], "coordinates": {}, "config": {"task": "logistic_regression", "coordinates": {}}}
            (folder / "export" / "manifest.json").write_text(json.dumps(described))
    execute(build_dag(content).get_task("validate"))
    recorded = json.loads((tmp_path / "runs/2026-11-03/initial_model.json").read_text())
    first, second = (f"{tmp_path}/runs/2026-11-0{day}" for day in (1, 2))
    assert recorded == {"named": second, "taken": first, "passed_over": [second]}
    content["initial_model"]["required"] = True
    with pytest.raises(DataError, match=r"2026-11-02 is a run without an export, begun and not finished"):
        execute(build_dag(content).get_task("validate"))


@pytest.mark.parametrize("place", ["nowhere", "connection", "conf"])
def test_a_driver_elsewhere_finds_its_own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    content = lacking(tmp_path)
    connection = {"conn_type": "spark", "host": "spark://m:7077"}
    if place == "connection":
        monkeypatch.setenv("AIRFLOW_CONN_SPARK_LOCAL", json.dumps({**connection, "extra": {"deploy-mode": "cluster"}}))
    if place == "conf":
        monkeypatch.setenv("AIRFLOW_CONN_SPARK_LOCAL", json.dumps(connection))
        content["spark"] = {"conf": {"spark.submit.deployMode": "cluster"}}
    run: Any = SimpleNamespace(config=parse_config(content))
    assert driver_is_here(run) == (place == "nowhere")
    if place == "connection":
        with pytest.raises(DataError, match="for 2 reasons") as error:
            execute(build_dag(content).get_task("validate"))
        assert "input" not in str(error.value)
        assert "scores" not in str(error.value)
