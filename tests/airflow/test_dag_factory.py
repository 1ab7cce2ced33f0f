"""What of the YAML reaches the DAG, and which YAMLs are refused, with which words."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import CronDataIntervalTimetable, RetryAction

from gdmix_core.errors import ConfigError, DataError, StepError
from gdmix_operators.factory import RETRY_POLICY, build_dag


def test_airflow_block(pipeline: dict[str, Any], pipeline_file: Path) -> None:
    pipeline["airflow"] |= {"catchup": True, "max_active_runs": 3, "tags": ["b", "a"]}
    pipeline["description"] = "Ratings."
    pipeline_file.write_text(yaml.safe_dump(pipeline))
    for dag in (build_dag(pipeline_file), build_dag(str(pipeline_file)), build_dag(pipeline)):
        assert dag.dag_id == "ratings"
        assert dag.description == "Ratings."
        assert dag.start_date == datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
        assert dag.catchup
        assert dag.max_active_runs == 3
        assert dag.tags == {"a", "b"}
        for task in dag.tasks:
            assert task.retries == 4
            assert task.retry_delay == datetime.timedelta(seconds=7)
            assert task.retry_policy is RETRY_POLICY


def test_schedule_has_data_intervals(pipeline: dict[str, Any]) -> None:
    assert build_dag(pipeline).schedule == CronDataIntervalTimetable("0 0 * * *", timezone="UTC")
    pipeline["airflow"]["schedule"] = "30 4 * * 1"
    assert build_dag(pipeline).schedule == CronDataIntervalTimetable("30 4 * * 1", timezone="UTC")
    del pipeline["airflow"]
    assert build_dag(pipeline).schedule is None


def test_arguments_of_the_author_win(pipeline: dict[str, Any]) -> None:
    def page(context: object) -> None: ...

    dag = build_dag(pipeline, dag_id="other", on_failure_callback=page, default_args={"owner": "ml", "retries": 1})
    assert dag.dag_id == "other"
    assert dag.has_on_failure_callback
    task = dag.get_task("export")
    assert (task.owner, task.retries, task.retry_policy) == ("ml", 1, RETRY_POLICY)


def test_cron_expression_is_checked(pipeline: dict[str, Any]) -> None:
    pipeline["airflow"]["schedule"] = "every day"
    with pytest.raises(ConfigError, match=r"airflow\.schedule: 'every day' is neither"):
        build_dag(pipeline)


@pytest.mark.parametrize(
    ("schedule", "output"),
    [("@daily", "runs/r"), ("@continuous", "runs/r"), ("@hourly", "runs/{{ ds }}"), ("0 6,18 * * *", "runs/{{ ds }}"),
     ("@daily", "runs/{{ 1 }}"), ("@daily", "runs/{# {{ ds }} #}"), ("@quarterly", "runs/{{ ds[:4] }}")],
)  # fmt: skip
def test_scheduled_output_needs_a_template(pipeline: dict[str, Any], schedule: str, output: str) -> None:
    pipeline["airflow"]["schedule"] = schedule
    pipeline["output"] = output
    with pytest.raises(ConfigError, match=r"is the same for runs of the schedule .* that follow each other"):
        build_dag(pipeline)
    pipeline["airflow"]["schedule"] = None
    build_dag(pipeline)


@pytest.mark.parametrize(
    ("schedule", "output"),
    [("@hourly", "runs/{{ ts }}"), ("@daily", "runs/{{ ds_nodash }}"), ("@monthly", "runs/{{ ds[:7] }}"),
     ("@hourly", "runs/{{ macros.ds_add(ds, 1) }}"), ("@continuous", "runs/{{ ts }}"), ("@hourly", "{{ var.value }}")],
)  # fmt: skip
def test_outputs_that_differ_or_may(pipeline: dict[str, Any], schedule: str, output: str) -> None:
    pipeline["airflow"]["schedule"] = schedule
    pipeline["output"] = output
    build_dag(pipeline)


def test_faults_of_the_yaml_are_import_errors(tmp_path: Path, pipeline_file: Path) -> None:
    text = pipeline_file.read_text().replace("passes: {max: 2", "passes: {maximum: 2")
    pipeline_file.write_text(text)
    line = next(n for n, line in enumerate(text.splitlines(), 1) if "maximum" in line)
    call = f"dag = build_dag({str(pipeline_file)!r})"
    source = f"# airflow\nfrom gdmix_operators.factory import build_dag\n{call}\n"
    (tmp_path / "ratings.py").write_text(source)
    (error,) = DagBag(tmp_path).import_errors.values()
    assert f"{pipeline_file}:{line}: passes.maximum: unknown key" in error


def test_missing_yaml(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        build_dag(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("error", "action"),
    [
        (ConfigError("x"), RetryAction.FAIL),
        (DataError("x"), RetryAction.FAIL),
        (StepError("x"), RetryAction.DEFAULT),
        (ConnectionError("x"), RetryAction.DEFAULT),
    ],
)
def test_only_what_can_pass_is_tried_again(error: Exception, action: RetryAction) -> None:
    assert RETRY_POLICY.evaluate(error, try_number=1, max_tries=3).action == action
