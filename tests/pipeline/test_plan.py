"""The plan: the order of its steps, and keys that change exactly when a setting changes what a step makes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdmix_core.config.pipeline import Config
from gdmix_core.pipeline.fingerprints import Fingerprints
from gdmix_core.pipeline.plan import Plan, build_plan, latest_scores, order_of_pass, pass_of_model

CONTENT: dict[str, Any] = {
    "name": "ratings",
    "input": "data",
    "output": "runs",
    "coordinates": {
        "global": {"fixed_effect": {}, "bag": "global"},
        "per_user": {"random_effect": {"entity": "user_id"}, "bag": "per_user"},
        "per_movie": {"random_effect": {"entity": "movie_id"}, "bag": "per_movie"},
    },
    "passes": {"max": 3},
    "metrics": ["auc", "auc@user_id"],
}


def changed(*changes: tuple[str, Any]) -> Config:
    content = copy.deepcopy(CONTENT)
    for dotted, value in changes:
        *parents, last = dotted.split(".")
        at = content
        for key in parents:
            at = at.setdefault(key, {})
        at[last] = value
    return Config.model_validate(content)


def keys(config: Config, fingerprint: str = "input") -> dict[str, str]:
    return build_plan(config).keys(Fingerprints(fingerprint))


BASE = keys(changed())


def differing(config: Config, fingerprint: str = "input") -> set[str]:
    now = keys(config, fingerprint)
    assert set(now) == set(BASE)
    return {step for step in BASE if now[step] != BASE[step]}


ALL = set(BASE)
TRAIN = {step for step in ALL if step.endswith(".train")}
EVALUATE = {step for step in ALL if step.endswith(".evaluate")}
GATES = {step for step in ALL if step.endswith(".gate")}


def test_steps_in_an_order_in_which_they_can_run():
    plan = build_plan(changed())
    ids = [step.id for step in plan.steps]
    assert ids[:2] == ["validate", "partition"]
    assert ids[-2:] == ["select", "export"]
    one_pass = [f"{name}.{kind}" for name in ("global", "per_user", "per_movie") for kind in ("train", "evaluate")]
    assert ids[2:8] == [f"pass_01.{step}" for step in one_pass]
    assert ids[8:15] == ["pass_02.gate", *(f"pass_02.{step}" for step in one_pass)]
    assert len(ids) == len(set(ids))
    for position, step in enumerate(plan.steps):
        assert set(step.reads) <= set(ids[:position]), step.id
    assert plan.passes == 3
    begins = ["pass_03.gate", "pass_03.accelerate"]
    assert [step.id for step in plan.of_pass(3)] == [*begins, *(f"pass_03.{step}" for step in one_pass)]


def test_what_each_step_reads():
    plan = build_plan(changed())
    assert set(plan["pass_01.global.train"].reads) == {"validate"}
    assert set(plan["pass_01.per_movie.train"].reads) == {
        "partition", "pass_01.global.evaluate", "pass_01.per_user.evaluate",
    }  # fmt: skip
    assert set(plan["pass_02.per_user.train"].reads) == {
        "partition", "pass_02.global.evaluate", "pass_01.per_movie.evaluate", "pass_01.per_user.train",
    }  # fmt: skip
    ends = {"pass_02.per_user.evaluate", "pass_02.per_movie.evaluate"}
    assert set(plan["pass_03.accelerate"].reads) == ends
    # Of the first one of a pass, no one needs what it gave the pass before.
    assert set(plan["pass_03.global.train"].reads) == {"validate", "pass_03.accelerate", "pass_02.global.train"}
    assert set(plan["pass_03.per_movie.train"].reads) == {
        "partition", "pass_03.global.evaluate", "pass_03.per_user.evaluate", "pass_02.per_movie.train",
    }  # fmt: skip
    assert set(plan["select"].reads) == {f"pass_0{n}.per_movie.evaluate" for n in (1, 2, 3)}
    assert plan["export"].reads == ("select",)


def test_latest_scores_of_the_other_coordinates():
    config = changed()
    assert latest_scores(config, 1, "global") == {}
    assert latest_scores(config, 1, "per_movie") == {"global": 1, "per_user": 1}
    assert latest_scores(config, 2, "global") == {"per_user": 1, "per_movie": 1}
    assert latest_scores(config, 3, "per_user") == {"global": 3, "per_movie": 2}


def test_passes_are_extrapolated_where_all_that_train_have_coefficients():
    text = {"fixed_effect": {"model": "text", "document": ["title"]}}
    for change in (("passes.acceleration", "none"), ("coordinates.global", text)):
        assert not any(step.kind == "accelerate" for step in build_plan(changed(change)).steps)
    longer = build_plan(changed(("passes.max", 4)))
    assert "pass_03.accelerate" in longer["pass_04.accelerate"].reads
    plain = keys(changed(("passes.acceleration", "none")))
    assert {step for step in plain if plain[step] != BASE[step] and step.startswith("pass_")} == {
        step for step in plain if step.startswith("pass_03") and not step.endswith("gate")
    }


def test_a_single_coordinate_needs_one_pass():
    one = {"global": CONTENT["coordinates"]["global"]}
    assert build_plan(changed(("coordinates", one))).passes == 1


def test_a_single_random_effect_under_automatic_l2_may_take_more():
    effect = {"random_effect": {"entity": "user_id"}, "l2": "auto"}
    assert build_plan(changed(("coordinates", {"per_user": effect}))).passes == 3
    assert build_plan(changed(("coordinates", {"global": {"fixed_effect": {}, "l2": "auto"}}))).passes == 1


LOCKED = (("initial_model", "earlier"), ("coordinates.per_user.locked", True))


def test_an_initial_model_is_read_before_the_first_pass():
    plan = build_plan(changed(("initial_model", "earlier")))
    ids = [step.id for step in plan.steps]
    assert ids[:3] == ["validate", "partition", "initialize"]
    assert plan["initialize"].reads == ("partition",)
    reading = {step.id for step in plan.steps if "initialize" in step.reads}
    assert reading == {f"pass_01.{name}.train" for name in ("global", "per_user", "per_movie")}


def test_other_initial_models_change_all_that_follows():
    plan = build_plan(changed(("initial_model", "earlier")))
    before, after = plan.keys(Fingerprints("input", "models")), plan.keys(Fingerprints("input", "other models"))
    assert {step for step in before if before[step] != after[step]} == set(before) - {"validate", "partition"}
    other = keys(changed(("initial_model", {"path": "earlier", "prior_weight": 1})))
    assert other["initialize"] != keys(changed(("initial_model", "earlier")))["initialize"]


def test_the_priors_weight_is_a_matter_of_training():
    """Only whether there is a prior matters to what is read: so its weight can be searched."""
    one, two = (keys(changed(("initial_model", {"path": "earlier", "prior_weight": w}))) for w in (1, 2))
    assert {step for step in one if one[step] != two[step]} == set(one) - {"validate", "partition", "initialize"}
    kept = keys(changed(("initial_model", {"path": "earlier", "prior_weight": 1, "entities_without_data": "drop"})))
    assert kept["initialize"] == one["initialize"]
    assert kept["pass_01.per_user.train"] != one["pass_01.per_user.train"]


def test_locked_coordinates_come_first_and_once():
    """So that those that train see their scores in every pass."""
    config = changed(*LOCKED)
    plan = build_plan(config)
    one = [f"{name}.{kind}" for name in ("per_user", "global", "per_movie") for kind in ("train", "evaluate")]
    assert [step.id for step in plan.of_pass(1)] == [f"pass_01.{step}" for step in one]
    begins = ["pass_03.gate", "pass_03.accelerate"]
    assert [step.id for step in plan.of_pass(3)] == [*begins, *(f"pass_03.{step}" for step in one[2:])]
    assert set(plan["pass_01.per_user.train"].reads) == {"partition", "initialize"}
    assert set(plan["pass_01.global.train"].reads) == {"validate", "initialize", "pass_01.per_user.evaluate"}
    assert set(plan["pass_02.global.train"].reads) == {
        "validate", "pass_01.per_user.evaluate", "pass_01.per_movie.evaluate", "pass_01.global.train",
    }  # fmt: skip
    assert latest_scores(config, 3, "per_movie") == {"per_user": 1, "global": 3}
    assert [order_of_pass(config, n) for n in (1, 2)] == [["per_user", "global", "per_movie"], ["global", "per_movie"]]
    assert [pass_of_model(config, 3, name) for name in CONTENT["coordinates"]] == [3, 1, 3]
    for position, step in enumerate(plan.steps):
        assert set(step.reads) <= {earlier.id for earlier in plan.steps[:position]}


def test_a_locked_last_coordinate_ends_no_pass():
    plan = build_plan(changed(("initial_model", "earlier"), ("coordinates.per_movie.locked", True)))
    assert set(plan["select"].reads) == {f"pass_0{n}.per_user.evaluate" for n in (1, 2, 3)}
    assert plan["pass_02.gate"].reads == ("pass_01.per_user.evaluate",)


def test_one_coordinate_to_train_needs_one_pass():
    assert build_plan(changed(*LOCKED, ("coordinates.global.locked", True))).passes == 1


def test_unknown_step():
    with pytest.raises(KeyError):
        Plan(())["validate"]


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    st.lists(
        st.sampled_from(
            [
                ("name", "other"),
                ("description", "another"),
                ("input", "elsewhere"),
                ("output", "elsewhere"),
                ("spark.master", "local[1]"),
                ("spark.driver_memory", "9g"),
                ("engine.local.processes", 7),
                ("airflow.retries", 9),
                ("airflow.tags", ["x"]),
                ("coordinates.per_user.random_effect.groups", 5),
                ("coordinates.global.fixed_effect.restarts", 9),
            ]
        ),
        unique_by=lambda change: change[0],
    )
)
def test_where_and_how_it_runs_changes_no_key(changes):
    assert differing(changed(*changes)) == set()


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_every_value_of_a_setting_has_its_own_key(a, b):
    first, second = (keys(changed(("coordinates.per_user.l2", value))) for value in (a, b))
    assert (first == second) == (a == b)


def after(step: str) -> set[str]:
    """The step and all that read it, directly or not."""
    found = {step}
    for other in build_plan(changed()).steps:
        if found & set(other.reads):
            found.add(other.id)
    return found


@pytest.mark.parametrize(
    ("change", "first"),
    [
        (("columns.label", "y"), "validate"),
        (("columns.weight", "w"), "validate"),
        (("checks.on_error", "drop"), "validate"),
        (("frame.rows_per_block", 7), "validate"),
        (("coordinates.per_user.random_effect.entity", "other_id"), "validate"),
        (("coordinates.per_user.data", "users"), "validate"),
        (("coordinates.per_user.bag", "other"), "validate"),
        (("coordinates.per_user.random_effect.shards", 7), "partition"),
        (("coordinates.per_user.random_effect.samples", {"max": 7}), "partition"),
        (("coordinates.global.l2", 7), "pass_01.global.train"),
        (("coordinates.global.intercept", False), "pass_01.global.train"),
        (("coordinates.global.fixed_effect.tolerance", 1e-3), "pass_01.global.train"),
        (("coordinates.per_movie.l2", 7), "pass_01.per_movie.train"),
        (("coordinates.per_movie.random_effect.max_iterations", 7), "pass_01.per_movie.train"),
        (("coordinates.per_movie.regularize_intercept", True), "pass_01.per_movie.train"),
        (("passes.min_delta", 0.5), "select"),
        (("export.formats", ["avro"]), "export"),
        (("export.sparsity_threshold", 0.5), "export"),
    ],
)
def test_a_changed_setting_changes_its_step_and_what_follows(change, first):
    assert differing(changed(change)) - GATES == after(first) - GATES


def test_another_input_changes_every_key():
    assert differing(changed(), "other input") == ALL


def test_the_task_changes_every_key():
    assert differing(changed(("task", "poisson_regression"), ("metrics", ["auc", "auc@user_id"]))) >= ALL - GATES


def test_metrics_of_columns_already_there_change_no_training():
    """Only what is measured changes: no frame, no shard and no model depends on it."""
    assert differing(changed(("metrics", ["logloss", "auc@user_id"]))) - GATES == EVALUATE | {"select", "export"}


def test_a_metric_of_a_new_group_column_needs_another_frame():
    assert "validate" in differing(changed(("metrics", ["auc", "auc@genre"])))


def test_the_order_of_coordinates_changes_every_key():
    """The first one's directory gives labels and weights, and each trains on the scores of those before it."""
    reordered = dict(reversed(CONTENT["coordinates"].items()))
    now = keys(changed(("coordinates", reordered)))
    assert {step for step in BASE if now.get(step) != BASE[step]} >= ALL - GATES
