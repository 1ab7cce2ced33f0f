"""The pipeline's YAML: every default, every fault with key path, line and what is allowed, templates and overrides."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
import yaml
from click.testing import CliRunner
from pydantic import BaseModel

from gdmix_core.cli.command import main
from gdmix_core.config.coordinate import FixedEffect
from gdmix_core.config.external import PythonModel
from gdmix_core.config.model import leniently
from gdmix_core.config.pipeline import Config
from gdmix_core.config.text import TextModel
from gdmix_core.errors import ConfigError
from gdmix_core.pipeline.loading import check_file, load_config, override, parse_assignment, parse_config

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

MINIMAL = """\
name: ratings
input: data/{{ ds }}
output: runs/{{ ds }}
coordinates:
  global:
    fixed_effect: {}
    bag: global
  per_user:
    random_effect:
      entity: user_id
"""
COORDINATE = {
    "data": ".", "bag": None, "l2": 1.0, "intercept": True, "regularize_intercept": False,
    "l1": 0.0, "alpha": None, "bounds": [], "normalization": "none", "variances": "none", "locked": False,
    "fixed_effect": None, "random_effect": None,
}  # fmt: skip
DEFAULTS = {
    "name": "ratings",
    "description": None,
    "task": "logistic_regression",
    "classes": None,
    "input": "data/1",
    "output": "runs/1",
    "columns": {"uid": "uid", "label": "label", "weight": None, "offset": None},
    "coordinates": {
        "global": {
            **COORDINATE,
            "bag": "global",
            "fixed_effect": {
                "model": "linear",
                "tolerance": 1e-6, "max_iterations": 500, "solver": "auto", "workers": 1, "restarts": 2, "history": 10,
                "downsampling": 1.0,
            },
        },
        "per_user": {
            **COORDINATE,
            "random_effect": {
                "tolerance": 1e-6, "max_iterations": 100, "entity": "user_id", "shards": "auto",
                "rows_per_shard": 2_000_000, "samples": {"min": 1, "max": None}, "groups": 1, "rows_per_group": 100_000,
                "features_to_samples": None,
            },
        },
    },
    "initial_model": None,
    "passes": {"max": 1, "min_delta": 0.0, "tolerance": 1e-4, "acceleration": "anderson"},
    "tune": None,
    "metrics": ["auc"],
    "checks": {"on_error": "fail", "max_dropped": 0.01, "uninformative": "fail"},
    "frame": {"rows_per_block": 500_000},
    "spark": {"master": "local[*]", "driver_memory": "2g", "conf": {}},
    "engine": {"data": "auto", "local": {"processes": "auto", "memory": "auto", "spill": None}},
    "export": {"formats": ["native", "avro"], "sparsity_threshold": 0.0},
    "airflow": {
        "schedule": None, "start_date": None, "catchup": False, "max_active_runs": 1, "retries": 2,
        "retry_delay_seconds": 60, "tags": ["gdmix"], "spark_connection": "spark_local",
    },
}  # fmt: skip


def write(tmp_path: Path, text: str = MINIMAL) -> Path:
    path = tmp_path / "pipeline.yaml"
    path.write_text(text)
    return path


def content(**changes: Any) -> dict[str, Any]:
    return {**yaml.safe_load(MINIMAL.replace("{{ ds }}", "1")), **changes}


def test_every_default(tmp_path: Path):
    in_full = {key: str(Path.cwd() / DEFAULTS[key]) for key in ("input", "output")}
    assert load_config(write(tmp_path), {"ds": "1"}).model_dump(mode="json") == {**DEFAULTS, **in_full}


@pytest.mark.parametrize(
    ("task", "metric"),
    [("logistic_regression", "auc"), ("linear_regression", "rmse"), ("poisson_regression", "poisson_loss")],
)
def test_the_default_metric_follows_the_task(task, metric):
    assert parse_config(content(task=task)).metrics == [metric]


def test_losses_of_other_tasks_are_foreign_metrics():
    found = parse_config(content(metrics=["auc", "rmse", "logloss", "auc@user_id"]))
    assert found.foreign_metrics == {"rmse": "linear_regression"}


CLASSES = {
    "task": "multiclass_classification",
    "classes": 3,
    "coordinates": {"global": {"fixed_effect": {"model": "text", "document": ["title"]}}},
}


def test_metrics_of_classes():
    found = parse_config(content(**CLASSES, metrics=["accuracy", "confusion_matrix", "cross_entropy"]))
    assert found.numeric_metrics == ["accuracy", "cross_entropy"]
    assert not found.foreign_metrics
    assert parse_config(content(**CLASSES)).metrics == ["accuracy"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": ["confusion_matrix", "auc"]}, "confusion_matrix is a matrix: name another first"),
        ({"metrics": ["auc", "cross_entropy"]}, "cross_entropy is not for task logistic_regression; .*ndcg@K:COLUMN"),
        ({**CLASSES, "metrics": ["ndcg@5:user_id"]}, r"for it there are accuracy, confusion_matrix, cross_entropy\b"),
        ({**CLASSES, "classes": 2000, "metrics": ["accuracy", "confusion_matrix"]}, "1000 at most"),
        ({**CLASSES, "columns": {"offset": "base"}}, "columns.offset: task multiclass_classification has a score for"),
    ],
)
def test_metrics_that_mean_nothing_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        parse_config(content(**changes))


def test_the_templates_know_airflows_ds_add(tmp_path: Path):
    path = write(tmp_path, MINIMAL.replace("data/{{ ds }}", "data/{{ macros.ds_add(ds, -1) }}"))
    assert load_config(path, {"ds": "2026-03-01"}).input == str(Path.cwd() / "data/2026-02-28")
    with pytest.raises(ConfigError, match="'ds' is undefined"):
        load_config(path, {})
    with pytest.raises(ConfigError, match="YYYY-MM-DD"):
        load_config(path, {"ds": "today"})
    assert load_config(path, {"ds": "x"}, {"input": "/elsewhere"}).input == "/elsewhere"


def test_engine_by_name_is_its_defaults():
    assert parse_config(content(engine="local")) == parse_config(content())


PER_USER = "    random_effect:\n      entity: user_id\n"


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("name: ratings", "nmae: ratings", 1, ["nmae: unknown key", "did you mean name?", "Allowed here:", "input"]),
        ("name: ratings", "name: ratings\ntaks: x", 2, ["taks: unknown key", "did you mean task?"]),
        ("    bag: global", "    bags: global", 7, ["global.bags: unknown key", "did you mean bag?"]),
        ("fixed_effect: {}", "fixed_effect: {histroy: 3}", 6,
         ["coordinates.global.fixed_effect.histroy: unknown key", "did you mean history?", "restarts"]),
        (PER_USER, PER_USER + "      sampels: {max: 3}\n", 11,
         ["coordinates.per_user.random_effect.sampels: unknown key", "did you mean samples?"]),
        (PER_USER, PER_USER + "      samples: {maxx: 3}\n", 11,
         ["coordinates.per_user.random_effect.samples.maxx: unknown key", "did you mean max?", "min, max"]),
        ("coordinates:", "airflow: {retry: 3}\ncoordinates:", 4, ["airflow.retry: unknown key", "retries?"]),
        ("coordinates:", "engine: {local: {procs: 3}}\ncoordinates:", 4, ["engine.local.procs: unknown key"]),
        ("coordinates:", "zzz: 1\ncoordinates:", 4, ["zzz: unknown key. Allowed here: name"]),
        ("coordinates:", "task: logistic\ncoordinates:", 4,
         ["task: ", "logistic_regression", "linear_regression", "poisson_regression", "given: 'logistic'"]),
        ("coordinates:", "task: [a]\ncoordinates:", 4, ["task: ", "logistic_regression"]),
        ("coordinates:", "passes: {max: 0}\ncoordinates:", 4, ["passes.max: ", "equal to 1", "given: 0"]),
        ("coordinates:", "metrics: [auc, ac]\ncoordinates:", 4, ["metrics", "metric 'ac'", "mean auc?"]),
        ("coordinates:", "metrics: [auc, AUC]\ncoordinates:", 4, ["metrics", "named twice"]),
        (PER_USER, PER_USER + "      shards: many\n", 11, ["per_user.random_effect.shards: ", "auto"]),
        (PER_USER, PER_USER + "      shards: 0\n", 11, ["per_user.random_effect.shards: ", "1 and 100000"]),
        (PER_USER, PER_USER + "      samples: {min: 5, max: 3}\n", 11, ["samples: ", "max (3) is below min (5)"]),
        ("    bag: global", "    l2: -1", 7, ["coordinates.global.l2: ", "expected a number >= 0, auto", "given: -1"]),
        ("    fixed_effect: {}\n", "", 5, ["coordinates.global: ", "exactly one of fixed_effect"]),
        (PER_USER, PER_USER + "    fixed_effect: {}\n", 8, ["coordinates.per_user: ", "exactly one of"]),
        (PER_USER, PER_USER + "    intercept: false\n", 8, ["per_user: ", "neither a bag nor an intercept"]),
        ("      entity: user_id", "      groups: 1", 9, ["random_effect.entity: is required"]),
        ("  per_user:", "  per-user:", 8, ["coordinates.per-user: ", "pattern"]),
        ("coordinates:", "airflow: {schedule: '@daily'}\ncoordinates:", 4, ["airflow: ", "needs a start_date"]),
    ],
)  # fmt: skip
def test_faults_name_key_path_line_and_what_is_allowed(tmp_path: Path, old, new, line, words):
    assert old in MINIMAL
    path = write(tmp_path, MINIMAL.replace(old, new, 1))
    with pytest.raises(ConfigError) as error:
        load_config(path, {"ds": "1"})
    assert f"{path}:{line}: " in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_every_fault_is_told_at_once(tmp_path: Path):
    path = write(tmp_path, MINIMAL.replace("name: ratings", "nmae: x\npasses: {max: 0}"))
    with pytest.raises(ConfigError) as error:
        load_config(path, {"ds": "1"})
    lines = str(error.value).splitlines()
    assert len(lines) == 3
    assert any("name: is required" in text for text in lines)


def test_a_coordinate_may_be_called_like_a_key():
    coordinate = {"fixed_effect": {}, "bagg": "x"}
    with pytest.raises(ConfigError, match=r"coordinates\.random_effect\.bagg: unknown key; did you mean bag\?"):
        parse_config(content(coordinates={"random_effect": coordinate}))


@pytest.mark.parametrize(
    ("text", "words"),
    [("a: [", "not valid YAML"), ("- a\n- b\n", "expected a mapping"), ("", "expected a mapping")],
)
def test_files_that_are_no_configuration(tmp_path: Path, text, words):
    with pytest.raises(ConfigError, match=words):
        load_config(write(tmp_path, text))


def test_a_missing_file(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file"):
        load_config(tmp_path / "none.yaml")


# Templates and overrides


def test_templates_are_rendered_everywhere(tmp_path: Path):
    path = write(tmp_path, MINIMAL.replace("bag: global", "bag: 'bag_{{ which }}'"))
    config = load_config(path, {"ds": "2026-11-01", "which": "a"})
    assert (config.input, config.output) == (str(Path.cwd() / "data/2026-11-01"), str(Path.cwd() / "runs/2026-11-01"))
    assert config.coordinates["global"].bag == "bag_a"


def test_a_variable_that_is_not_given(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"'ds' is undefined; give it with --var"):
        load_config(write(tmp_path))


def test_a_template_that_is_none(tmp_path: Path):
    with pytest.raises(ConfigError, match="template"):
        load_config(write(tmp_path, MINIMAL.replace("{{ ds }}", "{{ ds")), {"ds": "1"})


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for a in range(900) %}{% for b in range(900) %}x{% endfor %}{% endfor %}", "a loop within a loop"),
        ("{% for a in range(10 ** 9) %}x{% endfor %}", "a range of 1,000,000,000 numbers"),
        ("{{ 'x' * 10 ** 9 }}", "a product of 1,000,000,000 items"),
        ("{{ 9 ** (9 ** 9) }}", "a power of 387420489"),
        ("{{ (7 ** 60) ** 60 ** 1 }}", "a product of numbers of 169 bits"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "macros"),
        ("{% include 'x' %}", "macros and other files"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
    ],
)
def test_a_template_that_would_compute_for_ever(tmp_path: Path, template: str, message: str):
    path = write(tmp_path, MINIMAL.replace("data/{{ ds }}", json.dumps(template)))
    for read in (load_config, check_file):
        with pytest.raises(ConfigError, match=rf"pipeline\.yaml:2: input: template .*{message}"):
            read(path, {"ds": "1"}, {})


def test_a_template_may_compute(tmp_path: Path):
    template = "{% for part in ds.split('-') %}/{{ part }}{% endfor %}{{ '-' * 2 }}{{ 2 ** 3 * 5 }}"
    path = write(tmp_path, MINIMAL.replace("data/{{ ds }}", json.dumps(template)))
    assert load_config(path, {"ds": "2026-11-01"}).input == "/2026/11/01--40"


def test_a_check_leaves_templates_whose_variables_are_not_given(tmp_path: Path):
    path = write(tmp_path, MINIMAL.replace("runs/{{ ds }}", "runs/{{ other }}"))
    assert check_file(path, {}, {}).input == "data/{{ ds }}"
    config = check_file(path, {"ds": "1"}, {})
    assert (config.input, config.output) == ("data/1", "runs/{{ other }}")


def test_overrides(tmp_path: Path):
    changes = {"passes.max": 3, "coordinates.global.l2": 0.5, "columns.weight": "w", "metrics": ["logloss"]}
    config = load_config(write(tmp_path), {"ds": "1"}, changes)
    assert config.passes.max == 3
    assert config.coordinates["global"].l2 == 0.5
    assert config.coordinates["global"].bag == "global"
    assert (config.columns.weight, config.metrics) == ("w", ["logloss"])


def test_an_override_of_what_is_no_mapping():
    with pytest.raises(ConfigError, match="name is not a mapping"):
        override(content(), {"name.x": 1})


def test_an_unknown_override_is_told(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"passes\.mx: unknown key; did you mean max\?"):
        load_config(write(tmp_path), {"ds": "1"}, {"passes.mx": 3})


def test_an_override_of_a_mapping_with_an_alias_changes_one_place():
    shared = {"fixed_effect": {}, "l2": 1}
    found = override({"coordinates": {"one": shared, "other": shared}}, {"coordinates.one.l2": 7})
    assert [found["coordinates"][name]["l2"] for name in ("one", "other")] == [7, 1]


def test_overrides_do_not_touch_what_they_were_given():
    before = content()
    override(before, {"coordinates.global.l2": 7})
    assert before == content()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("passes.max=2", ("passes.max", 2)),
        ("metrics=[auc, logloss]", ("metrics", ["auc", "logloss"])),
        ("name=a=b", ("name", "a=b")),
        ("columns.weight=null", ("columns.weight", None)),
    ],
)
def test_assignments(text, expected):
    assert parse_assignment(text) == expected


@pytest.mark.parametrize("text", ["passes.max", "=3", "metrics=[auc"])
def test_assignments_that_are_none(text):
    with pytest.raises(ConfigError, match=r"metrics|KEY=VALUE"):
        parse_assignment(text)


# The command


def gdmix(*arguments: str) -> Any:
    return CliRunner().invoke(main, list(arguments))


@pytest.mark.parametrize("value", ["010", "1.10", "yes", "12:30", "2026-11-01", "a b", "null", "[x"])
def test_variables_are_taken_as_they_are_written(tmp_path: Path, value):
    """A partition `hour=010` is no octal number, and `yes` is no truth value."""
    path = write(tmp_path, MINIMAL.replace("data/{{ ds }}", "s3://b/{{ ds }}/x"))
    from gdmix_core.cli.command import _variables

    assert load_config(path, _variables((f"ds={value}",))).input == f"s3://b/{value}/x"


def test_check_says_what_it_found(tmp_path: Path):
    done = gdmix("config", "check", str(write(tmp_path)))
    assert done.exit_code == 0
    assert "2 coordinates, 8 steps" in done.output


def test_check_prints_faults_without_a_traceback(tmp_path: Path):
    done = gdmix("config", "check", str(write(tmp_path, MINIMAL.replace("name:", "nmae:"))))
    assert done.exit_code == 1
    assert "nmae: unknown key; did you mean name?" in done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize("flag", ["--var", "--set"])
def test_a_flag_without_value_is_told(tmp_path: Path, flag):
    done = gdmix("config", "check", str(write(tmp_path)), flag, "x")
    assert done.exit_code == 1
    assert "KEY=VALUE" in done.output


def examples() -> list[Path]:
    return sorted(
        path
        for folder in ("dags", "docs", "examples", "benchmarks")
        for path in (REPOSITORY / folder).rglob("*.y*ml")
        if "coordinates:" in path.read_text()
    )


def test_the_schema_is_valid_and_accepts_the_examples(tmp_path: Path):
    done = gdmix("config", "schema")
    schema = json.loads(done.output)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for path in [write(tmp_path), *examples()]:
        # Editors see dates as text.
        shown = json.loads(json.dumps(yaml.safe_load(path.read_text()), default=str))
        assert [fault.message for fault in validator.iter_errors(shown)] == [], path


@pytest.mark.parametrize(
    "change", [{"passes": {"max": 0}}, {"task": "x"}, {"unknown": 1}, {"coordinates": {}}, {"passes": {"mx": 1}}]
)
def test_the_schema_rejects_what_the_models_reject(change):
    validator = jsonschema.Draft202012Validator(Config.model_json_schema())
    assert not validator.is_valid(content(**change))
    assert validator.is_valid(content())
    with pytest.raises(ConfigError):
        parse_config(content(**change))


def test_the_examples_are_valid():
    for path in examples():
        check_file(path, {}, {})


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_examples_are_valid(path: Path):
    found = load_config(path)
    assert found.name == path.stem
    assert not found.foreign_metrics


TEXT = {"model": "text", "document": ["title"]}


@pytest.mark.parametrize(
    ("effect", "message"),
    [
        ({**TEXT, "documents": ["a"]}, r"fixed_effect\.documents: unknown key; did you mean document\?"),
        ({**TEXT, "encoder": {"type": "gru", "layer": 2}}, r"encoder\.layer: unknown key; did you mean layers\?"),
        ({**TEXT, "encoder": {"filter": 2}}, r"encoder\.filter: unknown key; did you mean filters\?"),
        ({**TEXT, "encoder": {"type": "bert"}}, r"encoder: type 'bert' is not known; it may be cnn, lstm, gru, transf"),
        ({**TEXT, "model": "txt"}, r"fixed_effect: model 'txt' is not known; it may be linear, text, external, python"),
        ({"worker": 2}, r"fixed_effect\.worker: unknown key; did you mean workers\?"),
        ({**TEXT, "loss": "listwise"}, "name its column in group"),
        ({**TEXT, "group": "user_id"}, "group is for loss pairwise or listwise"),
        ({**TEXT, "dense": ["title"]}, "title stands in two of"),
        ({"model": "text", "dense": ["global"]}, "has no text and no id field"),
        ({"model": "text", "user": ["headline"]}, "what is scored needs document or document_ids"),
        ({**TEXT, "vocabulary": {"tokenizer": "wordpiece"}}, "wordpiece needs vocabulary.file"),
        ({"document": "title", "units": 3}, "reads like a text network; say so: model: text"),
        ({**TEXT, "query": "label"}, "coordinate global reads label, which is columns.label"),
        ({"model": "external"}, r"fixed_effect\.scores: is required"),
        ({"model": "python", "function": "train"}, r"fixed_effect\.function: string should match pattern"),
    ],
)
def test_faults_of_models_of_a_fixed_effect(effect: dict[str, Any], message: str):
    changed = content()
    changed["coordinates"] = {"global": {"fixed_effect": effect}, "per_user": {"random_effect": {"entity": "user_id"}}}
    if effect.get("model") is None:
        changed["coordinates"]["global"]["bag"] = "global"
    with pytest.raises(ConfigError, match=message):
        parse_config(changed)


BERT = {**TEXT, "encoder": {"type": "transformer", "path": "bert"}, "vocabulary": {"tokenizer": "wordpiece"}}
OF_IDS = {"model": "text", "document_ids": ["tags"]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"optimizer": {"name": "sgd", "weight_decay": 0.1}},
            r"optimizer: weight_decay has no effect with sgd; use adamw",
        ),
        (
            {"optimizer": {"name": "adam", "weight_decay": 0.1}},
            "weight_decay has no effect with adam; use adamw or lamb",
        ),
        (
            {"parameter_servers": 2},
            "parameter_servers has no effect with mode: synchronous; set mode: parameter_server",
        ),
        (
            {"vocabulary": {"file": "v", "size": 9}},
            r"fixed_effect: vocabulary\.size has no effect beside vocabulary\.file",
        ),
        ({"vocabulary": {"file": "v", "min_count": 2}}, r"vocabulary\.min_count has no effect beside vocabulary\.file"),
        ({**BERT, "vocabulary": {"tokenizer": "wordpiece", "size": 9}}, r"vocabulary\.size .* beside encoder\.path"),
        ({"encoder": {"type": "transformer", "path": "f", "layers": 3}}, r"encoder: layers has no effect beside path"),
        ({"interactions": ["dot"]}, "interactions has no effect without any field of the user"),
        (
            {"id_embedding": 4},
            "id_embedding has no effect without any column in document_ids or user_ids; leave it out",
        ),
        ({"sparse_embedding": 4}, "sparse_embedding has no effect without any bag in sparse"),
        ({"hidden": [], "activation": "gelu"}, "activation has no effect without any hidden layer"),
        ({**OF_IDS, "document": [], "encoder": "gru"}, "encoder has no effect without any text in document"),
        ({**OF_IDS, "document": [], "vocabulary": {"size": 9}}, "vocabulary has no effect without any text"),
    ],
)
def test_a_key_of_a_text_network_that_nothing_would_come_of(changes: dict[str, Any], message: str):
    changed = content()
    changed["coordinates"] = {"global": {"fixed_effect": {**TEXT, **changes}}}
    with pytest.raises(ConfigError, match=message):
        parse_config(changed)


@pytest.mark.parametrize(
    "effect",
    [
        TEXT,
        BERT,
        {**OF_IDS, "id_embedding": 4, "user_ids": ["u"], "interactions": ["dot"]},
        {**TEXT, "optimizer": {"name": "sgd", "weight_decay": 0}, "hidden": []},  # none is none
        {**TEXT, "vocabulary": {"file": "v"}, "mode": "parameter_server", "parameter_servers": 2},
        {**TEXT, "encoder": "transformer", "embedding": 32},  # so that another encoder can be tried
    ],
)
def test_a_runs_own_configuration_is_accepted_again(effect: dict[str, Any]):
    """It says every default, also of keys that have no effect beside others."""
    changed = content()
    changed["coordinates"] = {"global": {"fixed_effect": effect}}
    found = parse_config(changed)
    assert parse_config(found.model_dump(mode="json", exclude_none=True)) == found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"spark": {"conf": {"spark.master": "yarn"}}},
            r"spark\.conf: spark\.master has no effect in conf; set spark\.master",
        ),
        ({"spark": {"conf": {"spark.driver.memory": "4g"}}}, r"has no effect in conf; set spark\.driver_memory"),
        ({"airflow": {"catchup": True}}, "airflow: catchup has no effect without a schedule"),
        ({"airflow": {"retries": 0, "retry_delay_seconds": 5}}, "retry_delay_seconds has no effect with retries: 0"),
        ({"spark": {"conf": {"fs.s3a.endpoint": "x"}}}, "fs.s3a.endpoint has no effect.* spark.hadoop.fs.s3a.endpoint"),
        ({"checks": {"max_dropped": 0.5}}, "max_dropped has no effect with on_error: fail"),
        (
            {"export": {"formats": ["native"], "sparsity_threshold": 0.1}},
            "sparsity_threshold has no effect",
        ),
        (
            {"tune": {"parameters": {"coordinates.global.l2": [1, 2]}, "seed": 3}},
            "seed has no effect with method",
        ),
        (
            {"initial_model": {"coordinates": {"global": "x.avro"}, "required": False}},
            "required has no effect without path",
        ),
    ],
)
def test_a_key_of_where_it_runs_that_nothing_would_come_of(changes: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        parse_config(content(**changes))


def test_a_run_of_an_earlier_version_can_still_be_opened():
    effect = {**TEXT, "parameter_servers": 2, "optimizer": {"name": "sgd", "weight_decay": 0.1}}
    changed = content(coordinates={"global": {"fixed_effect": effect}}, spark={"conf": {"spark.master": "yarn"}})
    with pytest.raises(ConfigError, match="has no effect"):
        parse_config(changed)
    with leniently():
        assert parse_config(changed).coordinates["global"].text.parameter_servers == 2
    with pytest.raises(ConfigError, match="has no effect"):
        parse_config(changed)


def test_a_directory_that_nothing_is_read_from():
    elsewhere = {"fixed_effect": {"model": "external", "scores": "s.csv"}, "data": "global"}
    own = {"fixed_effect": {"model": "python", "function": "m:f"}, "data": "global"}
    per_user = {"random_effect": {"entity": "user_id"}, "data": "per_user"}
    for coordinate, words in ((elsewhere, "scores are found by uid"), (own, "without bags and columns")):
        with pytest.raises(ConfigError, match=f"coordinate global: data has no effect: {words}"):
            parse_config(content(coordinates={"global": coordinate, "per_user": per_user}))
    parse_config(content(coordinates={"global": own}))  # alone it says where the labels are


def test_a_runs_own_configuration_loses_nothing():
    """It leaves out what is None, so None must be the default wherever it is allowed."""

    def models(kind: Any) -> Iterator[type[BaseModel]]:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield kind
        for part in get_args(kind):
            yield from models(part)

    def may_be_none(kind: Any) -> bool:
        return kind is type(None) or any(map(may_be_none, get_args(kind)))

    to_see, seen = [Config], set()
    while to_see:
        model = to_see.pop()
        seen.add(model)
        for name, field in model.model_fields.items():
            assert not may_be_none(field.annotation) or field.get_default() is None, f"{model.__name__}.{name}"
            to_see += [found for found in models(field.annotation) if found not in seen]
    assert {TextModel, PythonModel, FixedEffect} <= seen


def test_short_forms_of_a_text_network():
    changed = content(task="multiclass_classification", metrics=["accuracy"])
    effect = {**TEXT, "document": "title", "encoder": "gru", "optimizer": "lamb", "hidden": 8}
    changed["coordinates"] = {"global": {"fixed_effect": effect}}
    with pytest.raises(ConfigError, match="needs classes, their number"):
        parse_config(changed)
    text = parse_config({**changed, "classes": 3}).coordinates["global"].text
    jsonschema.validate({**changed, "classes": 3}, Config.model_json_schema())  # editors accept what is accepted
    assert (text.document, text.encoder.type, text.optimizer.name, text.hidden) == (["title"], "gru", "lamb", [8])


@pytest.mark.parametrize(
    ("airflow", "message"),
    [
        ({"tags": ["x" * 101]}, "tags.0.* at most 100"),
        ({"retry_delay_seconds": 10**12}, "retry_delay_seconds.* less than or equal"),
        ({"schedule": "@continuous", "max_active_runs": 2, "start_date": "2026-11-01"}, "max_active_runs must be 1"),
        ({"schedule": "@daily", "start_date": "9999-11-01"}, "start_date"),
        ({"schedule": "0 0 31 2 *", "start_date": "2026-11-01"}, "neither a cron expression nor a preset"),
    ],
)
def test_what_airflow_would_refuse_is_refused(tmp_path: Path, airflow: dict[str, Any], message: str):
    path = write(tmp_path, MINIMAL + yaml.safe_dump({"airflow": airflow}))
    with pytest.raises(ConfigError, match=message):
        check_file(path, {}, {})


@pytest.mark.parametrize("value", ["no", "off", "y", 1, 0, "x"])
def test_a_boolean_is_true_or_false(value: Any):
    with pytest.raises(ConfigError, match=r"intercept: input should be true or false \(given"):
        parse_config(override(yaml.safe_load(MINIMAL), {"coordinates.global.intercept": value}))
    for text in ("true", "True", True):  # a template makes a text
        parse_config(override(yaml.safe_load(MINIMAL), {"coordinates.global.intercept": text}))


@pytest.mark.parametrize("value", [True, "1_0"])
@pytest.mark.parametrize("key", ["passes.max", "passes.min_delta", "coordinates.global.fixed_effect.tolerance"])
def test_a_number_is_no_boolean_and_has_no_lines_in_it(key: str, value: Any):
    with pytest.raises(ConfigError, match=key):
        parse_config(override(yaml.safe_load(MINIMAL), {key: value}))
