"""The trigger form: its defaults change nothing, its values win, and what is not in it is refused."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk.definitions.param import ParamsDict
from airflow.sdk.exceptions import ParamValidationError
from hypothesis import given
from hypothesis import strategies as st

from gdmix_core.config import Config
from gdmix_core.errors import ConfigError
from gdmix_operators.params import apply_params, check_conf, trigger_params

DATES = {"ds": "2026-11-03", "ds_nodash": "20261103"}


@pytest.fixture
def form(pipeline: dict[str, Any]) -> ParamsDict:
    return ParamsDict(trigger_params(Config.model_validate(pipeline)))


def test_fields(form: ParamsDict) -> None:
    assert list(form) == ["date", "input", "output", "passes", "l2", "l2_global", "l2_per_user"]
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


TRAPS = ["{{ var.value.key }}", "{{ conn.db.password }}", "{{ ds", "{{ ds.__class__.mro() }}"]


@pytest.mark.parametrize("text", TRAPS)
def test_paths_reach_nothing_else(pipeline: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match="of the trigger"):
        apply_params(pipeline, {"input": text}, DATES)


def test_days_of_a_backfill_do_not_share_an_output(pipeline: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"all days of the backfill .* \{\{ ds \}\}"):
        apply_params(pipeline, {"output": "runs/again"}, DATES, backfill=True)
    changed = apply_params(pipeline, {"output": "runs/again/{{ ds }}"}, DATES, backfill=True)
    assert changed["output"] == "runs/again/2026-11-03"
    apply_params(pipeline, {"output": "runs/again"}, DATES)


def test_unknown_keys(pipeline: dict[str, Any]) -> None:
    check_conf(None, pipeline)
    check_conf({"date": None, "l2_per_user": 1}, pipeline)
    with pytest.raises(ConfigError) as error:
        check_conf({"l2": 1, "l2_per_usr": 2, "n": 5}, pipeline)
    assert "l2_per_usr, n (did you mean l2_per_user?)" in str(error.value)
