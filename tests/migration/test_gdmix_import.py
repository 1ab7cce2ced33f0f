"""GDMix's YAML as ours: every key has a place, a note or an error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from gdmix_core.cli.command import main
from gdmix_core.config.text import TextModel
from gdmix_core.errors import ConfigError
from gdmix_core.migration import gdmix_keys
from gdmix_core.migration.detext_coordinate import translate_detext
from gdmix_core.migration.gdmix_yaml import translate_gdmix
from gdmix_core.migration.importing import import_config
from gdmix_core.migration.translation import Section, Translation, render_yaml
from gdmix_core.pipeline.loading import check_file, parse_config

# The keys of GDMix's MovieLens example, in its style: JSON with comments, anchors and trailing commas.
LINEAR = """
{
  "output_dir": "lr-training",
  "fixed_effect_config": {
    "global": {
      "training_data_dir": "movieLens/global/trainingData",
      "validation_data_dir": "movieLens/global/validationData",
      "feature_file": "movieLens/global/featureList/global", "feature_bag": "global",
      "metadata_file": "movieLens/global/metadata/tensor_metadata.json",
      "l2_reg_weight": 2.0, "regularize_bias": false,
      "lbfgs_tolerance": 1e-12,  # text to YAML 1.1
      "num_of_lbfgs_iterations": 100, "num_of_lbfgs_curvature_pairs": 10,
      "copy_to_local": false,
      gdmix_config: &g {
        "model_type": "logistic_regression", "label_column_name": "response", "uid_column_name": "uid",
        "prediction_score_column_name": "predictionScore", "weight_column_name": "weight"
      },
    }
  },
  "random_effect_config": {
    "per-user": {
      "partition_entity": "user_id",
      "training_data_dir": "movieLens/per_user/trainingData",
      "validation_data_dir": "movieLens/per_user/validationData",
      "feature_file": "movieLens/per_user/featureList/per_user", "feature_bag": "per_user",
      "metadata_file": "movieLens/per_user/metadata/tensor_metadata.json",
      "l2_reg_weight": 1e-1, "num_of_lbfgs_iterations": 50, "num_of_lbfgs_curvature_pairs": 10,
      "max_training_queue_size": 10, "num_of_consumers": 1, "enable_local_indexing": false,
      "random_effect_variance_mode": "FULL",
      "num_partitions": 4, "gdmix_config": *g,
    },
  },
  "spark_config": {"executorInstances": 2, "driverMemory": "1g"},
  "tfjob_config": {"workerNum": 2},
}
"""

# DeText's coordinate, whose random effects change one key of its schema by a merge.
DETEXT = """
output_dir: detext-training
fixed_effect_config:
  global:
    {ftr_ext: cnn, num_filters: 50, optimizer: adamw, pmetric: auc, vocab_file: movieLens/detext/vocab.txt,
     train_file: movieLens/detext/trainingData, dev_file: movieLens/detext/validationData,
     sparse_ftrs_column_names: wide_ftrs_sp, doc_text_column_names: doc_query, nums_sparse_ftrs: 100,
     gdmix_config: &g {model_type: detext, label_column_name: response, uid_column_name: uid,
                       weight_column_name: weight, prediction_score_column_name: predictionScore}}
random_effect_config:
  per-user:
    partition_entity: user_id
    training_data_dir: movieLens/per_user/trainingData
    validation_data_dir: movieLens/per_user/validationData
    metadata_file: movieLens/per_user/metadata/tensor_metadata.json
    feature_bag: per_user
    feature_file: movieLens/per_user/featureList/per_user
    l2_reg_weight: 1.0
    regularize_bias: false
    num_partitions: 1
    gdmix_config: {<<: *g, model_type: logistic_regression}
