"""The trigger form: its defaults change nothing, its values win, and what is not in it is refused."""

from __future__ import annotations

import datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import ExceptionRetryPolicy, Param, RetryAction, RetryRule
from airflow.sdk.definitions.param import ParamsDict
from airflow.sdk.exceptions import ParamValidationError
from hypothesis import given
from hypothesis import strategies as st

from gdmix_core.config.pipeline import Config
from gdmix_core.errors import ConfigError, StepError
from gdmix_operators.factory import build_dag
from gdmix_operators.params import apply_params, check_backfill, check_conf, trigger_params
from gdmix_operators.templates import run_dates

DATES = {"ds": "2026-11-03", "ds_nodash": "20261103"}


@pytest.fixture
def form(pipeline: dict[str, Any]) -> ParamsDict:
    return ParamsDict(trigger_params(Config.model_validate(pipeline)))


def test_fields(form: ParamsDict) -> None:
    assert list(form) == ["date", "input", "output", "passes", "l2", "engine", "l2_global", "l2_per_user"]
    for name in form:
        schema = form.get_param(name).schema
        assert schema["title"]
        assert schema["description_md"]
    assert form.get_param("l2_per_user").schema["section"] == "Penalty by coordinate"
    assert "section" not in form.get_param("l2").schema


def test_defaults_change_nothing(form: ParamsDict, pipeline: dict[str, Any]) -> None:
    changed = apply_params(pipeline, form.validate(), DATES)
    assert Config.model_validate(changed) == Config.model_validate(pipeline)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("date", "3.11.2026"),
        ("date", 20261103),
        ("passes", 0),
        ("passes", 3),
        ("passes", None),
        ("l2", -1),
        ("l2_global", "1"),
        ("input", 5),
    ],
)
def test_refused_by_the_form(form: ParamsDict, name: str, value: object) -> None:
    with pytest.raises(ParamValidationError):
        form.update({name: value})


@given(
    passes=st.none() | st.integers(1, 2),
    l2=st.none() | st.floats(0, 1e6),
    own=st.dictionaries(st.sampled_from(["global", "per_user"]), st.floats(0, 1e6)),
)
def test_values_win(passes: int | None, l2: float | None, own: dict[str, float]) -> None:
    content = {
        "name": "p",
        "input": "i",
        "output": "o",
        "coordinates": {
            "global": {"fixed_effect": {}, "l2": 7.0},
            "per_user": {"random_effect": {"entity": "u"}},
        },
        "passes": {"max": 2},
    }
    before = Config.model_validate(content)
    params = {"passes": passes, "l2": l2} | {f"l2_{name}": value for name, value in own.items()}
    config = Config.model_validate(apply_params(content, params, DATES))
    assert config.passes.max == (passes or 2)
    for name, coordinate in config.coordinates.items():
        given_value = own.get(name, l2)
        assert coordinate.l2 == (before.coordinates[name].l2 if given_value is None else given_value)
    assert Config.model_validate(content) == before


def test_zero_is_a_value(pipeline: dict[str, Any]) -> None:
    changed = apply_params(pipeline, {"l2": 3.0, "l2_global": 0}, DATES)
    assert changed["coordinates"]["global"]["l2"] == 0
    assert changed["coordinates"]["per_user"]["l2"] == 3.0


def test_paths_may_name_the_dates(pipeline: dict[str, Any]) -> None:
    changed = apply_params(pipeline, {"input": "/d/{{ ds }}", "output": "s3://b/{{ ds_nodash }}"}, DATES)
    assert (changed["input"], changed["output"]) == ("/d/2026-11-03", "s3://b/20261103")


TRAPS = [
    "{{ var.value.key }}", "{{ conn.db.password }}", "{{ ds", "{{ ds.__class__.mro() }}", "{{ 1/0 }}", "{{ ds + 1 }}",
    "{{ '%d' % ds }}", "{{ 'x' * 1000000000 }}", "{{ 9 ** 999999999 }}", "{{ range(10 ** 12) | list }}",
]  # fmt: skip


@pytest.mark.parametrize("text", TRAPS)
def test_paths_reach_nothing_else(pipeline: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match="of the trigger"):
        apply_params(pipeline, {"input": text}, DATES)


def dates_of(start: str, end: str) -> dict[str, Any]:
    """Of the run with this data interval."""
    moments = [datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC) for text in (start, end)]
    interval = {"data_interval_start": moments[0], "data_interval_end": moments[1]}
    return run_dates(SimpleNamespace(logical_date=moments[0], run_after=moments[1], **interval))


