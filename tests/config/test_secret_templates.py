"""Templates that would write a secret into config.yaml are found by what they refer to, before anything is rendered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gdmix_core.config.secret_templates import refuse_secret_templates, texts
from gdmix_core.errors import ConfigError
from gdmix_core.pipeline.loading import check_file

CONNECTIONS = [
    "s3://{{ conn.lake.host }}/x",
    "{{ conn['lake'].password }}",
    "{{conn.get('lake').extra_dejson.token}}",
    "{% set c = conn %}{{ c.lake.login }}",
    "{% set conn = conn %}{{ conn.lake.login }}",
    "{% for c in [conn] %}{{ c.lake.login }}{% endfor %}",
    "{{ macros.mine.BaseHook.get_connection('lake').password }}",
    "{{ task.get_connection('lake').password }}",
    "{{ ti.task['get_connection']('lake') }}",
    "{{ self._TemplateReference__context['conn'].lake.password }}",
    "{% if conn.lake.password == 'a' %}a{% endif %}",
]
VARIABLES = [
    "{{ var.value.db_password }}",
    "{{ var.value['api_token'] }}",
    "{{ var.value.get('aws_secret_access_key', 'none') }}",
    "{{ var.json.lake.password }}",
    "{% set v = var %}{{ v.value.access_key }}",
]
HARMLESS = [
    "s3://bucket/{{ ds }}",
    "{{ macros.ds_add(ds, -1) }}",
    "{{ var.value.bucket }}/{{ data_interval_end | ds_nodash }}",
    "{{ var.json.paths.input }}",
    "{{ params.region }}/connections",
    "{{ dag_run.conf.get('tokens_per_row', 3) }}",
    "conn and password are words {# conn.lake #}",
]


def nested(text: str) -> dict[str, Any]:
    return {"input": "plain", "coordinates": {"a": {"files": ["x", text]}}}


@pytest.mark.parametrize("text", CONNECTIONS)
def test_connections(text: str) -> None:
    with pytest.raises(
        ConfigError, match=r"^p.yaml: coordinates.a.files.1: the template .* reads an Airflow connection"
    ):
        refuse_secret_templates(nested(text), "p.yaml")


@pytest.mark.parametrize("text", VARIABLES)
def test_variables_that_are_called_secrets(text: str) -> None:
    with pytest.raises(ConfigError, match=r"coordinates.a.files.1: the template .* reads the Variable"):
        refuse_secret_templates(nested(text), "p.yaml")


@pytest.mark.parametrize("text", HARMLESS)
def test_all_else_is_let_pass(text: str) -> None:
    refuse_secret_templates(nested(text), "p.yaml")


def test_a_template_that_is_none() -> None:
    with pytest.raises(ConfigError, match=r"p.yaml: output: template '\{\{ ds': .*; correct the expression"):
        refuse_secret_templates({"output": "{{ ds"}, "p.yaml")


def test_texts() -> None:
    content = {"a": "{{ x }}", "b": [1, {"c": "{% y %}"}], "d": "no template", "e": None}
    assert list(texts(content)) == [(("a",), "{{ x }}"), (("b", 1, "c"), "{% y %}")]


def test_config_check_looks_for_them(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("name: p\ninput: '{{ conn.lake.host }}'\noutput: o\ncoordinates: {a: {fixed_effect: {}}}\n")
    with pytest.raises(ConfigError, match=r"input: the template .* reads an Airflow connection"):
        check_file(file, {}, {})
