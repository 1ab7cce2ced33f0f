"""Every operator on a real, tiny run: what it returns, logs, skips, and how it fails."""

from __future__ import annotations

import copy
import datetime
import json
import logging
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowSkipException
from airflow.sdk.execution_time import macros

from gdmix_core.config.pipeline import Config
from gdmix_core.errors import ConfigError, DataError, StepError
from gdmix_core.pipeline.run import Run
from gdmix_core.samples.generated import generate_sample, write_generated
from gdmix_core.workers import processes
from gdmix_operators.factory import build_dag
from gdmix_operators.operators.base import StepOperator, summary
from gdmix_operators.operators.partition import PartitionOperator
from gdmix_operators.operators.steps import EvaluateOperator
from gdmix_operators.operators.validate import ValidateOperator

RATINGS = 160
DAY = datetime.datetime(2026, 11, 3, tzinfo=datetime.UTC)


def context(dag: DAG, conf: dict[str, Any] | None = None, xcom: dict[str, Any] | None = None) -> Any:
    """What Airflow hands to a task: here of a manual run without a logical date."""
    run = SimpleNamespace(
        logical_date=None,
        data_interval_start=None,
        data_interval_end=None,
        run_after=DAY,
        run_type="manual",
        conf=conf,
    )
    params = {name: dag.params[name] for name in dag.params} | (conf or {})
    ti = SimpleNamespace(xcom_pull=lambda task_ids: (xcom or {})[task_ids])
    return {"dag": dag, "dag_run": run, "params": params, "ti": ti, "run_id": "manual__1", "macros": macros}


def execute(task: Any, context: Any) -> Any:
    task = copy.copy(task)
    task.render_template_fields({**context, "task": task})
    return task.execute(context)


def tasks_of(dag: DAG) -> dict[str, Any]:
    """Tasks by id, those of the groups of shards under id[group]."""
    tasks: dict[str, Any] = {}
    for task in dag.topological_sort():
        if task.is_mapped:
            for group in (0, 1):  # as per_user_groups says
                tasks[f"{task.task_id}[{group}]"] = task.unmap({"group": group})
        else:
            tasks[task.task_id] = task
    return tasks


@pytest.fixture(scope="module")
def dag(tmp_path_factory: pytest.TempPathFactory) -> DAG:
    folder = tmp_path_factory.mktemp("ratings")
    write_generated(f"{folder}/input/2026-11-03", generate_sample(users=20, movies=40, ratings=RATINGS))
    pipeline = {
        "name": "ratings",
        "input": f"{folder}/input/{{{{ ds }}}}",
        "output": f"{folder}/runs/{{{{ ds }}}}",
        "columns": {"label": "response", "weight": "weight"},
        "coordinates": {
            "global": {"fixed_effect": {}, "data": "global", "bag": "global"},
            "per_user": {
                "random_effect": {"entity": "user_id", "shards": 3, "groups": 2, "rows_per_group": 40},
                "data": "per_user",
                "bag": "per_user",
            },
        },
        "passes": {"max": 3, "min_delta": 1.0},
        "metrics": ["auc", "logloss"],
        "spark": {"master": "local[1]", "driver_memory": "1g"},
    }
    return build_dag(pipeline)


@pytest.fixture(scope="module")
def results(dag: DAG) -> dict[str, Any]:
    """The results of all tasks, in order; a skipped task's is the reason."""
    results: dict[str, Any] = {}
    for name, task in tasks_of(dag).items():
        try:
            results[name] = execute(task, context(dag, xcom=results))
        except AirflowSkipException as skip:
            results[name] = str(skip)
            if name == "pass_03.global.train":
                break
    results["export"] = execute(dag.get_task("export"), context(dag, xcom=results))
    return results