@pytest.mark.parametrize(
    ("params", "fault"),
    [
        ({"output": "runs/again"}, r"output 'runs/again': all days .* write to it, each over the last.* \{\{ ds \}\}"),
        ({"output": "runs/{{ 'again' }}"}, "all days"),
        ({"output": "runs/{{ ds[:7] }}"}, "all days"),
        ({"input": "data/fixed"}, "input 'data/fixed': all days of the backfill would read it"),
        ({"date": "2026-11-03"}, "date '2026-11-03' in the conf of a backfill: all its days would read"),
        ({"date": "2026-11-03", "output": "runs/{{ ds }}"}, "date"),
    ],
)
def test_days_of_a_backfill_have_their_own(pipeline: dict[str, Any], params: dict[str, Any], fault: str) -> None:
    for day in range(1, 31):  # of the last day of a month too, whose neighbour has another month in its path
        dates = dates_of(f"2026-11-{day:02d}", f"2026-11-{day + 1:02d}" if day < 30 else "2026-12-01")
        with pytest.raises(ConfigError, match=fault):
            check_backfill(pipeline, params, dates)


@pytest.mark.parametrize("output", ["runs/again", "runs/{{ 1 }}", "runs/{{ ds[:4] }}"])
def test_the_yamls_own_output_is_one_of_each_day(pipeline: dict[str, Any], output: str) -> None:
    day = dates_of("2026-11-03", "2026-11-04")
    with pytest.raises(ConfigError, match="all days of the backfill would write to it"):
        check_backfill({**pipeline, "output": output}, {}, day)
    check_backfill({**pipeline, "output": output}, {"output": "runs/{{ ds }}"}, day)
    check_backfill({**pipeline, "output": "{{ var.value.root }}/x"}, {}, day)  # who knows


def test_what_a_backfill_may_say(pipeline: dict[str, Any]) -> None:
    day, month = dates_of("2026-11-03", "2026-11-04"), dates_of("2026-11-01", "2026-12-01")
    own = {"output": "runs/{{ ds }}", "input": "s3://b/{{ data_interval_end | string }}", "date": None, "passes": 1}
    check_backfill(pipeline, own, day)
    check_backfill(pipeline, {"output": "runs/{{ ds[:7] }}"}, month)
    check_backfill({**pipeline, "input": "data/all"}, {"input": "data/others"}, day)  # as the YAML's own


def test_fields_of_the_dags_author(pipeline: dict[str, Any]) -> None:
    pipeline["input"] = "data/{{ params.region }}/{{ ds }}"
    dag = build_dag(pipeline, params={"region": Param("eu", type="string", enum=["eu", "us"]), "n": 3})
    assert list(dag.params)[-2:] == ["region", "n"]
    assert dag.params["l2_per_user"] is None
    check_conf({"region": "us", "l2": 1}, pipeline, own=dag.params)
    with pytest.raises(ConfigError, match=r"regoin \(did you mean region\?\)"):
        check_conf({"regoin": "us"}, pipeline, own=dag.params)
    for name in ("l2_per_user", "date", "passes"):
        with pytest.raises(ConfigError, match=f"params of build_dag: {name} is a field of the pipeline's own form"):
            build_dag(pipeline, params={name: 3})


def test_other_arguments_of_the_dag(pipeline: dict[str, Any]) -> None:
    policy = ExceptionRetryPolicy(rules=[RetryRule(exception=StepError, action=RetryAction.FAIL)])
    dag = build_dag(pipeline, tags=["mine"], default_args={"retry_policy": policy, "pool": "small"})
    task = dag.get_task("validate")
    assert (dag.tags, task.pool, task.retries) == ({"mine"}, "small", 4)
    assert task.retry_policy is policy
    assert build_dag(pipeline, default_args=None, params=None).get_task("validate").retries == 4
    with pytest.raises(ConfigError, match="same for every run of the schedule that build_dag is given"):
        build_dag({**pipeline, "output": "runs/one", "airflow": {}}, schedule="@daily")


def test_unknown_keys(pipeline: dict[str, Any]) -> None:
    check_conf(None, pipeline)
    check_conf({"date": None, "l2_per_user": 1}, pipeline)
    with pytest.raises(ConfigError) as error:
        check_conf({"l2": 1, "l2_per_usr": 2, "n": 5}, pipeline)
    assert "l2_per_usr, n (did you mean l2_per_user?)" in str(error.value)
