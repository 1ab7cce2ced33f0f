"""Which pass is the best and whether another one pays, over metrics written as evaluate writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_directory import Rows, make_run

from gdmix_core.errors import DataError, StepError
from gdmix_core.evaluation.selection import gate, select
from gdmix_core.pipeline.plan import evaluate_id
from gdmix_core.pipeline.run import Run


def make(
    root: Path,
    values: list[float | None],
    *,
    metric: str = "auc",
    validation: bool = True,
    min_delta: Any = 0.0,
    most: int = 5,
    **more: Any,
) -> Run:
    rows = Rows([0.0, 1.0] * 5, ids={"user": np.arange(10) % 3})
    config: dict[str, Any] = {
        "coordinates": {"global": {"fixed_effect": {}}, "per_user": {"random_effect": {"entity": "user"}}},
        "metrics": [metric, "mse"],
        "passes": {"max": most, "min_delta": min_delta},
        **more,
    }
    run = make_run(root, config, rows, rows if validation else None)
    for number, value in enumerate(values, start=1):
        for name in ("global", "per_user"):
            # After the last coordinate only: what the first one's metrics are must not matter.
            shown = value if name == "per_user" else 0.123
            metrics = {"training": {metric: shown, "mse": 1.0}}
            if validation:
                metrics = {"training": {metric: 0.7, "mse": 1.0}, "validation": {metric: shown, "mse": 1.0}}
            run.commit(run.plan[evaluate_id(number, name)], {"metrics": metrics})
    return Run.open(run.root)


def decision(run: Run, number: int) -> bool:
    return bool(gate(run, run.plan[f"pass_{number:02d}.gate"])["continue"])


def chosen(run: Run) -> tuple[int, float | None]:
    result = select(run, run.plan["select"])
    assert run.result("select")["pass"] == result["pass"]
    return result["pass"], result["value"]


@pytest.mark.parametrize(
    ("metric", "values", "best"),
    [
        ("auc", [0.6, 0.8, 0.7], 2),
        ("logloss", [0.6, 0.4, 0.5], 2),
        ("rmse", [0.6, 0.4, 0.3], 3),
        ("auc", [0.7, 0.7, 0.7], 1),
        ("logloss", [0.5, 0.4, 0.4], 2),
        ("auc", [None, 0.2], 2),
        ("auc", [0.2, None], 1),
        ("auc", [0.5], 1),
    ],
)
def test_the_best_pass_is_chosen_and_the_first_of_equals(tmp_path: Path, metric, values, best):
    assert chosen(make(tmp_path, values, metric=metric, most=len(values))) == (best, values[best - 1])


def test_a_metric_that_is_undefined_in_every_pass_chooses_nothing(tmp_path: Path):
    run = make(tmp_path / "refused", [None, None], most=2)
    with pytest.raises(DataError, match=r"auc, which chooses among the passes, is undefined .* validation rows"):
        select(run, run.plan["select"])
    assert chosen(make(tmp_path / "allowed", [None, None], most=2, checks={"uninformative": "allow"})) == (1, None)


@pytest.mark.parametrize(
    ("metric", "values", "min_delta", "goes_on"),
    [
        ("auc", [0.6, 0.7], 0.05, True),
        ("auc", [0.6, 0.64], 0.05, False),
        ("auc", [0.6, 0.6], 0.0, False),
        ("auc", [0.6, 0.5], 0.0, False),
        ("logloss", [0.6, 0.5], 0.05, True),
        ("logloss", [0.6, 0.58], 0.05, False),
        ("logloss", [0.6, 0.7], 0.0, False),
        ("auc", [None, 0.7], 0.05, True),
        ("auc", [0.7, None], 0.05, True),
        ("auc", [0.6, 0.7, 0.72], 0.05, False),
        ("auc", [0.6, 0.55], -0.1, True),  # bears a loss of 0.1
        ("auc", [0.6, 0.45], -0.1, False),
        ("auc", [0.9, 0.1], "none", True),
        ("auc", [0.6], 0.9, True),  # one pass alone has nothing to be compared with
    ],
)
def test_the_gate(tmp_path: Path, metric, values, min_delta, goes_on):
    run = make(tmp_path, values, metric=metric, min_delta=min_delta)
    assert decision(run, len(values) + 1) is goes_on


def test_the_gate_compares_with_the_best_pass_before_not_the_last(tmp_path: Path):
    """0.8, 0.81, 0.75 is impossible: the third would be compared with 0.81."""
    run = make(tmp_path, [0.8, 0.81, 0.75])
    assert not decision(run, 4)


def test_without_validation_every_pass_runs_and_the_last_one_is_chosen(tmp_path: Path):
    run = make(tmp_path, [0.6, 0.9, 0.7], validation=False, min_delta=0.5)
    assert decision(run, 3)
    assert decision(run, 4)
    assert chosen(make(tmp_path, [0.6, 0.9, 0.7], validation=False, min_delta=0.5, most=3)) == (3, 0.7)


def test_passes_on_disk_that_this_runs_gates_would_not_have_let_run_are_not_chosen(tmp_path: Path):
    """As if the run had been undisturbed: with a larger min_delta it would have ended after pass 2."""
    run = make(tmp_path, [0.6, 0.61, 0.9], min_delta=0.05)
    assert chosen(run) == (2, 0.61)


@pytest.mark.parametrize(
    ("values", "min_delta", "missing"),
    [
        ([0.6], 0.0, 2),
        ([0.6, 0.7], 0.0, 3),
        ([0.6, 0.7], "none", 3),
        ([0.6, 0.61], 0.05, None),
        ([0.6, 0.5], 0.0, None),
    ],
)
def test_a_pass_is_missing_only_where_a_gate_has_stopped(tmp_path: Path, values, min_delta, missing):
    """A DAG of one's own with fewer passes, or a pass that is out of date, does not end with a lesser model."""
    run = make(tmp_path, values, min_delta=min_delta, most=3)
    if missing is None:
        assert chosen(run)[0] in (1, 2)
        return
    with pytest.raises(StepError, match=f"pass {missing} of 3 is missing or out of date, and no gate has stopped"):
        chosen(run)


def test_the_gate_needs_the_pass_before(tmp_path: Path):
    with pytest.raises(StepError, match=r"pass_02\.per_user\.evaluate"):
        decision(make(tmp_path, [0.6]), 3)


def test_no_pass_complete(tmp_path: Path):
    with pytest.raises(StepError, match="no pass is complete"):
        chosen(make(tmp_path, []))
