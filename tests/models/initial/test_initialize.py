"""initialize: an earlier run's models in another run's shards and features, from every form in which they may lie."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_directory import Rows, make_run

from gdmix_core import storage
from gdmix_core.config.pipeline import Export
from gdmix_core.data.feature_list import INTERCEPT, Feature, FeatureList, read_feature_list
from gdmix_core.data.frame import Frame
from gdmix_core.data.hashing import hash_ids
from gdmix_core.errors import ConfigError, DataError, StepError
from gdmix_core.execution import dispatch
from gdmix_core.models.initial.written import model_features, read_initial
from gdmix_core.models.native import read_model, write_model
from gdmix_core.models.table import CoefficientTable
from gdmix_core.pipeline.run import Run
from tests.models.model_files import LOGISTIC, entry, record, write_records

OLD = {"global": [("age", ""), ("genre", "a,b"), ("gone", "")], "user": [("x", ""), ("y", 'say "t"'), ("z", "")]}
# In another order, without gone and z, with one more.
NEW = {"global": [("genre", "a,b"), ("new", ""), ("age", "")], "user": [("y", 'say "t"'), ("x", "")]}
COORDINATES: dict[str, Any] = {
    "global": {"fixed_effect": {}, "bag": "global"},
    "per_user": {"random_effect": {"entity": "user_id", "shards": 3}, "bag": "user", "regularize_intercept": True},
}
Named = dict[Any, dict[Feature, tuple[float, float | None]]]


def make_rows(names: dict[str, list[Feature]], *, seed: int = 0, text: bool = False) -> Rows:
    rng = np.random.default_rng(seed)
    user = rng.integers(-4, 9, 200)
    bags = {bag: rng.normal(size=(200, len(listed))) for bag, listed in names.items()}
    label = (rng.random(200) < 0.5).astype(float)
    return Rows(label, ids={"user_id": [f"u{u}" for u in user] if text else user}, bags=bags)


def earlier_run(root: Path, *, text: bool = False, variances: bool = True, **changes: Any) -> Run:
    """A finished run over the OLD features, whose exported models have variances."""
    run = make_run(root, {"coordinates": COORDINATES, **changes}, make_rows(OLD, text=text), feature_names=OLD)
    for step in run.plan.steps[2:-1]:
        dispatch.execute(run, step)
        if variances and step.kind.startswith("train"):
            for path in Path(run.coordinate(1, str(step.coordinate), "model")).glob("*.parquet"):
                t = read_model(str(path))
                spread = 0.5 + np.arange(len(t.means)) % 7
                write_model(str(path), CoefficientTable(t.entities, t.offsets, t.features, t.means, spread))
            run.commit(step, run.result(step.id))
    dispatch.execute(run, run.plan["export"])
    return run


def new_run(root: Path, initial: Any, *, shards: int = 5, text: bool = False, **changes: Any) -> Run:
    effect = {"entity": "user_id", "shards": shards}
    coordinates = {**COORDINATES, "per_user": {**COORDINATES["per_user"], "random_effect": effect}}
    config = {"coordinates": coordinates, "initial_model": initial, **changes}
    return make_run(root, config, make_rows(NEW, seed=1, text=text), feature_names=NEW)


def initialized(run: Run) -> dict[str, Any]:
    return dispatch.execute(run, run.plan["initialize"])["coordinates"]


def named(tables: list[CoefficientTable], features: FeatureList) -> Named:
    names = [*features.names, INTERCEPT]
    found: Named = {}
    for table in tables:
        assert table.entities.to_pylist() == sorted(table.entities.to_pylist())
        for e, entity in enumerate(table.entities.to_pylist()):
            assert entity not in found
            span = range(table.offsets[e], table.offsets[e + 1])
            variances = [None] * len(table.means) if table.variances is None else table.variances.tolist()
            found[entity] = {names[table.features[s]]: (float(table.means[s]), variances[s]) for s in span}
    return found


def exported(run: Run, name: str) -> Named:
    folder = Path(run.path("export", name))
    tables = [read_model(str(path)) for path in sorted(folder.glob("*.parquet"))]
    return named(tables, read_feature_list(str(folder / "features.csv")))


def initial(run: Run, name: str, shards: int = 1) -> Named:
    tables = [read_initial(run, name, number) for number in range(shards)]
    for number, table in enumerate(tables):
        if name != "global" and table is not None:
            assert set((hash_ids(table.entities) % np.uint64(shards)).tolist()) == {number}
    return named([t for t in tables if t is not None], model_features(run, Frame(run), name))


def without(models: Named, *features: Feature) -> Named:
    return {e: {f: v for f, v in model.items() if f not in features} for e, model in models.items()}


def same(found: Named, expected: Named) -> None:
    assert found == {e: {f: (m, pytest.approx(v)) for f, (m, v) in model.items()} for e, model in expected.items()}


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("formats", [["native"], ["avro"]])
@pytest.mark.parametrize("where", ["run", "export"])
def test_other_shards_and_feature_lists(tmp_path: Path, text, formats, where, caplog):
    old = earlier_run(tmp_path / "old", text=text, export={"formats": ["native", "avro"]})
    expected = {name: exported(old, name) for name in COORDINATES}
    if formats == ["avro"]:
        old = Run.create(old.config.model_copy(update={"export": Export(formats=["avro"])}))
        dispatch.execute(old, old.plan["export"])
        assert not list(Path(old.path("export", "per_user")).glob("*.parquet"))
    path = old.root if where == "run" else old.path("export")
    run = new_run(tmp_path / "new", path, text=text)
    with caplog.at_level(logging.WARNING):
        counts = initialized(run)
    same(initial(run, "global"), without(expected["global"], ("gone", "")))
    same(initial(run, "per_user", 5), without(expected["per_user"], ("z", "")))
    assert counts["global"]["features_matched"] == 2
    assert counts["global"]["first_dropped"] == [["gone", ""]]
    assert counts["per_user"]["models"] == len(expected["per_user"])
    assert counts["per_user"]["coefficients_dropped"] == len(expected["per_user"])
    assert counts["per_user"]["coefficients"] == sum(map(len, expected["per_user"].values())) - len(
        expected["per_user"]
    )
    assert "dropped with 1 coefficients: gone," in caplog.text
    assert run.result("initialize")["coordinates"] == counts
    assert not storage.exists(run.path("initial", "per_user", "pieces"))


def test_features_without_data_are_kept_after_the_runs_own(tmp_path: Path, caplog):
    old = earlier_run(tmp_path / "old")
    run = new_run(tmp_path / "new", {"path": old.root, "features_without_data": "keep"})
    with caplog.at_level(logging.WARNING):
        counts = initialized(run)
    same(initial(run, "global"), exported(old, "global"))
    same(initial(run, "per_user", 5), exported(old, "per_user"))
    assert read_feature_list(run.initial_features("global")).names == [*NEW["global"], ("gone", "")]
    assert read_feature_list(run.initial_features("per_user")).names == [*NEW["user"], ("z", "")]
    assert (counts["global"]["features_appended"], counts["global"]["features_dropped"]) == (1, 0)
    assert counts["per_user"]["first_appended"] == [["z", ""]]
    assert "kept, after it: gone," in caplog.text


def test_features_are_kept_under_a_prior_by_default(tmp_path: Path):
    old = earlier_run(tmp_path / "old")
    run = new_run(tmp_path / "new", {"path": old.root, "prior_weight": 2})
    assert initialized(run)["per_user"]["features_appended"] == 1


def test_avro_as_photon_writes_it(tmp_path: Path):
    """By absolute value, small means and variances left out each on its own, ids as strings, several files."""
    folder = tmp_path / "best"
    fixed, random = (folder / kind / "coefficients" for kind in ("fixed-effect/global", "random-effect/per_user"))
    fixed.mkdir(parents=True)
    random.mkdir(parents=True)
    (folder / "fixed-effect" / "global" / "id-info").write_text("globalShard")
    write_records(
        fixed / "part-00000.avro",
        [record("fixed-effect", [entry("genre", -2.0, "a,b"), entry("age", 1.0)], [entry("(INTERCEPT)", 0.5)])],
    )
    write_records(random / "part-00000.avro", [record("8", [entry("x", 3.0)], [entry("x", 0.25)])])
    write_records(random / "part-00001.avro", [])
    write_records(
        random / "part-00002.avro", [record("-4", [entry("(INTERCEPT)", 7.0)]), record("10", [entry("z", 1.0)])]
    )
    run = new_run(tmp_path / "new", str(folder))
    counts = initialized(run)
    nan = pytest.approx(math.nan, nan_ok=True)
    assert initial(run, "global") == {
        "global": {INTERCEPT: (0.0, 0.5), ("genre", "a,b"): (-2.0, nan), ("age", ""): (1.0, nan)}
    }
    found = {e: {f: mean for f, (mean, _) in m.items()} for e, m in initial(run, "per_user", 5).items()}
    assert found == {8: {INTERCEPT: 0.0, ("x", ""): 3.0}, -4: {INTERCEPT: 7.0}, 10: {INTERCEPT: 0.0}}
    assert initial(run, "per_user", 5)[8][("x", "")] == (3.0, 0.25)
    assert counts["per_user"]["intercepts_added"] == 2
    assert counts["per_user"]["coefficients_with_variance"] == 1


def test_gdmix_layout_and_files_by_coordinate(tmp_path: Path):
    models = tmp_path / "gdmix" / "global" / "models"
    models.mkdir(parents=True)
    write_records(models / "part-00000.avro", [record("global model", [entry("(INTERCEPT)", 0.0), entry("age", 1.0)])])
    other = write_records(tmp_path / "users.avro", [record("5", [entry("(INTERCEPT)", 2.0)])])
    both = {"path": str(tmp_path / "gdmix"), "coordinates": {"per_user": other}}
    run = new_run(tmp_path / "new", both)
    assert {name: c["models"] for name, c in initialized(run).items()} == {"global": 1, "per_user": 1}
    assert initial(run, "per_user", 5) == {5: {INTERCEPT: (2.0, None)}}
    alone = new_run(tmp_path / "alone", str(tmp_path / "gdmix"))
    assert set(initialized(alone)) == {"global"}
    assert read_initial(alone, "per_user", 0) is None


def test_models_on_an_object_store(tmp_path: Path):
    old = earlier_run(tmp_path / "old")
    for path in Path(old.path("export")).rglob("*.*"):
        with storage.open_for_write(f"memory://earlier/{path.relative_to(old.path('export'))}") as file:
            file.write(path.read_bytes())
    expected = without(exported(old, "per_user"), ("z", ""))
    run = new_run(tmp_path / "new", "memory://earlier/")
    initialized(run)
    same(initial(run, "per_user", 5), expected)
    one_file = {"coordinates": {"global": "memory://earlier/global/part-00000.avro"}}
    assert initialized(new_run(tmp_path / "other", one_file))["global"]["models"] == 1


def test_integer_ids_become_strings_where_the_column_has_strings(tmp_path: Path):
    old = earlier_run(tmp_path / "old")
    run = new_run(tmp_path / "new", old.root, text=True)
    initialized(run)
    assert set(initial(run, "per_user", 5)) == {str(user) for user in exported(old, "per_user")}


def test_models_of_entities_below_samples_min_are_no_models(tmp_path: Path):
    effect = {"entity": "user_id", "shards": 2, "samples": {"min": 15}}
    coordinates = {**COORDINATES, "per_user": {**COORDINATES["per_user"], "random_effect": effect}}
    old = earlier_run(tmp_path / "old", coordinates=coordinates)
    expected = {e: m for e, m in exported(old, "per_user").items() if m}
    assert 0 < len(expected) < len(exported(old, "per_user"))
    run = new_run(tmp_path / "new", old.root)
    assert initialized(run)["per_user"]["models"] == len(expected)


@pytest.fixture
def avro(tmp_path: Path) -> Any:
    """Writes per_user models as Avro; returns initial_model's block."""

    def write(*records: dict[str, Any], **changes: Any) -> dict[str, Any]:
        path = write_records(tmp_path / "part-0.avro", list(records))
        return {"coordinates": {"per_user": path}, **changes}

    return write


