"""Whole searches over a frame and shards made without Spark: what is tried, kept, chosen, exported and resumed."""

from __future__ import annotations

import io
import itertools
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from rich.console import Console
from run_directory import Rows, make_run

from gdmix_core import steps
from gdmix_core.config_file import parse_config
from gdmix_core.errors import DataError, StepError
from gdmix_core.models.native import read_model
from gdmix_core.plan import build_plan
from gdmix_core.run import Run
from gdmix_core.runner import metrics_table
from gdmix_core.search.parameters import round_count, trials_of_round
from gdmix_core.search.screen import make_round
from gdmix_core.search.selection import select_trial
from gdmix_core.search.trials import finished_trials, make_trials

GLOBAL, USER = "coordinates.global.l2", "coordinates.per_user.l2"
USERS = 12


def rows(count: int, seed: int, first_uid: int = 0) -> Rows:
    """A global slope and one per user, of a fixed truth."""
    truth, rng = np.random.default_rng(99), np.random.default_rng(seed)
    w, W = truth.normal(size=3), truth.normal(size=(USERS, 2))
    user = rng.integers(0, USERS, count)
    X, Z = (rng.normal(size=(count, n)).astype(np.float32) for n in (3, 2))
    margin = X @ w + np.sum(Z * W[user], axis=1)
    label = rng.random(count) < 1 / (1 + np.exp(-margin))
    uid = np.arange(first_uid, first_uid + count)
    return Rows(label.astype(float), uid=uid, ids={"user": user}, bags={"global": X, "user": Z})


TRAINING, VALIDATION = rows(150, 1), rows(200, 2, 1000)


def content(l2: tuple[Any, Any], **changes: Any) -> dict[str, Any]:
    return {
        "coordinates": {
            "global": {"fixed_effect": {"tolerance": 1e-9}, "bag": "global", "l2": l2[0]},
            "per_user": {
                "random_effect": {"entity": "user", "shards": 2, "tolerance": 1e-9}, "bag": "user", "l2": l2[1],
            },
        },
        "passes": {"max": 2},
        "metrics": ["logloss", "auc"],
        "engine": {"local": {"processes": 1}},
        **changes,
    }  # fmt: skip


def walk(run: Run) -> None:
    """Every step after partition, as `gdmix run` walks them."""
    stopped = False
    for step in run.plan.steps[2:]:
        if not (stopped and step.pass_number):
            result = steps.execute(run, step)
            stopped |= step.kind == "gate" and not result["continue"]


def models(run: Run) -> dict[str, Any]:
    """The exported coefficients by coordinate and shard."""
    found: dict[str, Any] = {}
    for path in Path(run.path("export")).rglob("*.parquet"):
        found[f"{path.parent.name}/{path.name}"] = read_model(str(path))
    assert len(found) == 3
    return found


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished search over 2 × 3 penalties, one trial at a time."""
    run = make_run(tmp_path_factory.mktemp("grid"), content(([0.3, 3], [0.1, 1, 10])), TRAINING, VALIDATION)
    walk(run)
    return Run.open(run.root)


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


def shown(run: Run) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(metrics_table(run))
    return console.export_text()


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


def stamps(root: str) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in Path(root).rglob("*") if path.is_file()}


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


KILLED = """
import os, signal, sys
from gdmix_core.plan import build_plan
from gdmix_core.run import Run
from gdmix_core.search.trials import make_trials
run = Run.open(sys.argv[1])
def on_step(step):
    if step.id == "pass_02.global.train":
        os.kill(os.getpid(), signal.SIGKILL)