@pytest.mark.spark
class TestRealRun:
    def test_results_are_small_and_plain(self, results: dict[str, Any]) -> None:
        assert len(json.dumps(results)) < 5000
        for name, result in results.items():
            assert ("key" in result) == (name == "validate")

    def test_validate_and_partition(self, results: dict[str, Any]) -> None:
        root = results["validate"]["run"]
        assert Path(root, "config.yaml").exists()
        assert results["validate"]["key"] == Run.open(root).config_key
        assert root.endswith("/runs/2026-11-03")
        assert set(results["validate"]) == {"run", "key", "training_rows", "validation_rows"}
        assert results["validate"]["training_rows"] + results["validate"]["validation_rows"] == RATINGS
        assert results["partition"] == {"per_user_shards": 3}

    def test_groups_share_the_shards(self, results: dict[str, Any]) -> None:
        assert results["per_user_groups"] == [0, 1]
        parts = [results[f"pass_01.per_user.train[{group}]"] for group in (0, 1)]
        assert sorted(part["shards"] for part in parts) == [1, 2]
        assert sum(part["entities"] for part in parts) == 20

    def test_evaluate_returns_metrics(self, results: dict[str, Any]) -> None:
        for name in ("global", "per_user"):
            root = Path(results["validate"]["run"])
            written = json.loads((root / "passes/01" / name / "metrics.json").read_text())
            expected = {"pass": 1, "coordinate": name} | written["metrics"]["validation"]
            if name == "global":  # evaluated by the task that trained it, which says how that went, too
                assert results["pass_01.global.train"].items() >= expected.items()
                assert results["pass_01.global.train"]["iterations"] > 0
            else:
                assert results[f"pass_01.{name}.evaluate"] == expected

    def test_gate_skips_the_rest(self, results: dict[str, Any]) -> None:
        assert results["pass_02.global.train"]["continue"]
        assert results["pass_03.global.train"].startswith("no further pass: pass 2 improved auc by")
        assert not Path(results["validate"]["run"], "passes/03").exists()

    def test_select_and_export(self, results: dict[str, Any]) -> None:
        best = json.loads(Path(results["validate"]["run"], "best.json").read_text())
        assert results["export"]["pass"] == best["pass"]
        assert results["export"]["value"] == best["value"]
        assert best["pass"] in (1, 2)
        assert Path(results["validate"]["run"], "export/manifest.json").exists()
        assert "<!doctype html>" in Path(results["validate"]["run"], "report.html").read_text()

    def test_nothing_is_done_twice(self, results: dict[str, Any], dag: DAG) -> None:
        root = Path(results["validate"]["run"])
        before = {path: path.stat().st_mtime_ns for path in root.rglob("*.*") if path.suffix != ".json"}
        for name, task in tasks_of(dag).items():
            if name != "validate" and not name.startswith("pass_03"):
                assert execute(task, context(dag, xcom=results)) == results[name]
        assert len(before) > 20
        assert {path: path.stat().st_mtime_ns for path in before} == before

    def test_log_says_what_and_how_it_went(
        self, results: dict[str, Any], dag: DAG, capsys: pytest.CaptureFixture[str]
    ) -> None:
        root = results["validate"]["run"]
        found = execute(dag.get_task("pass_01.per_user.evaluate"), context(dag, xcom=results))
        log = capsys.readouterr().out
        assert f"Evaluating, coordinate per_user, pass 1 of 3, run {root} " in log
        assert f"pass 1, coordinate per_user, auc {found['auc']:.6g}, logloss {found['logloss']:.6g} " in log
        execute(tasks_of(dag)["pass_01.per_user.train[1]"], context(dag, xcom=results))
        assert f"pass 1 of 3, run {root}, group 2 of 2 " in capsys.readouterr().out

    def test_fewer_passes_than_the_graph(self, results: dict[str, Any], dag: DAG, tmp_path: Path) -> None:
        content = yaml.safe_load(Path(results["validate"]["run"], "config.yaml").read_text())
        content["config"]["passes"]["max"] = 1
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
        xcom = {"validate": {"run": str(tmp_path)}}
        for name, task in tasks_of(dag).items():
            if name.startswith("pass_02"):
                with pytest.raises(AirflowSkipException, match=r"beyond this run's 1 pass"):
                    execute(task, context(dag, xcom=xcom))


@pytest.mark.spark
def test_error_of_the_application_arrives(dag: DAG) -> None:
    with pytest.raises(DataError, match="2020-01-01"):
        execute(dag.get_task("validate"), context(dag, {"date": "2020-01-01"}))


def render(content: dict[str, Any], conf: dict[str, Any] | None = None) -> Config:
    dag = build_dag(content)
    task = dag.get_task("validate")
    assert isinstance(task, ValidateOperator)
    task.render_template_fields(context(dag, conf))
    return task.configuration()


