"""A search as a DAG: rounds of mapped trials in place of the passes; the form fixes what is searched, or leaves it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from airflow.sdk import DAG
from airflow.sdk.definitions.mappedoperator import MappedOperator
from airflow.sdk.definitions.param import ParamsDict
from airflow.sdk.exceptions import AirflowSkipException
from airflow.serialization.serialized_objects import DagSerialization
from hypothesis import given
from hypothesis import strategies as st
from run_directory import Rows, make_run

from gdmix_core.config.search_space import searched, trial_count
from gdmix_core.errors import ConfigError, DataError, StepError
from gdmix_core.pipeline.loading import parse_config
from gdmix_core.pipeline.plan import build_plan
from gdmix_core.pipeline.run import Run
from gdmix_core.workers import processes
from gdmix_operators.factory import build_dag
from gdmix_operators.operators.steps import SelectOperator, TrialOperator
from gdmix_operators.params import apply_params, trigger_params

L2 = {"global": [0.5, 5], "per_user": [0.1, 1, 10]}


@pytest.fixture
def search(pipeline: dict[str, Any]) -> dict[str, Any]:
    """A grid of six trials, four at a time."""
    content = copy.deepcopy(pipeline)
    for name, values in L2.items():
        content["coordinates"][name]["l2"] = values
    return {**content, "tune": {"parallel": 4}}


def trials(dag: DAG, task: str) -> list[int]:
    mapped = dag.get_task(task)
    assert isinstance(mapped, MappedOperator)
    value = mapped._get_specified_expand_input().value
    assert list(value) == ["trial"]
    return list(value["trial"])


def test_graph(search: dict[str, Any]) -> None:
    dag = build_dag(search)
    assert {task.task_id: set(task.upstream_task_ids) for task in dag.tasks} == {
        "validate": set(),
        "partition": {"validate"},
        "round_01": {"partition"},
        "round_02": {"round_01"},
        "export": {"round_01", "round_02"},
    }
    assert trials(dag, "round_01") == [1, 2, 3, 4]
    assert trials(dag, "round_02") == [5, 6]
    assert dag.get_task("round_02").trigger_rule == "all_success"
    assert dag.get_task("export").before == ("select",)
    assert dag.get_task("export").trigger_rule == "none_failed_min_one_success"
    restored = DagSerialization.deserialize_dag(json.loads(json.dumps(DagSerialization.serialize_dag(dag))))
    assert restored.task_dict["round_01"].is_mapped


@given(
    parallel=st.integers(1, 40),
    tune=st.sampled_from([{}, {"method": "random", "trials": 37}, {"method": "bayesian", "trials": 25}]),
)
def test_every_trial_is_a_task_of_a_later_round(parallel: int, tune: dict[str, Any]) -> None:
    content = {
        "name": "p", "input": "i", "output": "o", "coordinates": {"global": {"fixed_effect": {}}},
        "tune": {"parallel": parallel, **tune, "parameters": {"coordinates.global.l2": [float(n) for n in range(50)]}},
    }  # fmt: skip
    dag, plan = build_dag(content), build_plan(parse_config(content))
    numbers = [number for step in plan.rounds for number in trials(dag, step.id)]
    assert numbers == list(range(1, tune.get("trials", 50) + 1))
    assert set(plan["select"].reads) <= dag.get_task("export").get_flat_relative_ids(upstream=True)
    for step in plan.rounds:
        assert set(step.reads) <= dag.get_task(step.id).get_flat_relative_ids(upstream=True)


def test_the_forms_defaults_change_nothing(search: dict[str, Any]) -> None:
    form = ParamsDict(trigger_params(parse_config(search)))
    assert form.get_param("passes").schema["maximum"] == 2
    assert "the YAML's grid" in form.get_param("l2_per_user").schema["description_md"]
    assert parse_config(apply_params(search, form.validate(), {})) == parse_config(search)


@pytest.mark.parametrize(
    ("form", "count", "candidates"),
    [
        ({"l2": 2.0}, 1, {"coordinates.global.l2": [2.0], "coordinates.per_user.l2": [2.0]}),
        ({"l2_per_user": 3.0}, 2, {"coordinates.global.l2": [0.5, 5], "coordinates.per_user.l2": [3.0]}),
        ({"passes": 1}, 6, {"coordinates.global.l2": [0.5, 5], "coordinates.per_user.l2": [0.1, 1, 10]}),
    ],
)
def test_a_value_in_the_form_is_the_only_candidate(
    search: dict[str, Any], form: dict[str, Any], count: int, candidates: dict[str, Any]
) -> None:
    made = parse_config(apply_params(search, form, {}))
    assert searched(made) == candidates
    assert trial_count(made) == count
    ids = [step.id for step in build_plan(parse_config(search)).steps]
    assert [step.id for step in build_plan(made).steps if step.id not in ids] == []


def test_so_it_is_for_parameters_of_tune(pipeline: dict[str, Any]) -> None:
    ranges = {"coordinates.per_user.l2": {"low": 0.1, "high": 10}, "passes.max": {"low": 1, "high": 4, "integer": True}}
    content = {**pipeline, "tune": {"method": "bayesian", "trials": 8, "parameters": ranges}}
    form = ParamsDict(trigger_params(parse_config(content)))
    assert parse_config(apply_params(content, form.validate(), {})) == parse_config(content)
    made = parse_config(apply_params(content, {"passes": 3, "l2": 2.0}, {}))
    assert searched(made) == {"coordinates.per_user.l2": [2.0], "passes.max": [3.0]}
    assert made.coordinates["global"].l2 == 2.0
    assert trial_count(made) == 1


def tiny_run(root: Path, **tune: Any) -> Run:
    rng = np.random.default_rng(3)
    user, X = rng.integers(0, 4, 80), rng.normal(size=(80, 2)).astype(np.float32)
    label = (rng.random(80) < 1 / (1 + np.exp(-2 * X[:, 0]))).astype(float)
    content = {
        "coordinates": {
            "global": {"fixed_effect": {}, "bag": "g", "l2": [0.5, 5]},
            "per_user": {"random_effect": {"entity": "user"}, "l2": 2.0},
        },
        "metrics": ["auc", "logloss"],
        "tune": tune,
    }
    rows = Rows(label, ids={"user": user}, bags={"g": X})
    return make_run(root, content, rows, Rows(label, uid=np.arange(100, 180), ids={"user": user}, bags={"g": X}))


def task(run: Run, step: str, number: int) -> TrialOperator:
    """One task of the mapped ones."""
    return TrialOperator(task_id=step, run=run.root, trial=number)


NO_CONTEXT: Any = SimpleNamespace()


def test_a_trial_returns_its_metrics(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tiny_run(tmp_path, parallel=2)
    second = task(run, "round_01", 2)
    assert second.shown_as == "trial 2"
    result = second.execute(NO_CONTEXT)
    assert second.shown_as == "trial 2: global.l2=0.5"
    found = Run.open(run.trial_root(2)).result("select")
    assert result == {
        "trial": 2, "parameters": {"coordinates.global.l2": 0.5}, "start": None, "pass": found["pass"],
        "metric": "auc", "value": found["value"], **found["metrics"]["validation"],
    }  # fmt: skip
    assert f"Making a trial, run {run.root}, trial 2 of 2" in capsys.readouterr().out
    assert not Path(run.trial_root(1)).exists()
    with pytest.raises(StepError, match="select needs round_01"):
        SelectOperator(task_id="select", run=run.root).execute(NO_CONTEXT)
    task(run, "round_01", 1).execute(NO_CONTEXT)
    best = SelectOperator(task_id="select", run=run.root).execute(NO_CONTEXT)
    assert best["trial"] in (1, 2)
    assert "trials" not in best
    assert second.execute(NO_CONTEXT) == result


def test_trials_that_the_run_does_not_have_are_skipped(tmp_path: Path) -> None:
    """Its form gave a searched parameter one value; the pipeline has six trials. Whatever is in neither fails."""
    run = tiny_run(tmp_path, parallel=4)
    Run.create(run.config, origin={"by": "a DAG run", "trials": 6})
    for step, number in (("round_01", 3), ("round_02", 5), ("round_02", 6)):
        with pytest.raises(AirflowSkipException, match=f"trial {number} is beyond this run's 2 trial"):
            task(run, step, number).execute(NO_CONTEXT)
    for step, number in (("round_01", 5), ("round_02", 1), ("round_02", 7), ("round_03", 9), ("round_01", 0)):
        with pytest.raises(ConfigError, match=rf"no step {step}.* in the plan of .*it has round_01"):
            task(run, step, number).execute(NO_CONTEXT)
    Run.create(run.config)
    with pytest.raises(ConfigError, match="no step round_01"):
        task(run, "round_01", 3).execute(NO_CONTEXT)


def test_a_trial_that_fails_fails_its_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tiny_run(tmp_path, parallel=2)
    path = Path(run.shard("per_user", "training", 0))
    path.write_bytes(b"not a shard".ljust(path.stat().st_size))  # another size would be seen before the trial begins
    failing = task(run, "round_01", 1)
    with pytest.raises(DataError, match=r"^trial 1 \(global.l2=5\): "):
        failing.execute(NO_CONTEXT)
    assert failing.shown_as == "trial 1: global.l2=5"
    assert "round_01 failed after" in capsys.readouterr().out


def test_killing_a_trial_ends_its_worker_processes(tmp_path: Path) -> None:
    worker = processes.start("http.server", ["0"])
    task(tiny_run(tmp_path), "round_01", 1).on_kill()
    assert worker.poll() is not None