make_trials(run, run.plan["round_01"], only=2, on_step=on_step)
"""


def test_a_killed_trial_goes_on_where_it_was(tmp_path: Path):
    setup = content((1, [0.1, 1, 10]), tune={"parallel": 3})
    run = make_run(tmp_path / "killed", setup, TRAINING, VALIDATION)
    make_trials(run, run.plan["round_01"], only=1)
    root = Path(__file__).resolve().parents[2]
    died = subprocess.run([sys.executable, "-c", KILLED, run.root], env={**os.environ, "PYTHONPATH": str(root)})
    assert died.returncode == -signal.SIGKILL
    run = Run.open(run.root)
    assert [t["trial"] for t in finished_trials(run)] == [1]
    assert not run.is_done(run.plan["round_01"])
    before = stamps(run.path("trials"))
    made = [path for path in before if "/002/passes/01/" in path and path.endswith((".parquet", "metrics.json"))]
    assert len(made) == 5
    walk(run)
    after = stamps(run.path("trials"))
    kept = [path for path in before if "/001/" in path] + made
    assert {path: after[path] for path in kept} == {path: before[path] for path in kept}
    whole = make_run(tmp_path / "whole", setup, TRAINING, VALIDATION)
    walk(whole)
    assert run.result("select")["trials"] == whole.result("select")["trials"]
    exported, expected = models(run), models(whole)
    for name, model in exported.items():
        np.testing.assert_array_equal(model.means, expected[name].means)


def test_trials_of_a_round_can_be_made_in_any_order(tmp_path: Path):
    """As Airflow's mapped tasks do: each knows its number only; the last one completes the round."""
    setup = content((1, 1), tune={
        "method": "bayesian", "trials": 5, "parallel": 3, "seed": 3,
        "parameters": {USER: {"low": 0.01, "high": 100, "log": True}},
    })  # fmt: skip
    run = make_run(tmp_path / "tasks", setup, TRAINING, VALIDATION)
    for number in (3, 1, 2, 5, 4):
        here = Run.open(run.root)
        step = here.plan["round_01" if number <= 3 else "round_02"]
        result = steps.execute(here, step, group=number)
        assert result["trial"] == number
        assert here.is_done(step) == (number in (2, 4))
    with pytest.raises(StepError, match="round_02 has no trial 9"):
        make_trials(run, run.plan["round_02"], only=9)
    alone = make_run(tmp_path / "alone", setup, TRAINING, VALIDATION)
    walk(alone)
    assert finished_trials(Run.open(run.root)) == finished_trials(Run.open(alone.root))


def test_a_round_needs_the_one_before(tmp_path: Path):
    run = make_run(tmp_path, content((1, [1, 2])), TRAINING, VALIDATION)
    with pytest.raises(StepError, match="round_02 needs round_01"):
        steps.execute(run, run.plan["round_02"], group=2)
    with pytest.raises(StepError, match="select needs round_01"):
        steps.execute(run, run.plan["select"])


def test_a_trial_that_fails_says_which_it_is(tmp_path: Path):
    run = make_run(tmp_path, content((1, [0.5, 2])), TRAINING, VALIDATION)
    path = Path(run.shard("per_user", "training", 0))
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match=r"^trial 1 \(per_user.l2=2\): .*not a readable shard"):
        make_trials(run, run.plan["round_01"])
    shutil.rmtree(run.trial_root(1))
    Path(run.trial_root(1)).write_text("a file where a directory must be")
    with pytest.raises(StepError, match=r"^trial 1 \(per_user.l2=2\): (FileExists|NotADirectory)Error: "):
        make_trials(run, run.plan["round_01"])