def test_dates_exist_without_logical_date(pipeline: dict[str, Any]) -> None:
    pipeline["input"] = "s3://b/{{ ds_nodash }}/{{ data_interval_end | ds }}"
    assert render(pipeline).input == "s3://b/20261103/2026-11-03"
    assert render(pipeline, {"date": "2026-11-20"}).input == "s3://b/20261120/2026-11-21"


def test_local_paths_become_absolute(pipeline: dict[str, Any]) -> None:
    assert render(pipeline).input == str(Path.cwd() / "data/2026-11-03")
    assert render(pipeline, {"output": "~/runs"}).output == str(Path.home() / "runs")


def test_a_nightly_run_starts_from_the_night_before(pipeline: dict[str, Any]) -> None:
    pipeline["initial_model"] = "s3://b/{{ macros.ds_add(ds, -1) }}"
    assert render(pipeline).initial_model.path == "s3://b/2026-11-02"
    pipeline["initial_model"] = {"path": "runs/{{ macros.ds_add(ds, -1) }}", "required": False}
    assert render(pipeline).initial_model.path == str(Path.cwd() / "runs/2026-11-02")
    pipeline["initial_model"] = {"coordinates": {"per_user": "models/{{ ds }}", "global": "s3://b/models"}}
    of_each = {"per_user": str(Path.cwd() / "models/2026-11-03"), "global": "s3://b/models"}
    assert render(pipeline).initial_model.coordinates == of_each


def test_form_values_are_not_rendered_twice(pipeline: dict[str, Any]) -> None:
    """The form's text is rendered with the dates only; what comes out of that is not a template again."""
    assert render(pipeline, {"input": "/d/{{ '{{ dag.dag_id }}' }}"}).input == "/d/{{ dag.dag_id }}"


def test_faults_of_a_trigger_come_from_execute(pipeline: dict[str, Any]) -> None:
    """What is raised while templates are rendered stands in a folded group of Airflow's log."""
    task = build_dag(pipeline).get_task("validate")
    task.render_template_fields(context(build_dag(pipeline), {"n": 1}))
    with pytest.raises(ConfigError, match="unknown key in the run's conf: n"):
        task.execute(context(build_dag(pipeline), {"n": 1}))


@pytest.mark.parametrize("operator", [EvaluateOperator, PartitionOperator])
def test_no_run_there(operator: type[StepOperator], tmp_path: Path) -> None:
    task = operator(task_id="partition", run=str(tmp_path))
    with pytest.raises(StepError, match="not a run directory"):
        task.execute(context(DAG("d")))


class Logs(StepOperator):
    """A step whose worker writes to standard error as all of them do."""

    def announce(self, run: Any, step: Any) -> str:
        return "Logging"

    def carry_out(self, run: Any, step: Any, context: Any) -> dict[str, Any]:
        worker = processes.start("a_worker_that_tells", [])
        assert processes.wait_all([worker], lambda number, event: None) == [0]
        return {}


def test_lines_of_workers_are_no_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    worker = "import logging\nfrom gdmix_core.workers import log_lines\nlog_lines.to_standard_error(logging.INFO)\n"
    (tmp_path / "a_worker_that_tells.py").write_text(f"{worker}logging.info('step 5')\nlogging.warning('slow')\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    with caplog.at_level(logging.INFO):
        Logs(task_id="logs", run="a run").timed(SimpleNamespace(root=str(tmp_path)), SimpleNamespace(id="logs"), None)
    levels = {record.getMessage(): record.levelname for record in caplog.records}
    assert (levels["step 5"], levels["slow"]) == ("INFO", "WARNING")


def test_step_is_the_task_id_unless_given() -> None:
    assert EvaluateOperator(task_id="pass_01.a.evaluate").step == "pass_01.a.evaluate"
    assert EvaluateOperator(task_id="metrics", step="pass_01.a.evaluate").step == "pass_01.a.evaluate"


def test_summary() -> None:
    assert summary({"auc": 0.123456789, "name": "x", "done": True, "counts": [1], "n": 3}) == (
        "auc 0.123457, name x, done True, n 3"
    )
