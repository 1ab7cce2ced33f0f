"""A task finds its step and its run wherever it stands in a DAG, works for its own run alone, and is skipped for
nothing but what its run was asked not to make."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from airflow.sdk import DAG, TaskGroup
from airflow.sdk.exceptions import AirflowSkipException
from airflow.serialization.serialized_objects import DagSerialization
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from run_directory import Rows, make_run

from gdmix_core.errors import ConfigError, ReplacedRunError, StepError
from gdmix_core.execution import dispatch
from gdmix_core.pipeline.run import Run
from gdmix_operators.factory import RETRY_POLICY, add_pipeline, build_dag
from gdmix_operators.operators.base import StepOperator
from gdmix_operators.operators.partition import PartitionOperator
from gdmix_operators.operators.steps import (
    EvaluateOperator,
    ExportOperator,
    PassGateOperator,
    SelectOperator,
    TrainFixedEffectOperator,
    TrainRandomEffectOperator,
)
from gdmix_operators.operators.validate import ValidateOperator

NO_CONTEXT: Any = SimpleNamespace()
CONFIG: dict[str, Any] = {
    "coordinates": {
        "global": {"fixed_effect": {}, "bag": "g", "l2": 2.0},
        "per_user": {"random_effect": {"entity": "user", "shards": 2, "groups": 2}, "l2": 3.0},
    },
    "passes": {"max": 2, "min_delta": "none"},
}


def make(root: Path, **changes: Any) -> Run:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2))
    rows = Rows((X[:, 0] > 0).astype(float), ids={"user": rng.integers(0, 5, 60)}, bags={"g": X})
    return make_run(root, {**CONFIG, **changes}, rows)


@pytest.fixture(scope="module")
def shared_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two passes of a pipeline that has three: the form asked for fewer."""
    run = make(tmp_path_factory.mktemp("run"))
    return Run.create(run.config, origin={"by": "the DAG run manual__1 of ratings", "passes": 3, "trials": 0})


def in_groups(groups: list[tuple[str, bool]], make: Any) -> Any:
    """The task that `make` makes, in groups of these names, outermost first, with or without a prefix for its id."""
    with DAG("d"):
        group = None
        for name, prefix in groups:
            group = (
                TaskGroup(name, prefix_group_id=prefix, parent_group=group)
                if group
                else TaskGroup(name, prefix_group_id=prefix)
            )
        return make(task_group=group) if group else make()


def unmapped(task: Any) -> Iterator[StepOperator]:
    """As the task runner does it: over a list, or over what the task before it returned, here the same."""
    assert task._get_specified_expand_input().value.keys() == {"group"}
    for value in (0, 1):
        yield task.unmap({"group": value})