def test_an_id_that_is_no_integer(tmp_path: Path, avro):
    run = new_run(tmp_path / "new", avro(record("u5", [entry("x", 1.0)])))
    with pytest.raises(DataError, match=r"part-0.avro: modelId 'u5' is no plain 64-bit integer"):
        initialized(run)
    old = earlier_run(tmp_path / "old", text=True)
    with pytest.raises(DataError, match=r"old/run/export/per_user: entity 'u-?\d' is no plain integer"):
        initialized(new_run(tmp_path / "newer", old.root))


def test_an_entity_in_two_files(tmp_path: Path):
    folder = tmp_path / "models"
    folder.mkdir()
    for number in range(2):
        write_records(folder / f"part-{number}.avro", [record("5", [entry("x", 1.0)])])
    with pytest.raises(DataError, match="models: entity 5 has two models"):
        initialized(new_run(tmp_path / "new", {"coordinates": {"per_user": str(folder)}}))


def test_another_task(tmp_path: Path, avro):
    linear = LOGISTIC.replace("classification.LogisticR", "regression.LinearR")
    run = new_run(tmp_path / "new", avro(record("5", [entry("x", 1.0)], model_class=linear)))
    with pytest.raises(DataError, match="models of linear_regression, but this pipeline's task is logistic_regression"):
        initialized(run)
    old = earlier_run(tmp_path / "old")
    other = new_run(tmp_path / "other", old.root, task="linear_regression", metrics=["rmse"])
    with pytest.raises(DataError, match="models of logistic_regression"):
        initialized(other)


