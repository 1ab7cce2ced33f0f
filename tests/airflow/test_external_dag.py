"""The DAG of a pipeline whose fixed effects are trained elsewhere, and by the user's own function."""

from __future__ import annotations

import datetime
import os
from types import SimpleNamespace
from typing import Any

from airflow.sdk.execution_time import macros

from gdmix_operators.factory import build_dag
from gdmix_operators.operators.steps import TakeExternalScoresOperator, TrainPythonEffectOperator


def test_external_scores_come_first_and_once_and_their_files_are_a_template(pipeline: dict[str, Any]) -> None:
    external = {"model": "external", "scores": ["s3://bucket/scores/{{ ds }}", "scores/{{ ds }}.csv"]}
    own = {"model": "python", "function": "package.module:train", "columns": ["title"]}
    coordinates = {
        "own": {"fixed_effect": own},
        "per_user": pipeline["coordinates"]["per_user"],
        "elsewhere": {"fixed_effect": external},
    }
    dag = build_dag({**pipeline, "coordinates": coordinates})
    assert [name for name in dag.params if name.startswith("l2")] == ["l2", "l2_per_user"]
    assert {task.task_id: set(task.upstream_task_ids) for task in dag.tasks} == {
        "validate": set(),
        "partition": {"validate"},
        "per_user_groups": {"partition"},
        "pass_01.elsewhere.train": {"partition"},
        "pass_01.own.train": {"pass_01.elsewhere.train"},
        "pass_01.per_user.train": {"pass_01.own.train", "per_user_groups"},
        "pass_01.per_user.evaluate": {"pass_01.per_user.train"},
        "pass_02.own.train": {"pass_01.per_user.evaluate"},
        "pass_02.per_user.train": {"pass_02.own.train", "per_user_groups"},
        "pass_02.per_user.evaluate": {"pass_02.per_user.train"},
        "export": {"pass_01.per_user.evaluate", "pass_02.per_user.evaluate"},
    }
    assert isinstance(dag.get_task("pass_01.elsewhere.train"), TakeExternalScoresOperator)
    assert isinstance(dag.get_task("pass_02.own.train"), TrainPythonEffectOperator)
    validate: Any = dag.get_task("validate")
    day = datetime.datetime(2026, 11, 3, tzinfo=datetime.UTC)
    run = SimpleNamespace(
        logical_date=None, data_interval_start=None, data_interval_end=None, run_after=day, run_type="manual", conf=None
    )
    validate.render_template_fields({"dag": dag, "dag_run": run, "params": {**dag.params, "l2": 3.0}, "macros": macros})
    config = validate.configuration()
    assert config.coordinates["elsewhere"].fixed_effect.scores == [
        "s3://bucket/scores/2026-11-03",
        os.path.abspath("scores/2026-11-03.csv"),
    ]
    # The form's penalty of every coordinate is of those that have one.
    assert config.coordinates["per_user"].l2 == 3.0