class TestStep:
    @pytest.mark.parametrize("dotted", [False, True])
    @pytest.mark.parametrize(
        "outer", [[], [("model", True)], [("model", False)], [("a", True), ("b", True)], [("a", True), ("b", False)]]
    )
    def test_in_any_group(self, shared_run: Run, outer: list[tuple[str, bool]], dotted: bool) -> None:
        """Groups around a pipeline are no part of a step's id; the pipeline's own are, or dots in the task's id."""
        for step in shared_run.plan.steps:
            *own, name = [step.id] if dotted else step.id.split(".")
            groups = [*outer, *((part, True) for part in own)]
            task = in_groups(groups, lambda name=name, **at: StepOperator(task_id=name, run="r", **at))
            assert task.planned(shared_run) == step

    @pytest.mark.parametrize("outer", [[], [("model", True)], [("a", True), ("b", False), ("c", True)]])
    def test_of_mapped_tasks(self, shared_run: Run, outer: list[tuple[str, bool]]) -> None:
        groups = [*outer, ("pass_01", True), ("per_user", True)]
        mapped = in_groups(
            groups, lambda **at: TrainRandomEffectOperator.partial(task_id="train", **at).expand(group=[0, 1])
        )
        for number, task in enumerate(unmapped(mapped)):
            assert task.planned(shared_run).id == "pass_01.per_user.train"
            assert (task.group, task.run) == (number, "{{ task.validated(ti)['run'] }}")

    def test_as_it_is_given(self, shared_run: Run) -> None:
        task = in_groups([("a", True)], lambda **at: StepOperator(task_id="x", step="select", run="r", **at))
        assert task.planned(shared_run).id == "select"
        for step in ("a.select", "x"):  # what is given is not cut
            task = in_groups([("a", True)], lambda step=step, **at: StepOperator(task_id="x", step=step, run="r", **at))
            with pytest.raises(ConfigError, match=f"there is no step {step} in the plan"):
                task.planned(shared_run)

    @pytest.mark.parametrize(
        "step", ["pass_03.gate", "pass_03.global.train", "pass_03.per_user.train", "pass_03.per_user.evaluate"]
    )
    @pytest.mark.parametrize("outer", [[], [("model", True)]])
    def test_beyond_the_runs_passes_is_skipped(self, shared_run: Run, step: str, outer: list[tuple[str, bool]]) -> None:
        task = in_groups(outer, lambda **at: StepOperator(task_id=step, run=shared_run.root, **at))
        with pytest.raises(AirflowSkipException, match=f"{step} is beyond this run's 2 pass"):
            task.execute(NO_CONTEXT)

    @pytest.mark.parametrize(
        ("step", "near"),
        [
            ("pass_04.global.train", "pass_01.global.train"),  # beyond the pipeline's own three
            ("pass_03.globl.train", "pass_0[12].global.train"),
            ("pass_02.nobody.train", "pass_02"),
            ("pass_3.gate", "pass_02.gate"),
            ("pass_01.gate", "pass_02.gate"),
            ("summarize", "validate"),
            ("initialize", "validate"),
            ("round_01", "validate"),
            ("validat", "validate"),
            ("model.select", "select"),
            ("zzz", "validate"),
        ],
    )
    def test_else_it_fails(self, shared_run: Run, step: str, near: str, capsys: pytest.CaptureFixture[str]) -> None:
        task = StepOperator(task_id="mine", step=step, run=shared_run.root)
        with pytest.raises(ConfigError, match=rf"task mine: there is no step {step} in the plan of .*{near}.*step="):
            task.execute(NO_CONTEXT)
        assert "there is no step" in capsys.readouterr().out

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(step=st.from_regex(r"(pass_[0-9]{1,3}\.)?([a-z_]{1,9}\.)?[a-z_0-9]{1,9}", fullmatch=True))
    def test_there_is_no_third_way(self, shared_run: Run, step: str) -> None:
        """Of three passes of the pipeline the run makes two: an id is a step, a step of pass 3, or an error."""
        kinds = ("gate", "global.train", "global.evaluate", "per_user.train", "per_user.evaluate")
        if step in {found.id for found in shared_run.plan.steps}:
            assert StepOperator(task_id="t", step=step, run="r").planned(shared_run).id == step
            return
        expected = AirflowSkipException if step in {f"pass_03.{kind}" for kind in kinds} else ConfigError
        with pytest.raises(expected):
            StepOperator(task_id="t", step=step, run="r").planned(shared_run)

    def test_a_run_that_nobody_shortened(self, tmp_path: Path) -> None:
        """Its configuration has two passes, and nothing says that its pipeline has more."""
        run = make(tmp_path)
        with pytest.raises(ConfigError, match=r"no step pass_03\.gate"):
            PassGateOperator(task_id="pass_03.gate", run=run.root).execute(NO_CONTEXT)

    @pytest.mark.parametrize(
        ("operator", "step", "meant"),
        [
            (SelectOperator, "export", "ExportOperator"),
            (TrainFixedEffectOperator, "pass_01.per_user.train", "TrainRandomEffectOperator"),
            (EvaluateOperator, "pass_01.global.train", "TrainFixedEffectOperator"),
            (TrainRandomEffectOperator, "pass_01.global.train", "TrainFixedEffectOperator"),
            (PartitionOperator, "export", "ExportOperator"),
        ],
    )
    def test_a_step_of_another_operator(self, shared_run: Run, operator: Any, step: str, meant: str) -> None:
        task = operator(task_id="mine", step=step, run=shared_run.root)
        with pytest.raises(ConfigError, match=f"{step} is a step for {meant}, and this is a {operator.__name__}"):
            task.execute(NO_CONTEXT)

    @pytest.mark.parametrize("group", [2, -1, "0", 0.5, True])
    def test_groups_that_do_not_exist(self, shared_run: Run, group: Any) -> None:
        task = TrainRandomEffectOperator(task_id="pass_01.per_user.train", run=shared_run.root, group=group)
        with pytest.raises(ConfigError, match=rf"group {group!r} of per_user does not exist: .* 0 to 1"):
            task.execute(NO_CONTEXT)


