"""An export, and a run's own files, of which one is gone, cut, altered, doubled or exchanged: never other scores."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gdmix_core.data.feature_list import FeatureList
from gdmix_core.errors import DataError, GdmixError
from gdmix_core.execution import dispatch
from gdmix_core.models.avro.files import write_avro
from gdmix_core.models.initial.locate import find_initial
from gdmix_core.models.native import read_model
from gdmix_core.pipeline.loading import parse_config
from gdmix_core.pipeline.run import Run
from gdmix_core.scoring.score_input import score_input
from tests.run_directory import Rows, make_run, walk

COORDINATES: dict[str, Any] = {
    "global": {"fixed_effect": {}, "bag": "f"},
    "per_user": {"random_effect": {"entity": "user", "shards": 3}, "bag": "f", "l2": "auto"},
}
CONFIG: dict[str, Any] = {
    "coordinates": COORDINATES,
    "passes": {"max": 2, "min_delta": "none"},
}
ROWS, FEATURES = 120, 4


def make_rows(seed: int = 0) -> Rows:
    draw = np.random.default_rng(seed)
    users = [f"u{k}" for k in draw.integers(0, 12, ROWS)]
    label = (draw.random(ROWS) < 0.5).astype(float)
    return Rows(label, ids={"user": users}, bags={"f": draw.normal(size=(ROWS, FEATURES)).astype(np.float32)})


@cache
def finished() -> Path:
    """A folder with a finished run, and new data to score."""
    root = Path(mkdtemp(prefix="gdmix-whole-"))
    walk(make_run(root, CONFIG, make_rows(), make_rows(1)))
    _write_input(root / "new")
    return root


def _write_input(folder: Path) -> None:
    rows = make_rows(2)
    bag = rows.matrix("f")
    (folder / "metadata").mkdir(parents=True)
    (folder / "trainingData").mkdir()
    (folder / "featureList").mkdir()
    described = [{"name": "uid", "dtype": "long", "shape": []}, {"name": "user", "dtype": "string", "shape": []}]
    described.append({"name": "f", "dtype": "float", "shape": [FEATURES], "isSparse": True})
    (folder / "metadata/tensor_metadata.json").write_text(json.dumps({"features": described, "labels": []}))
    (folder / "featureList/f").write_text("".join(f"feature,{k}\n" for k in range(FEATURES)))
    indices = np.split(bag.indices.astype(np.int64), bag.indptr[1:-1])
    values = np.split(bag.data.astype(np.float32), bag.indptr[1:-1])
    columns = {"uid": list(range(ROWS)), "user": list(rows.ids["user"]), "f_indices": indices, "f_values": values}
    pq.write_table(pa.table(columns), folder / "trainingData/part-00000.parquet")


def score(model: Path, kind: Any) -> list[float]:
    output = model.parent / f"{kind}.parquet"
    score_input(str(model), str(finished() / "new"), str(output), kind=kind)
    return pq.read_table(output)["score"].to_pylist()


@cache
def expected(kind: str) -> list[float]:
    return score(finished() / "run", kind)


def damage(path: Path, how: str, others: list[Path]) -> None:
    content = path.read_bytes()
    if how == "gone":
        path.unlink()
    elif how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "altered":
        path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:] if len(content) > 9 else b"?")
    elif how == "doubled":
        shutil.copy(path, path.with_name(f"{path.stem[:-1]}9{path.suffix}"))
        shutil.copy(path, path.with_name(f"copy of {path.name}"))
    else:
        same = [other for other in others if other.suffix == path.suffix and other != path]
        path.write_bytes(same[0].read_bytes() if same else b"")


def attempt(call: Callable[[], Any]) -> tuple[Any, str]:
    """What it returns, and the message of its error, if it ends in one of ours."""
    try:
        return call(), ""
    except GdmixError as error:
        return None, str(error)


HOW = st.sampled_from(["gone", "cut", "altered", "doubled", "exchanged"])
_SLOW = settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])


@_SLOW
@given(st.integers(0, 99), HOW, st.sampled_from(["native", "avro"]))
def test_an_export_that_is_not_whole_never_gives_other_scores(number, how, kind):
    model = Path(mkdtemp(dir=finished())) / "export"
    shutil.copytree(finished() / "run/export", model)
    files = sorted(path for path in model.rglob("*") if path.is_file() and path.name != "manifest.json")
    damage(files[number % len(files)], how, files)
    found, error = attempt(lambda: score(model, kind))
    assert found == expected(kind) or str(model) in error
    shutil.rmtree(model.parent)


@pytest.mark.parametrize("kind", ["native", "avro"])
@pytest.mark.parametrize("coordinate", ["global", "per_user"])
def test_a_models_file_that_is_gone_is_named(kind, coordinate):
    model = Path(mkdtemp(dir=finished())) / "export"
    shutil.copytree(finished() / "run/export", model)
    path = sorted((model / coordinate).glob("*.parquet" if kind == "native" else "*.avro"))[-1]
    path.unlink()
    with pytest.raises(DataError, match=rf"{path} is missing; copy the whole export again"):
        score(model, kind)


@_SLOW
@given(st.integers(0, 99), HOW)
def test_a_run_never_starts_from_half_a_model(number, how):
    root = Path(mkdtemp(dir=finished()))
    shutil.copytree(finished() / "run/export", root / "old")
    files = sorted(path for path in (root / "old").rglob("*.parquet"))
    files += sorted(path for path in (root / "old").rglob("*.csv"))
    damage(files[number % len(files)], how, files)
    run = make_run(root, {**CONFIG, "initial_model": str(root / "old")}, make_rows(), make_rows(1))
    made, error = attempt(lambda: dispatch.execute(run, run.plan["initialize"])["coordinates"])
    models = made and {name: counts["models"] for name, counts in made.items()}
    assert models == {"global": 1, "per_user": len(set(make_rows().ids["user"]))} or str(root / "old") in error
    shutil.rmtree(root)


def contents(run: Path) -> dict[str, bytes]:
    wanted = [run / "export", *(run / "passes").rglob("scores")]
    return {str(p.relative_to(run)): p.read_bytes() for folder in wanted for p in folder.rglob("*") if p.is_file()}


@_SLOW
@example(0, "gone")
@given(st.integers(0, 99), st.sampled_from(["gone", "cut", "altered", "exchanged"]))
def test_a_run_makes_again_what_is_not_whole_or_says_so(number, how):
    root = Path(mkdtemp(dir=finished()))
    shutil.copytree(finished() / "run", root / "run")
    for path in ("config.yaml", "gdmix-run.json"):  # the folder is another one
        if (root / "run" / path).exists():
            content = (root / "run" / path).read_text()
            (root / "run" / path).write_text(content.replace(str(finished()), str(root)))
    own = [root / "run" / folder for folder in ("passes", "frame", "shards")]
    files = sorted(p for folder in own for p in folder.rglob("*") if p.suffix in (".parquet", ".npy", ".csv", ".npz"))
    before = contents(root / "run")
    damage(files[number % len(files)], how, files)
    run = Run.open(str(root / "run"))
    _, error = attempt(lambda: walk(run))
    if error:
        assert str(files[number % len(files)]) in error or "run it first" in error
    else:
        after = contents(root / "run")
        # What nobody has to read any more, because all that depends on it is done, may stay as it is.
        unread = files[number % len(files)] if how in ("altered", "exchanged") else root
        assert [root / "run" / path for path in before if after.get(path) != before[path]] in ([], [unread])
    shutil.rmtree(root)


def test_a_lost_score_vector_is_made_again(caplog):
    root = Path(mkdtemp(dir=finished()))
    shutil.copytree(finished() / "run", root / "run")
    run = Run.open(str(root / "run"))
    before = contents(root / "run")
    Path(run.scores(1, "per_user", "validation")).unlink()
    with caplog.at_level(logging.WARNING):
        walk(run)
    assert contents(root / "run") == before
    assert "scores/validation.npy is missing" in caplog.text


@pytest.mark.parametrize("name", ["metrics.json", "model/shard-00001.json", "model/manifest.json"])
def test_a_marker_that_was_cut_off_is_made_again(name: str):
    root = Path(mkdtemp(dir=finished()))
    shutil.copytree(finished() / "run", root / "run")
    run = Run.open(str(root / "run"))
    before = contents(root / "run")
    path = Path(run.coordinate(1, "per_user", name))
    path.write_bytes(path.read_bytes()[:20])
    if name.endswith("shard-00001.json"):  # it is read while the step is not done
        Path(run.marker(run.plan["pass_01.per_user.train"])).unlink()
    walk(run)
    assert contents(root / "run") == before


@pytest.mark.parametrize("prior_weight", [0.0, 1.0])
@pytest.mark.parametrize("suffix", ["avro"])
def test_a_coordinates_folder_of_an_export_is_whole_or_refused(prior_weight: float, suffix: str):
    root = Path(mkdtemp(dir=finished()))
    shutil.copytree(finished() / "run/export", root / "export")
    config = {**CONFIG, "initial_model": {"coordinates": {"per_user": str(root / "export/per_user")},
                                          "prior_weight": prior_weight}}  # fmt: skip
    checked = parse_config({**config, "name": "p", "input": "i", "output": str(root / "run")})
    assert find_initial(checked)
    next((root / "export/per_user").glob(f"*.{suffix}")).unlink()
    with pytest.raises(DataError, match=rf"part-\d+\.{suffix} is missing"):
        find_initial(checked)


def test_scores_are_not_evaluated_anew_before_they_are_known_to_be_whole(caplog):
    """With other metrics the evaluation is made again, of the vector that the older one vouched for."""
    root = Path(mkdtemp(dir=finished()))
    shutil.copytree(finished() / "run", root / "run")
    run = Run.open(str(root / "run"))
    before = run.result("pass_01.per_user.evaluate")["metrics"]
    path = Path(run.scores(1, "per_user", "training"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-4] + bytes(4))
    metrics = [*run.config.metrics, "mse"]
    with caplog.at_level(logging.WARNING):
        walk(Run.create(run.config.model_copy(update={"metrics": metrics, "output": str(root / "run")})))
    assert path.read_bytes() == whole
    after = Run.open(str(root / "run")).result("pass_01.per_user.evaluate")["metrics"]
    assert {name: after["training"][name] for name in before["training"]} == before["training"]
    assert "per_user.train is not whole" in caplog.text


@pytest.mark.parametrize("change", ["coordinate of the configuration", "coordinate", "key", "type"])
def test_a_manifest_that_contradicts_itself_is_refused(change: str):
    model = Path(mkdtemp(dir=finished())) / "export"
    shutil.copytree(finished() / "run/export", model)
    manifest = json.loads((model / "manifest.json").read_text())
    if change == "coordinate of the configuration":
        del manifest["config"]["coordinates"]["per_user"]
    elif change == "coordinate":
        del manifest["coordinates"]["per_user"]
    elif change == "key":
        del manifest["coordinates"]["per_user"]["models"]
    else:
        manifest["coordinates"] = list(manifest["coordinates"])
    (model / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"manifest\.json: its coordinates are not those of its configuration"):
        score(model, "native")


def test_an_export_of_an_earlier_version_is_checked_by_its_counts(caplog):
    model = Path(mkdtemp(dir=finished())) / "export"
    shutil.copytree(finished() / "run/export", model)
    manifest = json.loads((model / "manifest.json").read_text())
    del manifest["contents"]
    (model / "manifest.json").write_text(json.dumps(manifest))
    with caplog.at_level(logging.WARNING):
        assert score(model, "native") == expected("native")
    assert "names no digests" in caplog.text
    (model / "per_user/shard-00001.parquet").unlink()
    with pytest.raises(DataError, match=r"files are missing or too many: look for .*shard-00001"):
        score(model, "native")
    shutil.copy(model / "per_user/shard-00000.parquet", model / "per_user/shard-00001.parquet")
    with pytest.raises(DataError, match="models, but the export's manifest says"):
        score(model, "native")


def test_two_undisturbed_runs_export_the_same_bytes():
    root = Path(mkdtemp(dir=finished()))
    walk(make_run(root, CONFIG, make_rows(), make_rows(1)))
    first, second = (
        {str(p.relative_to(run)): p.read_bytes() for p in run.rglob("*") if p.is_file() and p.name != "manifest.json"}
        for run in (finished() / "run/export", root / "run/export")
    )
    assert first == second
    assert any(path.endswith(".avro") for path in first)


def test_a_fixed_effect_in_two_files_is_found_before_the_run(tmp_path):
    from gdmix_core.execution import preflight
    from gdmix_core.pipeline.loading import parse_config

    table = read_model(str(finished() / "run/export/global/shard-00000.parquet"))
    features = FeatureList([("feature", str(k)) for k in range(FEATURES)])
    for number in range(2):
        path = str(tmp_path / f"models/part-0000{number}.avro")
        write_avro(path, table, features, "logistic_regression", fixed=True)
    initial = {"coordinates": {"global": str(tmp_path / "models")}}
    config = parse_config({
        **CONFIG, "name": "p", "input": "in", "output": str(tmp_path / "run"), "initial_model": initial,
    })  # fmt: skip
    with pytest.raises(DataError, match="a fixed effect is one model, found 2"):
        preflight.check(config, data_here=False)