def test_without_validation_rows_it_warns(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    run = make_run(tmp_path, content((1, [0.1, 10])), TRAINING)
    with caplog.at_level(logging.WARNING):
        walk(run)
    assert "no validation data" in caplog.text
    best = Run.open(run.root).result("select")
    assert best["parameters"] == {USER: 0.1}, "training rows like the weaker penalty"
    assert "training metrics of the trials" in shown(Run.open(run.root))


def with_values(root: Path, values: list[float | None], metric: str) -> Run:
    """Rounds that are done, with these values of the primary metric, as make_trials leaves them."""
    setup = content((1, [float(n) for n in range(1, len(values) + 1)]), metrics=[metric, "mse"])
    run = make_run(root, setup, TRAINING, VALIDATION)
    for number, value in enumerate(values, start=1):
        metrics = {split: {metric: value, "mse": 1.0} for split in ("training", "validation")}
        result = {
            "trial": number, "parameters": {USER: 1.0 + len(values) - number}, "start": None, "pass": 1,
            "metric": metric, "value": value, "metrics": metrics,
        }  # fmt: skip
        run.commit(run.plan[f"round_{number:02d}"], {"round": number, "trials": [result]})
    return run


@pytest.mark.parametrize(
    ("metric", "values", "best"),
    [
        ("auc", [0.5, 0.7, 0.6], 2),
        ("logloss", [0.5, 0.7, 0.4], 3),
        ("auc", [None, 0.1, None], 2),
        ("logloss", [None, 0.9], 2),
        ("auc", [0.6, 0.6], 1),
        ("rmse", [0.0, None], 1),
    ],
)
def test_the_best_by_the_primary_metric(tmp_path: Path, metric: str, values: list[float | None], best: int):
    run = with_values(tmp_path, values, metric)
    assert select_trial(run, run.plan["select"])["trial"] == best
    assert run.result("select")["value"] == values[best - 1]


def test_no_trial_has_a_value(tmp_path: Path):
    one_class = Rows(np.ones(200), uid=VALIDATION.uid, ids=VALIDATION.ids, bags=VALIDATION.bags)
    run = make_run(tmp_path, content((1, [1, 2]), metrics=["auc", "logloss"]), TRAINING, one_class)
    for step in run.plan.rounds:
        steps.execute(run, step)
    assert "–" in shown(Run.open(run.root))
    with pytest.raises(StepError, match="auc is undefined in all 2 trials"):
        steps.execute(run, run.plan["select"])


def test_lines_while_it_runs(tmp_path: Path):
    run = make_run(tmp_path, content((1, [0.5, 2]), tune={"parallel": 2}), TRAINING, VALIDATION)
    console = Console(width=200, record=True, file=io.StringIO())
    shown_steps: list[str] = []
    make_round(run, run.plan["round_01"], lambda step, within: shown_steps.append(f"{within}: {step.id}"), console)
    trial = finished_trials(run)[0]
    lines = console.export_text().splitlines()
    assert lines[0] == f"trial 1 of 2: per_user.l2=2: logloss {trial['value']:.5f} (pass {trial['pass']})"
    assert len(lines) == 2
    assert shown_steps[0] == "trial 1 of 2: pass_01.global.train"
    assert "trial 2 of 2: pass_02.per_user.evaluate" in shown_steps


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


def test_rounds_hold_every_trial_once():
    for parallel, count in itertools.product(range(1, 8), range(1, 9)):
        made = parse_config({
            "name": "p", "input": "i", "output": "o", **content((1, [float(n) for n in range(count)])),
            "tune": {"parallel": parallel},
        })  # fmt: skip
        numbers = [list(trials_of_round(made, n)) for n in range(1, round_count(made) + 1)]
        assert list(itertools.chain(*numbers)) == list(range(1, count + 1))
        assert all(len(n) == parallel for n in numbers[:-1])
        assert 1 <= len(numbers[-1]) <= parallel


def test_a_search_in_an_object_store(tmp_path: Path, grid: Run):
    """Trials find the data two levels above themselves there, too."""
    setup = content(([0.3, 3], [0.1, 1, 10]), output="memory://search/run")
    run = make_run(tmp_path, setup, TRAINING, VALIDATION)
    walk(run)
    assert Run.open("memory://search/run/trials/002").data_root == "memory://search/run"
    assert Run.open("memory://search/run").result("select")["trials"] == grid.result("select")["trials"]


def keys(**changes: Any) -> dict[str, str]:
    setup = content((1, [0.1, 1]), **{"name": "p", "input": "i", "output": "o", "tune": {"parallel": 2}, **changes})
    plan = build_plan(parse_config(setup))
    assert [step.id for step in plan.rounds] == ["round_01"]
    return plan.keys("input")


@pytest.mark.parametrize(
    ("changes", "differing"),
    [
        ({"spark": {"master": "local[1]"}, "airflow": {"retries": 9}, "engine": "local", "output": "x"}, set()),
        ({"export": {"formats": ["avro"]}}, {"export"}),
        ({"passes": {"max": 3}}, {"round_01", "select", "export"}),
        ({"tune": {"parallel": 2, "seed": 1}}, {"round_01", "select", "export"}),
        ({"metrics": ["auc"]}, {"round_01", "select", "export"}),
        ({"frame": {"rows_per_block": 9}}, {"validate", "partition", "round_01", "select", "export"}),
    ],
)
def test_keys_change_with_what_changes_the_result(changes: dict[str, Any], differing: set[str]):
    before, after = keys(), keys(**changes)
    assert {step for step in before if before[step] != after[step]} == differing


def test_trials_take_the_data_for_the_searchs_own(grid: Run):
    trial = Run.open(grid.trial_root(4))
    for step in ("validate", "partition"):
        assert trial.keys[step] == grid.keys[step]
        assert trial.is_done(trial.plan[step])
    assert trial.keys["select"] != Run.open(grid.trial_root(3)).keys["select"]


def test_worker_processes_know_the_data_and_where_to_start(grid: Run, tmp_path: Path):
    """Shards in two processes; the result is the same to the bit, as it is without a search."""
    run = make_run(tmp_path, content(([3], [10, 1]), engine={"local": {"processes": 2}}), TRAINING, VALIDATION)
    walk(run)
    assert Run.open(run.root).result("select")["trials"] == grid.result("select")["trials"][:2]
    for number in (1, 2):
        mine, its = Run.open(run.trial_root(number)), Run.open(grid.trial_root(number))
        for step in ("pass_01.per_user.train", "pass_02.per_user.train"):
            assert mine.result(step)["iterations"] == its.result(step)["iterations"]