def test_a_prior_needs_variances(tmp_path: Path):
    old = earlier_run(tmp_path / "old", variances=False)
    run = new_run(tmp_path / "new", {"path": old.root, "prior_weight": 1})
    with pytest.raises(DataError, match=r"models of global have no variances.*coordinates.global.variances: simple"):
        initialized(run)
    initialized(new_run(tmp_path / "warm", old.root))


def test_a_coordinate_without_a_model_is_named(tmp_path: Path, avro, caplog):
    run = new_run(tmp_path / "new", avro(record("5", [entry("x", 1.0)])))
    with caplog.at_level(logging.WARNING):
        assert set(initialized(run)) == {"per_user"}
    assert "global: the initial model has none; it starts from nothing" in caplog.text
    locked = {**COORDINATES, "global": {**COORDINATES["global"], "locked": True}}
    with pytest.raises(DataError, match="coordinate global is locked, but initial_model has no model of it"):
        initialized(new_run(tmp_path / "locked", run.config.initial_model, coordinates=locked))


def test_a_fixed_effect_does_not_become_a_random_one(tmp_path: Path):
    old = earlier_run(tmp_path / "old")
    swapped = {"global": {**COORDINATES["per_user"]}, "other": COORDINATES["global"]}
    with pytest.raises(DataError, match="coordinate global is a fixed effect there"):
        initialized(new_run(tmp_path / "new", old.root, coordinates=swapped))


