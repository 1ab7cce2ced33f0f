"""Coordinates that are external or python: exported, scored, searched over and passed by initial models."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import synthetic_input as synthetic
from click.testing import CliRunner
from run_directory import Rows, make_run, walk

from gdmix_core.cli.command import main
from gdmix_core.errors import ConfigError, DataError
from gdmix_core.pipeline.loading import parse_config
from gdmix_core.pipeline.run import Run
from gdmix_core.scoring.score_input import score_input
from gdmix_core.search.trials import finished_trials

EXTERNAL = {"fixed_effect": {"model": "external", "scores": ["anywhere.parquet"]}}
OWN = {"fixed_effect": {"model": "python", "function": "zeros_of_own:train", "bags": ["global"]}}
PER_USER = {"random_effect": {"entity": "user_id", "shards": 2}, "bag": "per_user"}
NAMES = {name: [(f"{name}_{i}", "") for i in range(size)] for name, size in synthetic.FEATURES.items()}
DATA = synthetic.make_rows(60, seed=2)


@pytest.fixture(autouse=True)
def an_own_trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "zeros_of_own.py").write_text(
        "def train(given):\n"
        "    (given.folder / 'model.txt').write_text('of pass %d' % given.pass_number)\n"
        "    return {split: given.offsets[split] * 0.5 for split in given.splits}\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    yield
    sys.modules.pop("zeros_of_own", None)


def rows_of(rows: int, seed: int) -> Rows:
    data = synthetic.make_rows(rows, seed=seed)
    bags = {name: synthetic.dense(data[name], size) for name, size in synthetic.FEATURES.items()}
    scores = np.random.default_rng(seed).normal(size=rows)
    ids = {"user_id": data["user_id"]}
    return Rows(data["response"], data["weight"], data["offset"], ids=ids, bags=bags, scores={"elsewhere": scores})


def content(**changes: Any) -> dict[str, Any]:
    return {
        "columns": {"label": "response", "weight": "weight", "offset": "offset"},
        "coordinates": {"elsewhere": EXTERNAL, "own": OWN, "per_user": PER_USER},
        "metrics": ["logloss"],
        **changes,
    }


def made(root: Path, **changes: Any) -> Run:
    run = make_run(root, content(**changes), rows_of(200, 1), rows_of(80, 3), feature_names=NAMES)
    walk(run)
    return run


@pytest.fixture
def model(tmp_path: Path) -> Run:
    return made(tmp_path / "model", passes={"max": 2})


def write_scores(path: Path, seed: int) -> dict[int, np.float32]:
    scores = np.random.default_rng(seed).normal(size=60).astype(np.float32)
    pq.write_table(pa.table({"uid": DATA["uid"], "score": scores}), path)
    return dict(zip(DATA["uid"].tolist(), scores, strict=True))


def test_export_and_scores_of_new_data(model: Run, tmp_path: Path):
    exported = json.loads(Path(model.path("export", "manifest.json")).read_text())["coordinates"]
    assert {name: (c["kind"], c["models"]) for name, c in exported.items() if name != "per_user"} == {
        "elsewhere": ("external", 0), "own": ("python", 1),
    }  # fmt: skip
    best = model.result("select")["pass"]
    assert Path(model.path("export", "own", "files", "model.txt")).read_text() == f"of pass {best}"
    # Neither the bag of the user's trainer nor what the external model had need be in the new data.
    source = synthetic.write_directory(tmp_path / "input", {k: v for k, v in DATA.items() if k != "global"})
    one, two = write_scores(tmp_path / "one.parquet", 5), write_scores(tmp_path / "two.parquet", 6)
    output = tmp_path / "scores.parquet"
    arguments = ["score", "--model", model.root, "--input", str(source), "--output", str(output)]
    given = ["--external", f"elsewhere={tmp_path}/one.parquet", "--external", f"own={tmp_path}/two.parquet"]
    result = CliRunner().invoke(main, [*arguments, *given], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found = pq.read_table(output)
    assert found.column_names == ["uid", "score", "elsewhere", "own", "per_user"]
    assert found["elsewhere"].to_pylist() == [one[uid] for uid in found["uid"].to_pylist()]
    assert found["own"].to_pylist() == [two[uid] for uid in found["uid"].to_pylist()]
    offset = dict(zip(DATA["uid"].tolist(), DATA["offset"], strict=True))
    total = sum(found[name].to_numpy().astype(float) for name in ("elsewhere", "own", "per_user"))
    total = total + [offset[uid] for uid in found["uid"].to_pylist()]
    np.testing.assert_allclose(found["score"].to_numpy(), total, rtol=1e-6)
    # The random effect as on its own.
    alone = made(tmp_path / "alone", coordinates={"per_user": PER_USER})
    assert alone.result("export")["coordinates"]["per_user"]["kind"] == "random"


def test_scores_of_new_data_that_are_absent_broken_or_not_wanted(model: Run, tmp_path: Path):
    source = str(synthetic.write_directory(tmp_path / "input", DATA))
    good, output = tmp_path / "good.parquet", str(tmp_path / "out.parquet")
    write_scores(good, 5)

    def score(**external: Path) -> None:
        score_input(model.root, source, output, external={k: [str(v)] for k, v in external.items()})

    with pytest.raises(DataError, match=r"coordinate elsewhere: .*--external elsewhere=FILE"):
        score(own=good)
    with pytest.raises(DataError, match=r"coordinate own: .*--external own=FILE"):
        score(elsewhere=good)
    with pytest.raises(DataError, match="coordinate per_user: its model is random and scores the data itself"):
        score(elsewhere=good, own=good, per_user=good)
    with pytest.raises(DataError, match="given for other, which is no coordinate of this model; it has elsewhere, own"):
        score(elsewhere=good, own=good, other=good)
    table = pq.read_table(good)
    for name, broken, message in (
        ("short", table.slice(1), rf"coordinate own: uid {DATA['uid'][0]} has no score"),
        ("twice", pa.concat_tables([table, table.slice(3, 1)]), rf"uid {DATA['uid'][3]} has several \(1 uids have\)"),
        ("nan", table.set_column(1, "score", pa.array([np.nan] * 60)), f"uid {DATA['uid'][0]} has nan"),
    ):
        path = tmp_path / f"{name}.parquet"
        pq.write_table(broken, path)
        with pytest.raises(DataError, match=message):
            score(elsewhere=good, own=path)
    assert not Path(output).exists()


def test_missing_zero_holds_for_new_data_too(tmp_path: Path):
    lenient = {"fixed_effect": {**EXTERNAL["fixed_effect"], "missing": "zero"}}
    run = made(tmp_path / "model", coordinates={"elsewhere": lenient, "per_user": PER_USER})
    source = str(synthetic.write_directory(tmp_path / "input", DATA))
    scores = write_scores(tmp_path / "whole.parquet", 5)
    pq.write_table(pq.read_table(tmp_path / "whole.parquet").slice(1), tmp_path / "short.parquet")
    output = tmp_path / "out.parquet"
    score_input(run.root, source, str(output), external={"elsewhere": [str(tmp_path / "short.parquet")]})
    found = {row["uid"]: row["elsewhere"] for row in pq.read_table(output).to_pylist()}
    assert found == {**scores, DATA["uid"][0].item(): 0.0}


def test_the_scores_are_the_offset_of_every_pass_and_taken_once(model: Run):
    assert [step.id for step in model.plan.steps if step.coordinate == "elsewhere"] == [
        "pass_01.elsewhere.train", "pass_01.elsewhere.evaluate",
    ]  # fmt: skip
    given = np.asarray(rows_of(200, 1).scores["elsewhere"], np.float32)
    assert np.load(model.scores(1, "elsewhere", "training")).tolist() == given.tolist()
    offset = np.asarray(rows_of(200, 1).offset, float)
    np.testing.assert_array_equal(
        np.load(model.scores(1, "own", "training")), (0.5 * (offset + given)).astype(np.float32)
    )
    later = offset + given + np.load(model.scores(1, "per_user", "training"))
    np.testing.assert_allclose(np.load(model.scores(2, "own", "training")), 0.5 * later, rtol=1e-5, atol=1e-6)


def test_a_search_over_the_random_effect_and_a_trainers_settings(tmp_path: Path):
    own = {"fixed_effect": {**OWN["fixed_effect"], "settings": {"rate": 0.1}}}
    coordinates = {"elsewhere": EXTERNAL, "own": own, "per_user": {**PER_USER, "l2": [0.5, 50.0]}}
    tune = {"parameters": {"coordinates.own.fixed_effect.settings.rate": [0.1, 0.2]}}
    run = made(tmp_path, coordinates=coordinates, tune=tune)
    assert len(finished_trials(run)) == 4
    assert Path(run.path("export", "own", "files", "model.txt")).read_text() == "of pass 1"


def test_initial_models_pass_them_by(model: Run, tmp_path: Path):
    run = made(tmp_path / "next", initial_model={"path": model.root})
    assert set(run.result("initialize")["coordinates"]) == {"per_user"}
    # The earlier run's coordinate of another kind is not taken for coefficients.
    coordinates = {"own": {"fixed_effect": {}, "bag": "global"}, "per_user": PER_USER}
    run = made(tmp_path / "other", initial_model={"path": model.root}, coordinates=coordinates)
    assert set(run.result("initialize")["coordinates"]) == {"per_user"}
    locked = {"own": {"fixed_effect": {}, "bag": "global", "locked": True}, "per_user": PER_USER}
    with pytest.raises(DataError, match=r"coordinate own is locked, but .* has no model of it"):
        made(tmp_path / "locked", initial_model={"path": model.root}, coordinates=locked)
    with pytest.raises(ConfigError, match="names elsewhere, whose model is external: it has no coefficients"):
        parse_config(content(name="a", input="b", output="c", initial_model={"coordinates": {"elsewhere": "f.avro"}}))
