"""A Photon ML GAME training command as one of our pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gdmix_core.errors import ConfigError
from gdmix_core.migration.importing import import_config
from gdmix_core.migration.photon_command import translate_photon
from gdmix_core.pipeline.loading import parse_config

COMMAND = r"""
# nightly
spark-submit --class com.linkedin.photon.ml.cli.game.training.GameTrainingDriver --master yarn photon.jar \
  --input-data-directories hdfs://data/train --root-output-directory out/photon \
  --training-task LOGISTIC_REGRESSION \
  --feature-shard-configurations "name=globalShard,feature.bags=features,intercept=true" \
  --feature-shard-configurations "name=userShard,feature.bags=a|b,intercept=false" \
  --coordinate-configurations "name=global,feature.shard=globalShard,min.partitions=4,optimizer=TRON,tolerance=1e-7,max.iter=50,regularization=L2,reg.weights=0.1|10|1,down.sampling.rate=0.5" \
  --coordinate-configurations "name=per-user,feature.shard=userShard,random.effect.type=userId,min.partitions=4,optimizer=LBFGS,tolerance=1e-5,max.iter=10,regularization=ELASTIC_NET,reg.alpha=0.3,reg.weights=2,active.data.lower.bound=3,active.data.upper.bound=100,features.to.samples.ratio=0.5" \
  --coordinate-update-sequence global,per-user --coordinate-descent-iterations 2 \
  --validation-evaluators AUC,AUC:userId,PRECISION@5:userId,AUPR,LOGISTIC_LOSS \
  --normalization STANDARDIZATION