def test_wrong_places(tmp_path: Path):
    with pytest.raises(DataError, match=r"nothing is at .*nowhere"):
        initialized(new_run(tmp_path / "a", str(tmp_path / "nowhere")))
    with pytest.raises(DataError, match=r"per_user: .*nowhere: no Avro file"):
        initialized(new_run(tmp_path / "b", {"coordinates": {"per_user": str(tmp_path / "nowhere")}}))
    unfinished = make_run(tmp_path / "c", {"coordinates": COORDINATES}, make_rows(OLD), feature_names=OLD)
    with pytest.raises(DataError, match="is a run without an export, begun and not finished; finish it"):
        initialized(new_run(tmp_path / "d", unfinished.root))
    with pytest.raises(ConfigError, match=r"output .*e/run is initial_model.path"):
        initialized(new_run(tmp_path / "e", str(tmp_path / "e" / "run")))
    old = earlier_run(tmp_path / "old")
    renamed = {f"other_{name}": coordinate for name, coordinate in COORDINATES.items()}
    with pytest.raises(DataError, match="has none of this pipeline's coordinates"):
        initialized(new_run(tmp_path / "f", old.root, coordinates=renamed))


def test_coordinates_without_intercepts_or_bags(tmp_path: Path):
    old = earlier_run(tmp_path / "old")
    coordinates = {
        "global": {"fixed_effect": {}},
        "per_user": {"random_effect": {"entity": "user_id", "shards": 1}, "bag": "user", "intercept": False},
    }
    run = new_run(tmp_path / "new", {"path": old.root, "features_without_data": "keep"}, coordinates=coordinates)
    counts = initialized(run)
    assert counts["global"]["coefficients"] == 1
    assert counts["global"]["features_dropped"] == 3
    assert counts["per_user"]["intercepts_dropped"] == counts["per_user"]["models"]
    assert all(INTERCEPT not in model for model in initial(run, "per_user").values())


def test_results_are_current_until_the_earlier_models_change(tmp_path: Path):
    old = earlier_run(tmp_path / "old")
    run = new_run(tmp_path / "new", old.root)
    with pytest.raises(StepError, match=r"needs initialize, which is missing"):
        dispatch.execute(run, run.plan["pass_01.global.train"])
    initialized(run)
    first = dict(run.keys)
    assert Run.open(run.root).keys == first
    marker = Path(run.marker(run.plan["initialize"]))
    stamp = marker.stat().st_mtime_ns
    initialized(Run.open(run.root))
    assert marker.stat().st_mtime_ns == stamp
    for path in Path(old.path("export", "global")).glob("*.parquet"):
        write_model(str(path), read_model(str(path)))
    again = Run.open(run.root)
    initialized(again)
    assert marker.stat().st_mtime_ns != stamp
    changed = {step for step in first if again.keys[step] != first[step]}
    assert changed == set(first) - {"validate", "partition"}
    assert Run.open(run.root).keys == again.keys


def test_what_lies_there_from_another_configuration_is_not_read(tmp_path: Path):
    old = earlier_run(tmp_path / "old")
    run = new_run(tmp_path / "new", {"path": old.root, "features_without_data": "keep"})
    initialized(run)
    plain = new_run(tmp_path / "new", None)
    assert storage.exists(plain.initial_features("global"))
    assert read_initial(plain, "global", 0) is None
    assert model_features(plain, Frame(plain), "global").names == NEW["global"]