class Pulled:
    """The XComs of a DAG run, as a task instance gets at them."""

    def __init__(self, values: Mapping[str, Any], map_index: int = -1) -> None:
        self.values, self.map_index = values, map_index

    def xcom_pull(self, task_ids: str, map_indexes: int | None = None) -> Any:
        found = self.values.get(task_ids)
        return found if map_indexes is None or found is None else found[map_indexes]


def rendered(task: StepOperator, ti: Pulled) -> StepOperator:
    task.render_template_fields({"task": task, "ti": ti})  # type: ignore[typeddict-item]
    return task


class TestRun:
    def test_the_nearest_validate(self, pipeline: dict[str, Any]) -> None:
        """Two models in a DAG, each in its group; a task outside of them; and a group that has no validate."""
        with DAG("d") as dag:
            tasks: dict[str, Any] = {}
            ValidateOperator(task_id="validate", config=pipeline)
            for name in ("a", "b"):
                with TaskGroup(name):
                    ValidateOperator(task_id="validate", config=pipeline)
                    with TaskGroup("pass_01"), TaskGroup("global", prefix_group_id=name == "a"):
                        tasks[name] = EvaluateOperator(task_id="evaluate")
            tasks["validate"] = PartitionOperator(task_id="partition")
            with TaskGroup("c"):
                tasks["c"] = PartitionOperator(task_id="partition")
        values = {f"{at}validate": {"run": f"run {at}", "key": f"key {at}"} for at in ("", "a.", "b.")}
        found = {name: rendered(task, Pulled(values)) for name, task in tasks.items()}
        assert {name: (task.run, task.config_key) for name, task in found.items()} == {
            "a": ("run a.", "key a."), "b": ("run b.", "key b."), "validate": ("run ", "key "), "c": ("run ", "key "),
        }  # fmt: skip
        del values["b.validate"]  # cleared: not the others'
        empty = EvaluateOperator(task_id="more", task_group=dag.task_group_dict["b"], dag=dag)
        empty = rendered(empty, Pulled(values))
        with pytest.raises(ConfigError, match=r"b.more: no run to work on: the task b.validate has returned none"):
            empty.execute(NO_CONTEXT)

    def test_of_a_mapped_group(self) -> None:
        """Each instance of the group has its own."""
        task = PartitionOperator(task_id="partition")
        values = {"validate": [{"run": f"run {n}", "key": f"key {n}"} for n in range(3)]}
        assert rendered(task, Pulled(values, map_index=2)).run == "run 2"

    def test_where_there_is_none(self, tmp_path: Path) -> None:
        with DAG("d"):
            task = rendered(PartitionOperator(task_id="partition"), Pulled({}))
        with pytest.raises(ConfigError, match=r"the task validate is not in this DAG; put Validate.*give the run's"):
            task.execute(NO_CONTEXT)
        with pytest.raises(ConfigError, match="no run to work on"):
            PartitionOperator(task_id="partition", run={}).execute(NO_CONTEXT)
        with pytest.raises(StepError, match="not a run directory"):
            PartitionOperator(task_id="partition", run=str(tmp_path)).execute(NO_CONTEXT)

    def test_what_validate_returned(self, pipeline: dict[str, Any], shared_run: Run) -> None:
        """`run=validate.output` draws the edge, and brings the key."""
        with DAG("d"):
            validate = ValidateOperator(task_id="check", step="validate", config=pipeline)
            task = PartitionOperator(task_id="partition", run=validate.output)
        assert task.upstream_task_ids == {"check"}
        task.run = {"run": shared_run.root, "key": shared_run.config_key}
        assert task.opened().config == shared_run.config
        task.run = {"run": shared_run.root, "key": "0" * 16}
        with pytest.raises(ReplacedRunError):
            task.opened()