"""  # noqa: E501


def changed(*pairs: tuple[str, str]) -> str:
    text = COMMAND
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return text


def notes(result: Any) -> dict[str, str]:
    return {key: f"{kind}: {text}" for kind, key, text in result.notes}


def with_options(options: str) -> str:
    return COMMAND.rstrip() + " " + options


def test_a_whole_command(tmp_path: Path):
    path = tmp_path / "train.sh"
    # standardization moves means into the intercept, which this random effect does not have
    path.write_text(changed(("STANDARDIZATION", "SCALE_WITH_MAX_MAGNITUDE")))
    result = import_config(path)
    assert result.content == {
        "name": "photon",
        "task": "logistic_regression",
        "input": "hdfs://data/train",
        "output": "out/photon",
        "columns": {"uid": "uid", "label": "response"},
        "coordinates": {
            "global": {
                "fixed_effect": {"solver": "newton_cg", "max_iterations": 50, "downsampling": 0.5},
                "bag": "features",
                "l2": [10, 1, 0.1],
                "regularize_intercept": True,
                "normalization": "max_magnitude",
            },
            "per_user": {
                "random_effect": {
                    "entity": "userId",
                    "max_iterations": 10,
                    "samples": {"min": 3, "max": 100},
                    "features_to_samples": 0.5,
                },
                "bag": "userShard",
                "intercept": False,
                "l2": 2,
                "alpha": 0.3,
                "regularize_intercept": False,
                "normalization": "max_magnitude",
            },
        },
        "passes": {"max": 2, "min_delta": "none"},
        "metrics": ["auc", "auc@userId", "precision@5:userId", "logloss"],
        "export": {"sparsity_threshold": 1e-4},
    }
    found = notes(result)
    assert "union of a, b" in found["shard userShard"]
    assert found["--validation-evaluators AUPR"].startswith("ignored")
    assert "the same name" in found["global intercept"]
    assert found["tolerance"].startswith("changed: not taken over")


def test_a_coordinate_named_as_its_shard_has_a_free_intercept():
    """The one case in which Photon ML finds the intercept that it means to leave out (its quirk Q1)."""
    result = translate_photon(COMMAND.replace("globalShard", "global"))
    assert result.content["coordinates"]["global"]["regularize_intercept"] is False


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("regularization=NONE", {"l2": 0, "regularize_intercept": False}),
        ("reg.weights=3,regularization=L1", {"l2": 3, "alpha": 1, "regularize_intercept": True}),
        ("regularization=L1,reg.weights=1|5", {"l2": [5, 1], "alpha": 1, "regularize_intercept": True}),
    ],
)
def test_penalties(given: str, expected: dict[str, Any]):
    result = translate_photon(changed(("regularization=L2,reg.weights=0.1|10|1", given)))
    found = result.content["coordinates"]["global"]
    assert {key: found.get(key) for key in expected} == expected
    # L1 has a solver of its own
    assert ("solver" in found["fixed_effect"]) == ("alpha" not in expected)
    if not isinstance(expected["l2"], list):
        config = parse_config(result.content | {"coordinates": {"global": found}})
        assert config.coordinates["global"].l1_weight == (3 if "alpha" in expected else 0)
        assert config.coordinates["global"].l2_weight == 0


def test_tuning():
    result = translate_photon(
        changed(("reg.alpha=0.3", "reg.alpha=0.3,reg.weight.range=1e-2-1e+3"))
        + " --hyper-parameter-tuning BAYESIAN --hyper-parameter-tuning-iterations 7"
    )
    assert result.content["tune"] == {
        "method": "bayesian",
        "trials": 7,
        "parameters": {
            "coordinates.global.l2": {"low": 1e-4, "high": 1e4, "log": True},
            "coordinates.per_user.l2": {"low": 1e-2, "high": 1e3, "log": True},
            "coordinates.per_user.alpha": {"low": 0, "high": 1},
        },
    }
    assert result.content["coordinates"]["global"]["l2"] == 10
    result.content["coordinates"]["per_user"]["normalization"] = "none"
    assert parse_config(result.content).tune is not None


def test_incremental_training_from_a_renamed_coordinate(tmp_path: Path):
    result = translate_photon(
        changed(("min.partitions=4,optimizer=LBFGS", "min.partitions=4,incremental.weight=2,optimizer=LBFGS"))
        + f" --model-input-directory {tmp_path}/best/ --incremental-training true --variance-computation-type SIMPLE"
    )
    assert result.content["initial_model"] == {
        "path": f"{tmp_path}/best",
        "coordinates": {"per_user": f"{tmp_path}/best/random-effect/per-user"},
        "prior_weight": 1,
    }
    assert "the first of" in notes(result)["incremental.weight"]
    assert {c["variances"] for c in result.content["coordinates"].values()} == {"simple"}


def test_locked_coordinates_are_described_by_their_model(tmp_path: Path):
    lines = [line for line in COMMAND.splitlines() if "name=per-user" not in line]
    command = "\n".join(lines) + f" --model-input-directory {tmp_path} --partial-retrain-locked-coordinates per-user"
    with pytest.raises(ConfigError, match=r"per-user is locked, .*id-info is not there"):
        translate_photon(command)
    folder = tmp_path / "random-effect" / "per-user"
    folder.mkdir(parents=True)
    (folder / "id-info").write_text("userId\nuserShard\n")
    found = translate_photon(command).content["coordinates"]["per_user"]
    assert found == {
        "random_effect": {"entity": "userId"}, "bag": "userShard", "intercept": False, "locked": True,
    }  # fmt: skip
    (folder / "id-info").write_text("userShard\n")
    with pytest.raises(ConfigError, match="id-info: expected an entity and the name"):
        translate_photon(command)


def test_options_without_a_counterpart_are_listed():
    result = translate_photon(with_options("--tree-aggregate-depth 2 --output-mode=ALL --input-column-names weight=w"))
    assert notes(result)["--tree-aggregate-depth"].startswith("ignored")
    assert notes(result)["--output-mode"].startswith("ignored")
    assert result.content["columns"] == {"uid": "uid", "label": "response", "weight": "w"}


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (with_options("--no-such-option 3"), "--no-such-option: no option of GAME training"),
        (with_options("--output-mode"), "--output-mode: its value is missing"),
        (changed(("--training-task LOGISTIC_REGRESSION", "")), "--training-task is missing"),
        (changed(("LOGISTIC_REGRESSION", "NONE")), "--training-task NONE: expected one of"),
        (
            changed(("feature.shard=userShard", "feature.shard=other")),
            "per-user: feature.shard 'other' is not configured",
        ),
        (changed(("features.to.samples", "feature.to.samples")), "feature.to.samples.ratio is no key"),
        (changed(("reg.alpha=0.3,", "")), "per-user reg.alpha: expected a number"),
        (changed(("global,per-user --c", "global,per-item --c")), "coordinate per-item of the update sequence"),
        (with_options("--partial-retrain-locked-coordinates global"), "need --model-input-directory"),
    ],
)
def test_errors(command: str, message: str):
    with pytest.raises(ConfigError, match=message):
        translate_photon(command)
