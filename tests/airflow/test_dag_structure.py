"""The shape of the DAGs: exact ids and edges, nothing heavy at parse time, the same for every parse."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.definitions.mappedoperator import MappedOperator
from airflow.serialization.serialized_objects import DagSerialization
from hypothesis import given, settings
from hypothesis import strategies as st

from gdmix_core.config.pipeline import Config
from gdmix_core.pipeline.plan import build_plan
from gdmix_operators.factory import build_dag
from gdmix_operators.operators.steps import GroupShardsOperator

ROOT = Path(__file__).resolve().parents[2]

# The pipeline of conftest.py: every task and what it waits for.
GRAPH = {
    "validate": set(),
    "partition": {"validate"},
    "per_user_groups": {"partition"},
    "pass_01.global.train": {"partition"},
    "pass_01.per_user.train": {"pass_01.global.train", "per_user_groups"},
    "pass_01.per_user.evaluate": {"pass_01.per_user.train"},
    "pass_02.global.train": {"pass_01.per_user.evaluate"},
    "pass_02.per_user.train": {"pass_02.global.train", "per_user_groups"},
    "pass_02.per_user.evaluate": {"pass_02.per_user.train"},
    "export": {"pass_01.per_user.evaluate", "pass_02.per_user.evaluate"},
}


def edges(dag: Any) -> dict[str, set[str]]:
    return {task.task_id: set(task.upstream_task_ids) for task in dag.tasks}


def steps_of(task: Any) -> list[str]:
    """The steps that a task carries out, in order; none for one that makes groups of shards."""
    if isinstance(task, GroupShardsOperator):
        return []
    if isinstance(task, MappedOperator):
        assert not {"before", "after"} & set(task.partial_kwargs), "each instance would carry it out"
        return [task.partial_kwargs["step"]]
    return [*task.before, task.step, *task.after]


def test_graph_reads_as_the_maths_does(pipeline: dict[str, Any]) -> None:
    dag = build_dag(pipeline)
    assert edges(dag) == GRAPH
    assert set(dag.task_group_dict) >= {"pass_01", "pass_01.global", "pass_01.per_user", "pass_02"}
    assert dag.get_task("export").trigger_rule == "none_failed_min_one_success"
    rules = {task.trigger_rule for task in dag.tasks if task.task_id != "export"}
    assert rules == {"all_success"}


def test_small_steps_are_in_the_task_beside_them(pipeline: dict[str, Any]) -> None:
    found = {task.task_id: steps_of(task) for task in build_dag(pipeline).tasks}
    assert {name: steps for name, steps in found.items() if steps != [name]} == {
        "per_user_groups": [],
        "pass_01.global.train": ["pass_01.global.train", "pass_01.global.evaluate"],
        "pass_02.global.train": ["pass_02.gate", "pass_02.global.train", "pass_02.global.evaluate"],
        "export": ["select", "export"],
    }


def test_random_effects_are_mapped_over_groups(pipeline: dict[str, Any]) -> None:
    """Over as many as their rows are worth; where one task is all that is asked for, it is not mapped."""
    dag = build_dag(pipeline)
    mapped = {task.task_id: task for task in dag.tasks if isinstance(task, MappedOperator)}
    assert set(mapped) == {"pass_01.per_user.train", "pass_02.per_user.train"}
    for task in mapped.values():
        assert task._get_specified_expand_input().value["group"].operator is dag.get_task("per_user_groups")
    del pipeline["coordinates"]["per_user"]["random_effect"]["groups"]
    dag = build_dag(pipeline)
    assert not [task for task in dag.tasks if isinstance(task, MappedOperator | GroupShardsOperator)]
    assert steps_of(dag.get_task("pass_01.per_user.train"))[-1] == "pass_01.per_user.evaluate"


def test_a_gate_before_groups_is_a_task(pipeline: dict[str, Any]) -> None:
    pipeline["coordinates"] = dict(reversed(pipeline["coordinates"].items()))
    assert edges(build_dag(pipeline))["pass_02.gate"] == {"pass_01.global.train"}
    assert edges(build_dag(pipeline))["pass_02.per_user.train"] == {"pass_02.gate", "per_user_groups"}


names = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,8}", fullmatch=True)
effects = st.sampled_from(
    [
        {"fixed_effect": {}},
        {"random_effect": {"entity": "user_id"}},
        {"random_effect": {"entity": "user_id", "groups": 3}},
    ]
)


@settings(max_examples=25, deadline=None)
@given(
    coordinates=st.dictionaries(names, effects, min_size=1, max_size=4),
    passes=st.integers(1, 4),
    locked=st.none() | st.lists(st.booleans(), min_size=3, max_size=3),
)
def test_any_pipeline_becomes_its_plan(coordinates: dict[str, Any], passes: int, locked: list[bool] | None) -> None:
    """locked: whether each of the first three coordinates is; the last one never is. None: no initial model."""
    if locked is not None:
        flags = [*locked[: len(coordinates) - 1], False]
        pairs = zip(coordinates.items(), flags + [False] * 4, strict=False)
        coordinates = {name: {**c, "locked": flag} for (name, c), flag in pairs}
    content = {
        "name": "p",
        "input": "i",
        "output": "o",
        "coordinates": coordinates,
        "passes": {"max": passes},
        **({} if locked is None else {"initial_model": "earlier"}),
    }
    plan = build_plan(Config.model_validate(content))
    dag = build_dag(content)
    found = {task.task_id: steps_of(task) for task in dag.tasks}
    assert sorted(name for steps in found.values() for name in steps) == sorted(step.id for step in plan.steps)
    for task_id, steps in found.items():
        before = [name for other in dag.get_task(task_id).get_flat_relative_ids(upstream=True) for name in found[other]]
        for position, name in enumerate(steps):
            step, done = plan[name], {*before, *steps[:position]}
            assert set(step.reads) <= done, f"{step.id} may start before what it reads is there"
            if step.pass_number is not None:
                gates = {f"pass_{number:02d}.gate" for number in range(2, step.pass_number + 1)} - {step.id}
                assert gates == {other for other in done if other.endswith(".gate")}


@pytest.fixture(scope="module")
def dagbag() -> DagBag:
    return DagBag(ROOT / "dags")


def test_dags_folder_imports_without_errors(dagbag: DagBag) -> None:
    assert dagbag.import_errors == {}
    assert set(dagbag.dags) == {"movielens"}


def test_movielens(dagbag: DagBag) -> None:
    dag = dagbag.dags["movielens"]
    assert len(dag.tasks) == 2 + 3 * 3 + 1
    assert edges(dag)["export"] == {f"pass_{number:02d}.per_movie.train" for number in (1, 2, 3)}
    assert dag.fileloc == str(ROOT / "dags" / "movielens.py")


def test_survives_serialization(pipeline: dict[str, Any]) -> None:
    dag = build_dag(pipeline)
    serialized = DagSerialization.serialize_dag(dag)
    json.dumps(serialized)
    restored = DagSerialization.deserialize_dag(serialized)
    assert edges(restored) == GRAPH
    assert restored.task_dict["validate"].retries == 4
    assert restored.params["l2_per_user"] is None


def in_fresh_process(code: str, **environment: str) -> str:
    path = os.pathsep.join([str(ROOT), str(ROOT / "plugins")])
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": path} | environment,
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout


@pytest.mark.slow
def test_every_parse_gives_the_same_dag() -> None:
    """Anything that changes, such as the order of a set, would be a new version of the DAG at every parse."""
    code = """
import runpy
from airflow.models.serialized_dag import SerializedDagModel
from airflow.serialization.serialized_objects import DagSerialization
dag = runpy.run_path("dags/movielens.py")["dag"]
print(SerializedDagModel.hash(DagSerialization.to_dict(dag)))
"""
    parses = {in_fresh_process(code, PYTHONHASHSEED=seed).splitlines()[-1] for seed in ("1", "2", "3")}
    assert len(parses) == 1


def test_parsing_imports_nothing_heavy() -> None:
    code = """
import sys
from airflow.sdk import DAG, BaseOperator, Param, TaskGroup
before = set(sys.modules)
import runpy
runpy.run_path("dags/movielens.py")
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
"""
    loaded = set(in_fresh_process(code).splitlines()[-1].split())
    assert "gdmix_operators" in loaded
    assert loaded.isdisjoint(
        {
            "tensorflow",
            "pyspark",
            "numba",
            "scipy",
            "numpy",
            "pyarrow",
            "pandas",
            "fsspec",
            "kubernetes",
            "requests",
        }
    )