"""


def content() -> dict[str, Any]:
    """A fresh copy without shared anchors."""
    found: dict[str, Any] = json.loads(json.dumps(yaml.safe_load(LINEAR)))
    return found


def minimal(**coordinate: Any) -> dict[str, Any]:
    """A GDMix workflow of one fixed effect."""
    schema = {"uid_column_name": "uid", "label_column_name": "response"}
    given = {"training_data_dir": "data/trainingData", "gdmix_config": schema, **coordinate}
    return {"output_dir": "out", "fixed_effect_config": {"global": given}}


def notes(result: Any) -> dict[str, str]:
    return {key: f"{kind}: {text}" for kind, key, text in result.notes}


@pytest.fixture
def linear(tmp_path: Path) -> Path:
    path = tmp_path / "lr-movieLens.yaml"
    path.write_text(LINEAR)
    return path


def test_movielens(linear: Path):
    result = import_config(linear)
    assert result.content == {
        "name": "lr_training",
        "task": "logistic_regression",
        "input": "movieLens",
        "output": "lr-training",
        "columns": {"uid": "uid", "label": "response", "weight": "weight"},
        "coordinates": {
            "global": {
                "fixed_effect": {"max_iterations": 100, "history": 10},
                "data": "global",
                "bag": "global",
                "l2": 2,
                "regularize_intercept": False,
            },
            "per_user": {
                "random_effect": {"entity": "user_id", "shards": 4, "max_iterations": 50},
                "data": "per_user",
                "bag": "per_user",
                "l2": 0.1,
                "regularize_intercept": True,
                "variances": "full",
            },
        },
        "passes": {"max": 1},
        "metrics": ["auc"],
        "export": {"formats": ["native", "avro"], "sparsity_threshold": 1e-4},
    }
    found = notes(result)
    assert found["per-user.regularize_bias"].startswith("check: not given: GDMix's code takes true")
    assert "global.regularize_bias" not in found
    for key in (
        "copy_to_local", "max_training_queue_size", "num_of_consumers", "enable_local_indexing", "spark_config",
        "tfjob_config", "prediction_score_column_name", "num_of_lbfgs_curvature_pairs",
    ):  # fmt: skip
        assert found[key].startswith("ignored: "), key
    for key in ("lbfgs_tolerance", "num_partitions", "weight_column_name", "metrics", "per-user", "l2_reg_weight"):
        assert found[key].startswith("changed: "), key


def test_detext_becomes_a_text_network(tmp_path: Path):
    path = tmp_path / "detext.yaml"
    path.write_text(DETEXT)
    result = import_config(path)
    assert result.content["task"] == "logistic_regression"
    assert result.content["coordinates"]["global"] == {
        "fixed_effect": {
            "model": "text", "document": ["doc_query"], "sparse": ["wide_ftrs_sp"], "linear": [],
            "vocabulary": {"file": "movieLens/detext/vocab.txt"},
            "units": 128, "embedding": 128, "sparse_embedding": 1, "batch": 32, "seed": 1234,
            "encoder": {"type": "cnn", "windows": [3], "filters": 50},
            "hidden": [], "dropout": 0.0,
            "optimizer": {
                "name": "adamw", "learning_rate": 1, "gradient_norm": 1, "decay": "linear", "warmup": 0.0,
            },
            "epochs": 10,
        },
        "data": "detext",
    }  # fmt: skip
    checks = {key for kind, key, _ in result.notes if kind == "check"}
    assert {"global.sparse_ftrs_column_names", "global.num_train_steps", "global.task_type"} <= checks
    assert {"dev_file", "pmetric", "nums_sparse_ftrs"} <= {key for kind, key, _ in result.notes if kind == "ignored"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"ftr_ext": "lstm", "num_layers": 2, "bidirectional": True},
         {"encoder": {"type": "lstm", "layers": 2, "bidirectional": True, "dropout": 0}}),
        ({"ftr_ext": "bert", "lr_bert": 2e-5, "bert_hub_url": "hub"}, {"encoder": {"type": "transformer"}}),
        ({"num_epochs": 3, "emb_sim_func": ["inner", "diff"], "user_id_column_names": "u", "num_hidden": "8 4"},
         {"epochs": 3, "interactions": ["cosine", "difference"], "id_embedding": 128, "activation": "tanh"}),
        ({"optimizer": "sgd", "doc_text_column_names": [], "doc_id_column_names": ["tags"]},
         {"optimizer": {"name": "sgd"}, "document_ids": ["tags"]}),
        ({"optimizer": "bert_adam"}, {"optimizer": {"name": "adamw"}}),
        ({"optimizer": "other"}, {"optimizer": {"name": "adamw"}}),
        ({"num_train_steps": 1000, "num_warmup_steps": 100}, {"optimizer": {"warmup": 0.1}}),
        ({"query_column_name": "q", "user_text_column_names": ["headline"]}, {"query": "q", "user": ["headline"]}),
    ],
)  # fmt: skip
def test_arguments_of_detext(changes: dict[str, Any], expected: dict[str, Any]):
    settings = {**yaml.safe_load(DETEXT)["fixed_effect_config"]["global"], **changes}
    model = translate_detext(Section("global", settings, Translation()))["fixed_effect"]
    TextModel.model_validate(model)
    for key, value in expected.items():
        if isinstance(value, dict):
            assert model[key].items() >= value.items()
        else:
            assert model[key] == value


@pytest.mark.parametrize("text", [LINEAR, DETEXT])
def test_the_command_prints_a_valid_pipeline_with_its_notes(tmp_path: Path, text: str):
    (tmp_path / "gdmix.yaml").write_text(text)
    arguments = ["config", "import", str(tmp_path / "gdmix.yaml"), "--input", "s3://b/in", "--output", "out/{{ ds }}"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    (tmp_path / "ours.yaml").write_text(done.stdout)
    config = check_file(tmp_path / "ours.yaml", {"ds": "2026-11-01"}, {})
    assert (config.input, config.output) == ("s3://b/in", "out/2026-11-01")
    assert "notes on the translation" in done.stderr
    for _, key, _ in import_config(tmp_path / "gdmix.yaml", "s3://b/in", "out/{{ ds }}").notes:
        assert f"# - {key}: " in done.stdout


def test_comments_never_reach_the_yaml(linear: Path):
    result = import_config(linear)
    result.check("a\nb", "line\nname: broken")
    assert yaml.safe_load(render_yaml(result, "some\nfile")) == result.content


ALL_KEYS = {
    "l2_reg_weight": st.floats(0, 100),
    "regularize_bias": st.booleans(),
    "has_intercept": st.booleans(),
    "feature_bag": st.sampled_from(["bag", None]),
    "feature_file": st.just("data/featureList/bag"),
    "metadata_file": st.just("elsewhere.json"),
    "validation_data_dir": st.just("data/test"),
    "lbfgs_tolerance": st.just("1e-9"),
    "num_of_lbfgs_iterations": st.integers(1, 500),
    "num_of_lbfgs_curvature_pairs": st.integers(1, 30),
    "offset_column_name": st.just("offset"),
    "fixed_effect_variance_mode": st.sampled_from(["simple", "FULL"]),
    **{key: st.just(1) for key in (*gdmix_keys.LINEAR, *gdmix_keys.FIXED, "l2_reg_wieght", "nonsense")},
}


@given(st.fixed_dictionaries({}, optional=ALL_KEYS))
def test_no_key_is_lost(given_keys: dict[str, Any]):
    """Whatever is given is in the result, or in a note under its name."""
    if given_keys.get("feature_bag") is None and given_keys.get("has_intercept") is False:
        return
    result = translate_gdmix(minimal(**given_keys))
    config = parse_config(result.content)
    ours = config.coordinates["global"]
    assert ours.l2 == given_keys.get("l2_reg_weight", 1.0)
    assert ours.intercept == given_keys.get("has_intercept", True)
    assert ours.regularize_intercept == (given_keys.get("regularize_bias", True) and ours.intercept)
    assert ours.bag == given_keys.get("feature_bag")
    assert ours.variances == given_keys.get("fixed_effect_variance_mode", "none").lower()
    assert config.columns.offset == given_keys.get("offset_column_name")
    effect = ours.fixed_effect
    assert effect is not None
    assert effect.max_iterations == given_keys.get("num_of_lbfgs_iterations", 500)
    assert effect.history == given_keys.get("num_of_lbfgs_curvature_pairs", 10)
    noted = {key.removeprefix("global.") for _, key, _ in result.notes}
    taken = {"l2_reg_weight", "regularize_bias", "has_intercept", "feature_bag", "feature_file", "offset_column_name",
             "fixed_effect_variance_mode", "num_of_lbfgs_iterations", "num_of_lbfgs_curvature_pairs"}  # fmt: skip
    assert set(given_keys) - taken <= noted
    if "l2_reg_wieght" in given_keys:
        assert "l2_reg_weight may have been meant" in notes(result)["global.l2_reg_wieght"]


def test_the_linear_losss_missing_half(linear: Path):
    """Σ (y − z)² + λ/2 w² and our ½ Σ (y − z)² + l2/2 w² have the same minimum."""
    schema = {"uid_column_name": "uid", "label_column_name": "y", "model_type": "linear_regression"}
    result = translate_gdmix(minimal(l2_reg_weight=3, gdmix_config=schema, regularize_bias=False))
    l2 = parse_config(result.content).coordinates["global"].l2_weight
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 3)), rng.normal(size=20)
    theirs = np.linalg.solve(2 * X.T @ X + 3 * np.eye(3), 2 * X.T @ y)
    ours = np.linalg.solve(X.T @ X + l2 * np.eye(3), X.T @ y)
    np.testing.assert_allclose(ours, theirs)
    assert any("without the ½" in text for _, _, text in result.notes)


def test_only_the_first_fixed_effect_is_gdmixs():
    given_content = content()
    given_content["fixed_effect_config"]["second"] = {"training_data_dir": "x"}
    result = translate_gdmix(given_content)
    assert list(result.content["coordinates"]) == ["global", "per_user"]
    assert "trains its first fixed effect (global) alone" in notes(result)["fixed_effect_config.second"]


def test_paths_that_are_not_in_the_layout_are_pointed_out():
    result = translate_gdmix(minimal(training_data_dir="a/b/train", feature_bag="x", metadata_file="m.json"))
    found = notes(result)
    assert found["global.training_data_dir"] == "check: must be a/b/trainingData; move or link a/b/train"
    assert found["global.metadata_file"].endswith("must be a/b/metadata/tensor_metadata.json; move or link m.json")
    assert "a/b/featureList/x is needed" in found["global.feature_file"]


def test_unknown_keys_of_a_random_effect_and_of_the_file():
    given_content = content()
    given_content["random_effect_config"]["per-user"]["optimiser"] = "x"
    given_content["notes"] = "mine"
    given_content["fixed_effect_config"]["global"]["gdmix_config"]["extra"] = 1
    found = notes(translate_gdmix(given_content))
    assert found["per-user.optimiser"] == "check: unknown key, at which GDMix fails"
    assert found["notes"].startswith("ignored: unknown key")
    assert found["gdmix_config.extra"] == "ignored: unknown key"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("output_dir"), "output_dir is missing"),
        (lambda c: c.pop("fixed_effect_config"), "fixed_effect_config is missing"),
        (
            lambda c: c["random_effect_config"]["per-user"].pop("partition_entity"),
            "per-user: partition_entity is missing",
        ),
        (lambda c: c["fixed_effect_config"]["global"].pop("training_data_dir"), "global: training_data_dir is missing"),
        (lambda c: c["fixed_effect_config"]["global"].update(l2_reg_weight="much"), "l2_reg_weight: expected a number"),
        (lambda c: c["fixed_effect_config"]["global"].update(regularize_bias="no"), "expected true or false"),
        (lambda c: c["random_effect_config"]["per-user"].update(random_effect_variance_mode="x"), "variance mode 'x'"),
        (
            lambda c: c["random_effect_config"]["per-user"].update(gdmix_config={"uid_column_name": "other"}),
            "uid_column_name: global has 'uid', per-user 'other'",
        ),
        (
            lambda c: c["random_effect_config"]["per-user"].update(gdmix_config={"model_type": "linear_regression"}),
            "coordinates have different model types",
        ),
        (lambda c: c["fixed_effect_config"].update({"global": 3}), "global: expected a mapping"),
    ],
)
def test_errors_say_which_key(change: Any, message: str):
    given_content = content()
    change(given_content)
    with pytest.raises(ConfigError, match=message):
        translate_gdmix(given_content)


def test_files_that_are_neither(tmp_path: Path):
    (tmp_path / "ours.yaml").write_text("name: x\ncoordinates: {}\n")
    with pytest.raises(ConfigError, match=r"ours.yaml: output_dir is missing"):
        import_config(tmp_path / "ours.yaml")
    with pytest.raises(ConfigError, match="no such file"):
        import_config(tmp_path / "absent.yaml")
