"""Trials one by one: killed, made in any order, failing, without a value; and the keys of their rounds."""

from __future__ import annotations

import io
import itertools
import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from run_directory import Rows, make_run, walk
from search_runs import TRAINING, USER, VALIDATION, content, models, shown, stamps

from gdmix_core.config.search_space import round_count, trials_of_round
from gdmix_core.errors import DataError, StepError, StorageError
from gdmix_core.execution import dispatch
from gdmix_core.execution.trials_table import make_round
from gdmix_core.pipeline.fingerprints import Fingerprints
from gdmix_core.pipeline.loading import parse_config
from gdmix_core.pipeline.plan import build_plan
from gdmix_core.pipeline.run import Run
from gdmix_core.search.selection import select_trial
from gdmix_core.search.trials import finished_trials, make_trials

KILLED = """
import os, signal, sys
from gdmix_core.pipeline.run import Run
from gdmix_core.search.trials import make_trials
from gdmix_core.execution.dispatch import execute
run = Run.open(sys.argv[1])
def on_step(step):
    if step.id == "pass_02.global.train":
        os.kill(os.getpid(), signal.SIGKILL)
make_trials(run, run.plan["round_01"], execute, only=2, on_step=on_step)
"""


def test_a_killed_trial_goes_on_where_it_was(tmp_path: Path):
    setup = content((1, [0.1, 1, 10]), tune={"parallel": 3})
    run = make_run(tmp_path / "killed", setup, TRAINING, VALIDATION)
    make_trials(run, run.plan["round_01"], dispatch.execute, only=1)
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
        result = dispatch.execute(here, step, group=number)
        assert result["trial"] == number
        assert here.is_done(step) == (number in (2, 4))
    with pytest.raises(StepError, match="round_02 has no trial 9"):
        make_trials(run, run.plan["round_02"], dispatch.execute, only=9)
    alone = make_run(tmp_path / "alone", setup, TRAINING, VALIDATION)
    walk(alone)
    assert finished_trials(Run.open(run.root)) == finished_trials(Run.open(alone.root))


def test_a_round_needs_the_one_before(tmp_path: Path):
    run = make_run(tmp_path, content((1, [1, 2])), TRAINING, VALIDATION)
    with pytest.raises(StepError, match="round_02 needs round_01"):
        dispatch.execute(run, run.plan["round_02"], group=2)
    with pytest.raises(StepError, match="select needs round_01"):
        dispatch.execute(run, run.plan["select"])


def test_a_trial_that_fails_says_which_it_is(tmp_path: Path):
    run = make_run(tmp_path, content((1, [0.5, 2])), TRAINING, VALIDATION)
    path = Path(run.shard("per_user", "training", 0))
    path.write_bytes(bytes(len(path.read_bytes())))
    with pytest.raises(DataError, match=r"^trial 1 \(per_user.l2=2\): .*shard-00000.parquet is damaged"):
        make_trials(run, run.plan["round_01"], dispatch.execute)
    shutil.rmtree(run.trial_root(1))
    Path(run.trial_root(1)).write_text("a file where a directory must be")
    with pytest.raises(StorageError, match=r"^trial 1 \(per_user.l2=2\): .*/trials/001"):
        make_trials(run, run.plan["round_01"], dispatch.execute)


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
        dispatch.execute(run, step)
    assert "–" in shown(Run.open(run.root))
    with pytest.raises(StepError, match="auc is undefined in all 2 trials"):
        dispatch.execute(run, run.plan["select"])


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


def keys(**changes: Any) -> dict[str, str]:
    setup = content((1, [0.1, 1]), **{"name": "p", "input": "i", "output": "o", "tune": {"parallel": 2}, **changes})
    plan = build_plan(parse_config(setup))
    assert [step.id for step in plan.rounds] == ["round_01"]
    return plan.keys(Fingerprints("input"))


@pytest.mark.parametrize(
    ("changes", "differing"),
    [
        ({"spark": {"master": "local[1]"}, "airflow": {"retries": 9}, "engine": "local", "output": "x"}, set()),
        ({"export": {"formats": ["avro"]}}, {"export"}),
        ({"passes": {"max": 3}}, {"round_01", "select", "export"}),
        ({"tune": {"parallel": 3}}, {"round_01", "select", "export"}),
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
