"""What the log says of a fixed effect that has no optimum, or did not reach it: the advice that helps."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gdmix_core.execution import dispatch
from gdmix_core.pipeline.run import Run
from gdmix_core.report.contents import read_report
from tests.run_directory import Rows, make_run


def trained(
    root: Path, X: np.ndarray, label: np.ndarray, effect: dict[str, Any] | None = None, **settings: Any
) -> tuple[Run, dict[str, Any]]:
    coordinates = {"own": {"fixed_effect": effect or {}, "bag": "x", **settings}}
    run = make_run(root, {"coordinates": coordinates}, Rows(label, bags={"x": X}))
    result = dispatch.execute(run, run.plan["pass_01.own.train"])
    dispatch.execute(run, run.plan["pass_01.own.evaluate"])
    return run, result


def separated() -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    label = np.arange(40) % 2
    X = draw.uniform(0.5, 1.0, size=(40, 2)) * np.stack([label, 1 - label], axis=1)
    return X, label.astype(float)


@pytest.mark.parametrize("solver", ["newton_cg", "lbfgs"])
def test_features_that_separate_the_labels_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture, solver: str):
    X, label = separated()
    with caplog.at_level(logging.WARNING):
        run, result = trained(tmp_path, X, label, {"solver": solver}, l2=0.0)
    assert result["unbounded"]
    assert np.isfinite(result["objective"])
    assert "the features separate the labels" in caplog.text
    assert "coordinates.own.l2 above 0" in caplog.text
    shown = read_report(run).evaluations[0].outcome
    assert (shown.doubtful, "without a finite optimum" in shown.details) == (True, True)


@pytest.mark.parametrize("rows_without_features", [0, 5])
def test_separation_is_seen_wherever_the_solver_stops(tmp_path: Path, rows_without_features: int):
    """Long before the loss is negligible; rows whose loss no coefficient changes say nothing against it."""
    X, label = separated()
    X[:rows_without_features] = 0.0
    _, result = trained(tmp_path, X, label, {"tolerance": 1e-2}, l2=0.0, intercept=False)
    assert result["objective"] > 0.1
    assert (result["converged"], result["unbounded"]) == (True, True)


@pytest.mark.parametrize(
    "settings",
    [
        {"l2": 1e-3},
        {"l1": 1e-3, "l2": 0.0},
        {"bounds": [{"name": "feature", "lower": -9.0, "upper": 9.0}], "l2": 0.0},
    ],
)
def test_what_holds_the_coefficients_makes_an_optimum(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, settings: dict[str, Any]
):
    X, label = separated()
    with caplog.at_level(logging.WARNING):
        _, result = trained(tmp_path, X, label, {"max_iterations": 500}, **settings, intercept=False)
    assert not result["unbounded"]
    assert "separate" not in caplog.text


def test_one_row_on_the_other_side_makes_an_optimum(tmp_path: Path):
    X, label = separated()
    label[0] = 1.0 - label[0]
    _, result = trained(tmp_path, X, label, l2=0.0)
    assert (result["unbounded"], result["converged"]) == (False, True)


def badly_scaled() -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(1)
    X = draw.normal(size=(400, 3)) * [1e12, 1e-12, 1.0]
    return X.astype(np.float32), (draw.random(400) < 0.5).astype(float)


def test_what_helps_against_features_of_different_sizes_is_normalization(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    X, label = badly_scaled()
    with caplog.at_level(logging.WARNING):
        _, result = trained(tmp_path, X, label)
    if result["converged"]:
        pytest.skip("this machine's arithmetic reaches the optimum")
    assert "coordinates.own.normalization: standard_deviation" in caplog.text
    assert "max_iterations" not in caplog.text


def test_what_helps_at_the_limit_of_iterations_is_to_raise_it(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    draw = np.random.default_rng(2)
    X = draw.normal(size=(300, 20))
    label = (X @ draw.normal(size=20) + draw.logistic(size=300) > 0).astype(float)
    with caplog.at_level(logging.WARNING):
        _, result = trained(tmp_path, X, label, {"max_iterations": 1})
    assert not result["converged"]
    assert "raise coordinates.own.fixed_effect.max_iterations" in caplog.text
    assert "normalization" not in caplog.text


def test_at_the_limit_features_of_different_sizes_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    draw = np.random.default_rng(3)
    X = draw.normal(size=(300, 2)) * [1.0, 1e8]
    label = (draw.random(300) < 0.5).astype(float)
    with caplog.at_level(logging.WARNING):
        _, result = trained(tmp_path, X, label, {"max_iterations": 1})
    assert not result["converged"]
    assert "scale them with coordinates.own.normalization: standard_deviation" in caplog.text