class TestKey:
    def test_another_run_has_replaced_the_configuration(self, tmp_path: Path) -> None:
        """Two DAG runs of one day: the tasks of the first do not go on with the second's penalty."""
        first = make(tmp_path)
        task = TrainFixedEffectOperator(
            task_id="pass_01.global.train", run=first.root, config_key=first.config_key, retry_policy=RETRY_POLICY
        )
        coordinates = {**CONFIG["coordinates"], "global": {"fixed_effect": {}, "bag": "g", "l2": 50.0}}
        second = make(tmp_path, coordinates=coordinates)
        Run.create(second.config, origin={"by": "the DAG run backfill__2026-11-02 of ratings"})
        assert second.config_key != first.config_key
        with pytest.raises(
            ReplacedRunError, match=r"replaced .* the DAG run backfill__2026-11-02 of ratings;"
        ) as error:
            task.execute(NO_CONTEXT)
        assert len(str(error.value).splitlines()) == 1
        assert not Path(first.marker(first.plan["pass_01.global.train"])).exists()
        decision = RETRY_POLICY.evaluate(error.value, 1, 3, None)
        assert decision.action.name == "FAIL"
        # validate of the first again, with what it had: it is the first's directory again
        again = Run.create(first.config)
        assert again.config_key == first.config_key == Run.open(first.root).config_key
        task.execute(NO_CONTEXT)

    def test_of_what_the_file_says(self, tmp_path: Path) -> None:
        """Another version of the program writes more keys; the run is the same one. Who started it is no part of it."""
        run = make(tmp_path)
        assert Run.create(run.config, origin={"by": "somebody"}).config_key == run.config_key
        path = Path(run.path("config.yaml"))
        path.write_text(path.read_text().replace("l2: 3.0", "l2: 3.0000001"))
        assert Run.open(run.root).config_key != run.config_key
        assert Run.open(run.root, key=Run.open(run.root).config_key).root == run.root

    @pytest.mark.parametrize("skips", [False, True])
    @pytest.mark.parametrize("explicit", [False, True])
    def test_while_a_task_runs(self, tmp_path: Path, skips: bool, explicit: bool) -> None:
        run = make(tmp_path)
        other = run.config.model_copy(update={"description": "another"})

        class Slow(StepOperator):
            def carry_out(self, run: Run, step: Any, context: Any) -> dict[str, Any]:
                Run.create(other)
                if skips:
                    raise AirflowSkipException
                return {}

        task = Slow(task_id="partition", run=run.root, config_key=None if explicit else run.config_key)
        with pytest.raises(ReplacedRunError, match="their results would mix"):
            task.execute(NO_CONTEXT)

    def test_a_result_of_mixed_settings_is_not_vouched_for(self, tmp_path: Path) -> None:
        """Worker processes read config.yaml by themselves."""
        run = make(tmp_path)
        train = run.plan["pass_01.global.train"]
        dispatch.execute(run, train)
        marker = Path(run.marker(train))
        before = marker.read_bytes()
        Run.create(run.config.model_copy(update={"description": "another"}))
        with pytest.raises(ReplacedRunError):
            run.commit(train, {})
        assert marker.read_bytes() == before


def test_a_pipeline_in_a_dag_of_ones_own(pipeline: dict[str, Any]) -> None:
    """Two of them, one behind the other; the graph in the group is the one that build_dag makes."""
    with DAG("own", schedule=None) as dag:
        first = add_pipeline(pipeline)
        second = add_pipeline({**pipeline, "name": "second"}, group_id="again")
        first >> second
    alone = build_dag(pipeline)
    ids = [task.task_id for task in alone.tasks]
    assert {task.task_id for task in dag.tasks} == {f"{at}.{name}" for at in ("ratings", "again") for name in ids}
    for name in ids:
        found, expected = dag.get_task(f"ratings.{name}"), alone.get_task(name)
        assert found.upstream_task_ids == {f"ratings.{task}" for task in expected.upstream_task_ids}
        assert dag.get_task(f"again.{name}").upstream_task_ids == (
            {f"again.{task}" for task in expected.upstream_task_ids} or {"ratings.export"}
        )
        one = next(unmapped(found)) if found.is_mapped else found
        assert one.retry_policy.rules == RETRY_POLICY.rules
        step = "partition" if name == "per_user_groups" else name
        assert (one.step, one.retries, one.id_of_validate()) == (step, 4, "ratings.validate")
    assert isinstance(dag.get_task("again.export"), ExportOperator)
    json.dumps(DagSerialization.serialize_dag(dag))
