"""A night's text network starts from the one of the night before: from its run or export, scored, locked, refused."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from gdmix_core import storage
from gdmix_core.data.feature_list import FeatureList, write_feature_list
from gdmix_core.errors import ConfigError, DataError
from gdmix_core.execution import dispatch
from gdmix_core.models.initial.locate import find_initial
from gdmix_core.pipeline.loading import parse_config
from gdmix_core.pipeline.run import Run
from gdmix_core.pipeline.search_check import check_search
from gdmix_core.scoring.score_input import score_input
from tests.text.initial import nights
from tests.text.initial.nights import COORDINATES, NEW_FEATURES, OLD_FEATURES, PER_USER, TEXT

pytestmark = pytest.mark.tensorflow

# Training changes nothing that could be seen.
STILL: dict[str, Any] = {**TEXT, "epochs": 1, "optimizer": {"learning_rate": 1e-20, "name": "sgd"}}
STILL_COORDINATES: dict[str, Any] = {"global": {"fixed_effect": STILL}, "per_user": PER_USER}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return nights.first_night(tmp_path_factory.mktemp("first"))


@pytest.fixture
def remote(first: Run) -> Iterator[str]:
    url = "memory://models/first"
    storage.copy_directory(first.path("export"), url)
    yield url
    fsspec.filesystem("memory").rm("/models", recursive=True)


def expected_of(first: Run, rows: Any, common: Any) -> Any:
    """What the first night's network serves for rows of what both nights know; common: in the first night's lists."""
    assert rows.ids["title"] == common.ids["title"]
    return nights.served(first.path("export", "global", "saved_model"), common, OLD_FEATURES)


@pytest.mark.parametrize("source", ["run", "export", "remote"])
def test_it_goes_on_where_the_night_before_ended(
    first: Run, remote: str, tmp_path: Path, source: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = {"run": first.root, "export": first.path("export"), "remote": remote}[source]
    run = nights.second_night(tmp_path, path, STILL_COORDINATES)
    counts = nights.initialize_here(run)["global"]
    assert counts["source"].startswith(path)
    found = counts["vocabularies"]
    assert {name: [changes[key] for key in ("kept", "new", "dropped")] for name, changes in found.items()} == {
        "words": [6, 2, 1], "ids of user": [3, 1, 1], "features of context": [2, 1, 0], "features of tags": [5, 1, 1],
    }  # fmt: skip
    assert sorted(found["words"]["first_new"]) == ["fresh", "news"]
    assert (found["words"]["first_dropped"], found["ids of user"]["first_new"]) == (["gone"], ["u9"])
    assert found["features of tags"]["first_dropped"] == [("tags", "5")]
    assert "global: words: 6 kept, 2 new" in caplog.text
    assert "global: features of tags: 5 kept, 1 new (tags,9), 1 dropped (tags,5)" in caplog.text
    # Nobody trains before it, so nobody wants its scores.
    assert not storage.exists(run.scores(0, "global", "training"))
    assert storage.exists(run.scores(0, "per_user", "training"))
    nights.walk(run, "pass_01.global.evaluate")
    before = expected_of(first, nights.common_rows(100, 4), nights.common_rows(100, 4, OLD_FEATURES))
    after = nights.scores_of(run, "global", "validation")
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)
    assert np.std(before) > 0.05
    # Judged before it is trained, under the scores of the other coordinate's initial model.
    result = run.result("pass_01.global.train")
    assert result["best_step"] == 0
    metrics = run.result("pass_01.global.evaluate")["metrics"]["validation"]
    assert result["best_value"] == pytest.approx(metrics["auc"], abs=1e-6)


def test_it_learns_on_and_a_coordinate_before_it_trains_on_its_scores(first: Run, tmp_path: Path) -> None:
    reversed_order = dict(reversed(COORDINATES.items()))
    run = nights.second_night(tmp_path, first.root, reversed_order)
    nights.initialize_here(run)
    rows = nights.common_rows(100, 4, OLD_FEATURES)
    before = expected_of(first, nights.common_rows(100, 4), rows)
    given = storage.read_array(run.scores(0, "global", "validation"))
    np.testing.assert_allclose(given, before, rtol=1e-4, atol=1e-5)
    assert len(storage.read_array(run.scores(0, "global", "training"))) == 300
    nights.walk(run)
    own = nights.scores_of(run, "per_user", "validation")
    told = run.result("pass_01.per_user.evaluate")["metrics"]["validation"]["auc"]
    label, offset = np.asarray(rows.label), np.asarray(rows.offset)
    assert told == pytest.approx(roc_auc_score(label, offset + given + own), abs=1e-6)
    result = run.result("pass_01.global.train")
    assert result["steps"] > 0
    start = roc_auc_score(label, offset + own + before)
    assert result["best_value"] >= start - 1e-6
    # The third night starts from the second.
    third = nights.second_night(tmp_path / "third", run.root, reversed_order)
    vocabularies = nights.initialize_here(third)["global"]["vocabularies"]
    assert {(changes["new"], changes["dropped"]) for changes in vocabularies.values()} == {(0, 0)}


def locked_night(root: Path, first: Run) -> Run:
    coordinates = {"global": {"fixed_effect": TEXT, "locked": True}, "per_user": PER_USER}
    return nights.second_night(root, {"path": first.path("export")}, coordinates, passes={"max": 2})


@pytest.mark.slow
def test_a_locked_network_only_scores(first: Run, tmp_path: Path) -> None:
    run = locked_night(tmp_path / "locked", first)
    assert dispatch.execute(run, run.plan["initialize"])["models"] > 1  # in a process of its own
    nights.walk(run)
    assert run.result("initialize")["coordinates"]["global"]["locked"]
    assert run.result("pass_01.global.train")["locked"]
    assert [step.id for step in run.plan.steps if step.kind == "train_text"] == ["pass_01.global.train"]
    rows = nights.rows_of(300, 3, words=nights.NEW_WORDS, users=nights.NEW_USERS, features=NEW_FEATURES)
    write_input(tmp_path / "input", rows)
    for exported in (first, run):
        score_input(exported.root, str(tmp_path / "input"), str(tmp_path / "scores.parquet"))
        scored = pq.read_table(tmp_path / "scores.parquet")["global"].to_numpy()
        # Its own order of features, its own words: as the earlier export scores.
        np.testing.assert_allclose(nights.scores_of(run, "global", "training"), scored, rtol=1e-5, atol=1e-6)
    there, here = (Path(made.path("export", "global")) for made in (first, run))
    files = sorted(path.relative_to(there) for path in there.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(here) for path in here.rglob("*") if path.is_file())
    assert all((there / file).read_bytes() == (here / file).read_bytes() for file in files)
    assert find_initial(nights.second_night(tmp_path / "next", run.root).config).keys() == {"global", "per_user"}


def write_input(folder: Path, rows: Any) -> None:
    """The rows as gdmix score reads them."""
    for bag, names in nights.names_of(NEW_FEATURES).items():
        write_feature_list(str(folder / "featureList" / bag), FeatureList(names))
    scalar = {"shape": [], "isSparse": False}
    bags = {bag: np.asarray(matrix, np.float32) for bag, matrix in rows.bags.items()}
    entries = [{"name": name, "dtype": "long", **scalar} for name in ("uid", "person")]
    entries += [{"name": name, "dtype": "string", **scalar} for name in ("title", "user")]
    entries += [{"name": b, "dtype": "float", "shape": [m.shape[1]], "isSparse": False} for b, m in bags.items()]
    (folder / "metadata").mkdir(parents=True)
    (folder / "metadata" / "tensor_metadata.json").write_text(json.dumps({"features": entries, "labels": []}))
    table = {"uid": np.arange(len(rows)), **rows.ids}
    arrays = {name: pa.array(values) for name, values in table.items()}
    arrays |= {bag: pa.array(list(matrix), pa.list_(pa.float32())) for bag, matrix in bags.items()}
    (folder / "trainingData").mkdir()
    pq.write_table(pa.table(arrays), folder / "trainingData" / "a.parquet")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"units": 9}, "coordinates.global.fixed_effect.units is 8 there and 9 here. Set it"),
        ({"encoder": "gru"}, "coordinates.global.fixed_effect.encoder.type is 'cnn' there and 'gru' here. Set it"),
        (
            {"encoder": {"type": "cnn", "filters": 4, "windows": [1]}, "dense": []},
            r"dense is \['context'\] there and \[\] here; .*linear is .*; .*encoder.windows is \[1, 2\] there",
        ),
        ({"document": ["headline"]}, r"fixed_effect.document is \['title'\] there and \['headline'\] here"),
    ],
)
def test_another_architecture_is_one_error(first: Run, changes: dict[str, Any], told: str) -> None:
    def config(**more: Any) -> Any:
        coordinates = {**COORDINATES, "global": {"fixed_effect": {**TEXT, **changes}}}
        content = {"name": "a", "input": "b", "output": "c", "coordinates": coordinates}
        return parse_config({**content, "initial_model": {"path": first.root, "required": False}, **more})

    with pytest.raises(ConfigError, match=rf"network in .*/export/global has another architecture.*{told}") as error:
        find_initial(config())
    assert "coordinates.global.fixed_effect.warm_start: false" in str(error.value)
    anew = {"global": {"fixed_effect": {**TEXT, **changes, "warm_start": False}}, "per_user": PER_USER}
    assert find_initial(config(coordinates=anew)).keys() == {"per_user"}


def test_what_is_not_architecture_may_differ(first: Run, tmp_path: Path) -> None:
    trained_otherwise = {
        "dropout": 0.3, "batch": 32, "max_tokens": 9, "seed": 3, "vocabulary": {"min_count": 2},
        "optimizer": "lamb", "workers": 2, "loss": "pointwise",
    }  # fmt: skip
    coordinates = {**COORDINATES, "global": {"fixed_effect": {**TEXT, **trained_otherwise}}}
    content = {"name": "a", "input": "b", "output": "c", "coordinates": coordinates, "initial_model": first.root}
    assert find_initial(parse_config(content)).keys() == {"global", "per_user"}
    other_task = {**content, "task": "poisson_regression", "metrics": ["poisson_loss"]}
    with pytest.raises(DataError, match="a network of logistic_regression, but this pipeline's task is poisson"):
        find_initial(parse_config(other_task))


def test_an_export_without_weights_and_no_export_at_all(first: Run, tmp_path: Path) -> None:
    without = tmp_path / "without"
    shutil.copytree(first.path("export"), without)
    (without / "global" / "weights.npz").unlink()
    manifest = json.loads((without / "manifest.json").read_text())
    del manifest["contents"]  # as of a version that exported no weights
    (without / "manifest.json").write_text(json.dumps(manifest))
    content = {"name": "a", "input": "b", "output": "c", "coordinates": COORDINATES, "initial_model": str(without)}
    with pytest.raises(DataError, match=r"global: weights.npz is not there.* export the earlier run again"):
        find_initial(parse_config(content))
    # Its SavedModel is all that a locked one needs.
    locked = {**COORDINATES, "global": {"fixed_effect": TEXT, "locked": True}}
    assert "global" in find_initial(parse_config({**content, "coordinates": locked}))
    alone = {"global": COORDINATES["global"]}
    nothing = {**content, "coordinates": alone, "initial_model": {"path": str(tmp_path / "none"), "required": False}}
    assert find_initial(parse_config(nothing)) == {}
    run = nights.second_night(tmp_path, {"path": str(tmp_path / "none"), "required": False}, alone)
    assert nights.initialize_here(run) == {}
    nights.walk(run, "pass_01.global.train")
    assert run.result("pass_01.global.train")["best_step"] > 0


def test_faults_of_the_configuration() -> None:
    content = {"name": "a", "input": "b", "output": "c", "initial_model": "d", "coordinates": COORDINATES}
    prior = {"path": "d", "prior_weight": 1.0}
    parse_config({**content, "initial_model": prior})  # per_user has the prior, the network starts from its weights
    with pytest.raises(ConfigError, match="text network global can only start from its earlier weights"):
        parse_config({**content, "initial_model": prior, "coordinates": {"global": COORDINATES["global"]}})
    ranking = {**TEXT, "loss": "listwise", "group": "person"}
    locked = {"per_user": PER_USER, "global": {"fixed_effect": ranking, "locked": True}}
    with pytest.raises(ConfigError, match=r"a locked model is scored first.* scores of loss listwise are no margins"):
        parse_config({**content, "coordinates": locked})
    with pytest.raises(ConfigError, match=r"whose model is text: .* found in initial_model.path"):
        parse_config({**content, "initial_model": {"coordinates": {"global": "f.avro"}}})
    own = {"model": "python", "function": "a:b"}
    with pytest.raises(ConfigError, match="locked is a setting of linear models"):
        parse_config({**content, "coordinates": {"own": {"fixed_effect": own, "locked": True}, "per_user": PER_USER}})
    tune = {"parameters": {"coordinates.global.fixed_effect.units": [4, 8]}}
    with pytest.raises(ConfigError, match="it changes what initialize makes"):
        check_search(parse_config({**content, "tune": tune}))
    rate = {"parameters": {"coordinates.global.fixed_effect.optimizer.learning_rate": [0.01, 0.1]}}
    check_search(parse_config({**content, "tune": rate}))
