"""What Airflow keeps secret does not reach a run's files, spark-submit's command line, or a log."""

from __future__ import annotations

import datetime
import json
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, BaseHook
from airflow.sdk.execution_time import macros
from airflow.sdk.log import redact

from gdmix_core.config.pipeline import Config
from gdmix_core.errors import ConfigError
from gdmix_core.pipeline.run import Run
from gdmix_operators.factory import add_pipeline, build_dag
from gdmix_operators.operators.validate import ValidateOperator
from gdmix_operators.spark_submit import spark_submit_hook

DAY = datetime.datetime(2026, 11, 3, tzinfo=datetime.UTC)


def configured(pipeline: dict[str, Any], *, run_type: str = "manual", **context: Any) -> Config:
    """The configuration of a run whose templates are rendered with a context like Airflow's."""
    run = SimpleNamespace(
        logical_date=DAY, data_interval_start=DAY, data_interval_end=DAY, run_after=DAY, run_type=run_type, conf={}
    )
    with DAG("own"):
        task = ValidateOperator(task_id="validate", config=pipeline)
    task.render_template_fields({"dag_run": run, "params": {}, "macros": macros, **context})  # type: ignore[typeddict-item]
    return task.configuration()


@pytest.mark.parametrize(
    "change",
    [
        {"input": "s3://{{ conn.lake.host }}/{{ ds }}"},
        {"description": "{{ conn.lake.password }}"},
        {"output": "{{ var.value.secret_place }}/{{ ds }}"},
        {"initial_model": {"path": "{{ conn.lake.schema }}", "required": False}},
    ],
)
def test_templates_of_secrets(pipeline: dict[str, Any], change: dict[str, Any]) -> None:
    """The DAG is not built; a DAG of one's own fails when it runs."""
    with pytest.raises(ConfigError, match=r"reads (an Airflow connection|the Variable secret_place)"):
        build_dag({**pipeline, **change})
    with DAG("d"), pytest.raises(ConfigError, match=next(iter(change))):
        add_pipeline({**pipeline, **change})
    with pytest.raises(ConfigError, match=r"configuration of own: \w+.*reads "):
        configured({**pipeline, **change})


def test_secrets_by_other_ways(pipeline: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A macro of the user's that reads a connection: Airflow masks what it gave."""
    connection = {"conn_type": "s3", "host": "lake.example", "login": "me", "password": "h1dden-w0rd"}
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", json.dumps(connection))

    def read(what: str) -> str:
        return str(getattr(BaseHook.get_connection("lake"), what))

    content = {**pipeline, "input": "s3://{{ read('password') }}/{{ ds }}"}
    with pytest.raises(
        ConfigError, match="own: input: the template's result holds a value that Airflow keeps"
    ) as error:
        configured(content, read=read)
    assert "h1dden" not in str(error.value)
    assert configured({**pipeline, "input": "s3://{{ read('host') }}/{{ ds }}"}, read=read).input == (
        "s3://lake.example/2026-11-03"
    )
    content = {**pipeline, "spark": {"conf": {"spark.app.of.mine": "{{ read('password') }}"}}}
    with pytest.raises(ConfigError, match=r"own: spark.conf.spark.app.of.mine: the template's result"):
        configured(content, read=read)
    # What the YAML says itself is no secret, even if it is somebody's password.
    assert configured({**pipeline, "input": "s3://h1dden-w0rd/x"}).input == "s3://h1dden-w0rd/x"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{{ dss }}", r"own: coordinates.global.data: template '\{\{ dss \}\}': UndefinedError: 'dss' is undefined"),
        ("{{ 1 // 0 }}", "ZeroDivisionError"),
        ("{{ ds_nodash + 1 }}", "TypeError"),
    ],
)
def test_a_template_that_fails_is_named(pipeline: dict[str, Any], text: str, fault: str) -> None:
    pipeline["coordinates"]["global"]["data"] = text
    with pytest.raises(ConfigError, match=fault):
        configured(pipeline)


def spark_connection(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    content = {"conn_type": "spark", "host": "local[2]", **changes}
    monkeypatch.setenv("AIRFLOW_CONN_SPARK_LOCAL", json.dumps(content))


def test_the_spark_connection(
    pipeline: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hidden = {"token": "hidden-one", "nested": {"list": ["hidden-two"]}, "conf": {"key": "hidden-three"}}
    extra = {"deploy-mode": "client", "queue": "nightly", **hidden}
    spark_connection(monkeypatch, login="me", password="hidden-four", extra=json.dumps(extra))
    run = Run("s3://bucket/run", Config.model_validate(pipeline))
    command = spark_submit_hook(run, run.plan["validate"])._build_spark_submit_command("validate.py")
    assert command[command.index("--queue") + 1] == "nightly"
    assert "hidden" not in " ".join(command)
    assert "hidden" not in capsys.readouterr().out
    for secret in ("hidden-one", "hidden-two", "hidden-three", "hidden-four"):
        # as every line of the log is handled, Spark's among them
        assert redact(f"WARN: {secret} of nightly") == "WARN: *** of nightly"


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"host": "k8s://https://me:word@cluster:6443"}, "its host names a user"),
        ({"host": "spark://me@master"}, "its host names a user"),
        ({"extra": json.dumps({"queue": "s3://me:word@bucket"})}, "its extra queue holds a secret"),
    ],
)
def test_secrets_that_would_be_on_the_command_line(
    pipeline: dict[str, Any], monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], where: str
) -> None:
    spark_connection(monkeypatch, **changes)
    run = Run("s3://bucket/run", Config.model_validate(pipeline))
    with pytest.raises(ConfigError, match=f"connection spark_local: {where}") as error:
        spark_submit_hook(run, run.plan["validate"])
    assert "word@" not in str(error.value)
