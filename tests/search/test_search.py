"""Whole searches: what is tried, kept, shown, chosen and exported, and what another one makes anew."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from run_directory import make_run, walk
from search_runs import GLOBAL, TRAINING, USER, VALIDATION, content, models, shown, stamps

from gdmix_core.execution.local_run import metrics_table
from gdmix_core.pipeline.run import Run
from gdmix_core.search.trials import finished_trials


def test_the_plan_is_rounds_in_place_of_passes(grid: Run):
    assert [s.id for s in grid.plan.steps] == [
        "validate", "partition", *(f"round_0{n}" for n in range(1, 7)), "select", "export",
    ]  # fmt: skip
    assert grid.plan["round_02"].reads == ("validate", "partition", "round_01")
    assert grid.plan["select"].reads == tuple(f"round_0{n}" for n in range(1, 7))
    assert grid.plan.passes == 0


def test_the_best_is_what_training_each_by_hand_finds(grid: Run, tmp_path: Path):
    by_hand: dict[tuple[float, float], Run] = {}
    for pair in itertools.product([3.0, 0.3], [10.0, 1.0, 0.1]):
        plain = make_run(tmp_path / str(pair), content(pair), TRAINING, VALIDATION)
        walk(plain)
        by_hand[pair] = Run.open(plain.root)
    losses = {pair: run.result("select")["value"] for pair, run in by_hand.items()}
    for trial, pair in zip(finished_trials(grid), by_hand, strict=True):
        assert trial["parameters"] == dict(zip((GLOBAL, USER), pair, strict=True))
        assert trial["value"] == pytest.approx(losses[pair], rel=1e-6)
        assert trial["pass"] == by_hand[pair].result("select")["pass"]
    best_pair = min(losses, key=lambda pair: losses[pair])
    assert best_pair not in (next(iter(losses)), list(losses)[-1]), "the example must not be won by first or last"
    best = grid.result("select")
    assert best["parameters"] == dict(zip((GLOBAL, USER), best_pair, strict=True))
    assert best["trials"][best["trial"] - 1]["value"] == best["value"] == min(t["value"] for t in best["trials"])
    ours, theirs = models(grid), models(by_hand[best_pair])
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert ours[name].entities.equals(theirs[name].entities)
        np.testing.assert_allclose(ours[name].means, theirs[name].means, atol=1e-5)


def test_the_export_holds_the_trials_configuration(grid: Run):
    manifest = json.loads(Path(grid.path("export", "manifest.json")).read_text())
    best = grid.result("select")
    assert manifest["config"]["coordinates"]["per_user"]["l2"] == best["parameters"][USER]
    assert manifest["config"]["coordinates"]["global"]["l2"] == best["parameters"][GLOBAL]
    assert "tune" not in manifest["config"]
    assert manifest["pass"] == best["pass"]
    assert manifest["metrics"] == best["metrics"]


def test_trials_share_the_data_and_keep_their_tables(grid: Run):
    for number in range(1, 7):
        trial = Run.open(grid.path("trials", f"00{number}"))
        assert sorted(os.listdir(trial.root)) == ["best.json", "config.yaml", "passes"]
        assert trial.frame("manifest.json") == grid.frame("manifest.json")
        assert trial.shard("per_user", "training", 1) == grid.shard("per_user", "training", 1)
        assert metrics_table(trial).row_count == 4
        assert trial.config.output == trial.root


def test_a_trial_of_a_run_that_was_moved(grid: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shutil.copytree(grid.root, tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path / "elsewhere" / "trials")
    for root in ("002", "./002", str(tmp_path / "elsewhere" / "trials" / "002")):
        trial = Run.open(root)
        assert os.path.samefile(trial.frame("manifest.json"), tmp_path / "elsewhere" / "frame" / "manifest.json")
        assert metrics_table(trial).row_count == 4
    monkeypatch.chdir(tmp_path / "elsewhere" / "trials" / "002")
    assert metrics_table(Run.open(".")).row_count == 4


def test_the_table_shows_every_trial_and_marks_the_best(grid: Run):
    lines = shown(grid).splitlines()
    for trial in finished_trials(grid):
        wanted = [f"{trial['parameters'][p]:g}" for p in (GLOBAL, USER)] + [str(trial["pass"])]
        wanted += [f"{trial['metrics']['validation'][m]:.5f}" for m in ("logloss", "auc")]
        star = "★ " if trial["trial"] == grid.result("select")["trial"] else ""
        cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]
        assert [f"{star}{trial['trial']}", *wanted] in cells
    assert f"best by logloss: trial {grid.result('select')['trial']}, pass" in lines[-1]


def test_each_begins_where_the_nearest_one_ended(grid: Run):
    starts = {trial["trial"]: trial["start"] for trial in finished_trials(grid)}
    assert starts == {1: None, 2: 1, 3: 2, 4: 1, 5: 2, 6: 3}
    config = yaml.safe_load(Path(grid.path("trials", "005", "config.yaml")).read_text())
    assert config["trial"]["start"] == {"trial": 2, "pass": finished_trials(grid)[1]["pass"]}


def test_a_trial_beside_a_finished_one_needs_fewer_iterations(tmp_path: Path):
    """The second candidate is the first one, nearly: its first pass begins at its own optimum."""
    one = {"global": content((1.0, 1.0))["coordinates"]["global"] | {"l2": [1.0, 1.0 - 1e-9]}}
    run = make_run(tmp_path, content((1, 1), coordinates=one), TRAINING, VALIDATION)
    walk(run)
    cold, warm = (Run.open(run.trial_root(n)).result("pass_01.global.train") for n in (1, 2))
    assert cold["iterations"] > 3
    assert warm["iterations"] <= 1
    assert warm["objective"] == pytest.approx(cold["objective"], rel=1e-8)


def test_entities_begin_there_too(tmp_path: Path):
    one = {"per_user": content((1.0, 1.0))["coordinates"]["per_user"] | {"l2": [1.0, 1.0 - 1e-9]}}
    run = make_run(tmp_path, content((1, 1), coordinates=one), TRAINING, VALIDATION)
    walk(run)
    cold, warm = (Run.open(run.trial_root(n)).result("pass_01.per_user.train") for n in (1, 2))
    assert cold["iterations"] > 2
    assert warm["iterations"] <= 1


def test_a_finished_search_is_not_made_again(grid: Run):
    before = {path: at for path, at in stamps(grid.root).items() if not path.endswith("run/best.json")}
    walk(Run.open(grid.root))
    assert len(before) > 60
    assert {path: at for path, at in stamps(grid.root).items() if path in before} == before


def again(run: Run, root: Path, **changes: Any) -> Run:
    """A copy of a run, with other top-level keys."""
    shutil.copytree(run.root, root)
    made = run.config.model_dump(mode="json", exclude_none=True) | changes | {"output": str(root)}
    return Run.create(type(run.config).model_validate(made))


def test_other_candidates_make_only_what_is_new(grid: Run, tmp_path: Path):
    """The second list is another, the first trial is as before: it is not trained again."""
    changed = again(grid, tmp_path / "copy", coordinates=content(([3], [10, 5]))["coordinates"])
    before = stamps(changed.path("trials", "001"))
    assert not changed.is_done(changed.plan["round_01"])
    walk(changed)
    assert stamps(changed.path("trials", "001")) == before
    assert [t["parameters"][USER] for t in Run.open(changed.root).result("select")["trials"]] == [10, 5]
    fresh = make_run(tmp_path / "fresh", content(([3], [10, 5])), TRAINING, VALIDATION)
    walk(fresh)
    assert changed.result("select")["trials"] == fresh.result("select")["trials"]


def test_numbers_other_than_penalties(tmp_path: Path):
    """max_iterations is an integer in the trial's configuration, passes.max decides how many there are."""
    setup = content((1, 1), tune={
        "parameters": {"coordinates.per_user.random_effect.max_iterations": [1, 50], "passes.max": [1, 2]},
    })  # fmt: skip
    run = make_run(tmp_path, setup, TRAINING, VALIDATION)
    walk(run)
    made = [Run.open(run.trial_root(n)) for n in range(1, 5)]
    assert [trial.plan.passes for trial in made] == [1, 2, 1, 2]
    effects = [trial.config.coordinates["per_user"].random_effect for trial in made]
    assert [effect and effect.max_iterations for effect in effects] == [1, 1, 50, 50]
    assert pq.read_metadata(run.path("export", "per_user", "shard-00000.parquet")).num_rows > 0


def test_a_search_in_an_object_store(tmp_path: Path, grid: Run):
    """Trials find the data two levels above themselves there, too."""
    setup = content(([0.3, 3], [0.1, 1, 10]), output="memory://search/run")
    run = make_run(tmp_path, setup, TRAINING, VALIDATION)
    walk(run)
    assert Run.open("memory://search/run/trials/002").data_root == "memory://search/run"
    assert Run.open("memory://search/run").result("select")["trials"] == grid.result("select")["trials"]


@pytest.mark.slow
def test_worker_processes_know_the_data_and_where_to_start(grid: Run, tmp_path: Path):
    """Shards in two processes; the result is the same to the bit, as it is without a search."""
    run = make_run(tmp_path, content(([3], [10, 1]), engine={"local": {"processes": 2}}), TRAINING, VALIDATION)
    walk(run)
    assert Run.open(run.root).result("select")["trials"] == grid.result("select")["trials"][:2]
    for number in (1, 2):
        mine, its = Run.open(run.trial_root(number)), Run.open(grid.trial_root(number))
        for step in ("pass_01.per_user.train", "pass_02.per_user.train"):
            assert mine.result(step)["iterations"] == its.result(step)["iterations"]
