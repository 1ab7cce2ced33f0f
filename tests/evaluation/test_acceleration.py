"""Extrapolated passes: the joint optimum in few of them, for coordinates that explain the same rows."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.linalg import spsolve

from gdmix_core import storage
from gdmix_core.errors import DataError
from gdmix_core.evaluation import acceleration
from gdmix_core.evaluation.selection import moved
from gdmix_core.execution.dispatch import execute
from gdmix_core.models.native import read_model
from gdmix_core.pipeline.run import Run
from tests.run_directory import Rows, make_run, walk
from tests.solvers.losses import loss_formulas

LOSSES = {"logistic_regression": "logistic", "linear_regression": "linear", "poisson_regression": "poisson"}


def problem(design: str, task: str, n: int = 3000, seed: int = 0) -> Rows:
    """40 users, and 12 items: crossed, within users, or described by features of the fixed effect."""
    random = np.random.default_rng(seed)
    user = random.integers(0, 40, n)
    item = 100 * user + random.integers(0, 5, n) if design == "nested" else random.integers(0, 12, n)
    X = random.normal(size=(n, 3))
    if design == "described":
        X[:, 1:] = random.normal(size=(12, 2))[item]
    names, at = np.unique(item, return_inverse=True)
    margin = 0.3 + X @ [0.5, -0.4, 0.2] + random.normal(0, 1, 40)[user] + random.normal(0, 0.5, len(names))[at]
    if task == "logistic_regression":
        label = (random.random(n) < 1 / (1 + np.exp(-margin))).astype(float)
    elif task == "poisson_regression":
        label = random.poisson(np.exp(0.5 * margin)).astype(float)
    else:
        label = margin + random.normal(size=n)
    return Rows(label=label, weight=random.uniform(0.5, 2, n), bags={"terms": X}, ids={"user": user, "item": item})


def joint_optimum(
    rows: Rows, task: str, l2: float, without: Mapping[str, NDArray[np.bool_]] | None = None
) -> NDArray[np.float64]:
    """The fixed coefficients of the joint optimum, by Newton's method on the sparse joint problem.

    without: by random effect, rows whose entity has no model
    """
    label, weight = np.asarray(rows.label), np.asarray(rows.weight)
    blocks = [np.ones((len(rows), 1)), rows.matrix("terms").astype(np.float64)]
    for name in ("user", "item"):
        _, at = np.unique(rows.ids[name], return_inverse=True)
        has_model = ~(without or {}).get(name, np.zeros(len(rows), bool))
        blocks.append(sp.csr_matrix((has_model.astype(float), (np.arange(len(rows)), at))))
    X = sp.csr_matrix(sp.hstack(blocks))
    penalty = np.full(X.shape[1], l2)
    penalty[:4] = 0.0
    w = np.zeros(X.shape[1])
    for _ in range(60):
        z = X @ w
        gradient = X.T @ (weight * loss_formulas.first(LOSSES[task], z, label)) + penalty * w
        curvature = weight * loss_formulas.second(LOSSES[task], z, label)
        step = spsolve(sp.csc_matrix(X.T @ sp.diags(curvature) @ X + sp.diags(penalty)), gradient)
        w -= step * min(1.0, 2.0 / np.abs(step).max())
        if np.abs(step).max() < 1e-11:
            return w[:4]
    raise AssertionError("Newton's method did not converge")


def made(
    root: Path, rows: Rows, task: str, passes: int, samples: Mapping[str, Any] | None = None, **settings: Any
) -> Run:
    effect = {"tolerance": 1e-9}
    coordinates: dict[str, Any] = {"global": {"fixed_effect": effect, "bag": "terms", "l2": 0.0}}
    for name in ("user", "item"):
        random_effect = {"entity": name, **effect, "samples": (samples or {}).get(name, {})}
        coordinates[name] = {"random_effect": random_effect, "l2": 3.0, "regularize_intercept": True}
    config = {
        "task": task,
        "coordinates": coordinates,
        "passes": {"max": passes, "min_delta": "none", **settings},
        "metrics": ["logloss" if task == "logistic_regression" else "rmse"],
    }
    return make_run(root, config, rows)


def walked(run: Run) -> Run:
    for step in run.plan.steps[2:]:
        execute(run, step)
    return run


def distance(run: Run, optimum: NDArray[np.float64], number: int) -> float:
    return float(np.abs(read_model(run.model(number, "global", 0)).means - optimum).max())


@pytest.mark.slow
@pytest.mark.parametrize("task", LOSSES)
@pytest.mark.parametrize("design", ["crossed", "nested", "described"])
def test_the_joint_optimum_in_few_passes(tmp_path: Path, design: str, task: str) -> None:
    """Items that features describe trade with these; without acceleration that takes hundreds of passes."""
    passes = {"crossed": 5, "nested": 10, "described": 12}[design]
    rows = problem(design, task)
    optimum = joint_optimum(rows, task, 3.0)
    run = walked(made(tmp_path / "accelerated", rows, task, passes))
    plain = walked(made(tmp_path / "plain", rows, task, passes, acceleration="none"))
    assert distance(run, optimum, passes) < 1e-4
    assert distance(run, optimum, passes) < 0.1 * distance(plain, optimum, passes)
    moved = [run.result(f"pass_{number:02d}.accelerate")["moved"]["rms"] for number in range(3, passes + 1)]
    assert moved[-1] < 0.1 * moved[0]


@pytest.mark.slow
@pytest.mark.parametrize("task", LOSSES)
def test_rows_without_a_model_do_not_move_the_end(tmp_path: Path, task: str) -> None:
    """The intercepts of an effect that does not train on all rows have another mean than 0."""
    rows = problem("crossed", task, 2000)
    _, at, counts = np.unique(rows.ids["user"], return_inverse=True, return_counts=True)
    without = counts[at] < 50
    assert 0.2 < without.mean() < 0.8
    optimum = joint_optimum(rows, task, 3.0, {"user": without})
    run = walked(made(tmp_path, rows, task, 14, samples={"user": {"min": 50}}))
    assert abs(run.result("pass_14.user.train")["intercept_mean"]) > 1e-3
    assert distance(run, optimum, 14) < 1e-4


def test_without_validation_data_passes_end_when_nothing_moves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = problem("crossed", "logistic_regression", 1000)
    run = made(tmp_path / "rests", rows, "logistic_regression", 30, min_delta=0.0)
    caplog.set_level(logging.INFO)
    walk(run)
    best = run.result("select")
    assert 4 <= best["pass"] == best["passes"] < 12
    shares = [moved(run, number) for number in range(1, best["passes"] + 1)]
    assert shares[0] is None
    assert shares[-1] is not None
    assert shares[-1] <= 1e-4 < min(share for share in shares[1:-1] if share is not None)
    assert "moved the scores by" in caplog.text
    assert "passes.tolerance 0.0001" in caplog.text
    assert "still moved scores" not in caplog.text
    scores = [storage.read_array(run.scores(p, "user", "training")).astype(float) for p in (2, 3)]
    found = run.result("pass_03.user.evaluate")["moved"]
    assert found["rms"] == pytest.approx(np.sqrt(np.mean((scores[1] - scores[0]) ** 2)))
    assert found["largest"] == pytest.approx(np.abs(scores[1] - scores[0]).max())
    assert distance(run, joint_optimum(rows, "logistic_regression", 3.0), best["pass"]) < 1e-3

    walk(made(tmp_path / "moves", rows, "logistic_regression", 2, min_delta=0.0))
    (warning,) = [record for record in caplog.records if "still moved scores" in record.message]
    assert warning.levelno == logging.WARNING


def test_the_combination_is_that_of_least_squares() -> None:
    random = np.random.default_rng(1)
    residuals = random.normal(size=(4, 50))
    difference = np.diff(residuals, axis=0)
    expected = np.linalg.lstsq(difference.T, residuals[-1], rcond=None)[0]
    np.testing.assert_allclose(acceleration._least_squares(residuals @ residuals.T), expected, rtol=1e-8)
    assert len(acceleration._least_squares(np.eye(1))) == 0
    # Two passes that moved the scores alike tell no direction.
    np.testing.assert_array_equal(acceleration._least_squares(np.ones((2, 2))), [0.0])


@pytest.mark.parametrize(("factor", "least", "most"), [(0.9, 9.0, 9.0), (0.999, 100.0, 100.0), (1.01, 0.0, 0.0)])
def test_it_goes_ahead_alone_and_not_beyond_reason(
    monkeypatch: pytest.MonkeyPatch, factor: float, least: float, most: float
) -> None:
    """Residuals that shrink by a factor a pass have their end 1 / (1 − factor) of them from where the pass began."""
    random = np.random.default_rng(4)
    direction = random.normal(size=200)
    residuals = np.array([factor**k * direction for k in range(2)])
    start = np.array([np.zeros(200), residuals[0]])
    history = acceleration._History.__new__(acceleration._History)
    history._names, history._passes, history._rows = ["user"], range(1, 3), 200
    end = start + residuals
    monkeypatch.setattr(history, "_pieces", lambda name: iter([(0, start, end)]))
    monkeypatch.setattr(history, "_ends", lambda name, count: iter([(0, end[-count:])]))
    moved, coefficients = history.coefficients()
    assert moved["rms"] == pytest.approx(float(np.sqrt(np.mean(residuals[-1] ** 2))))
    beyond = history.extrapolated("user", coefficients) - (start + residuals)[-1]
    assert least * 0.99 <= np.linalg.norm(beyond) / np.linalg.norm(residuals[-1]) <= most * 1.01 + 1e-6


def test_the_extrapolation_by_hand(tmp_path: Path) -> None:
    run = walked(made(tmp_path, problem("crossed", "logistic_regression", 400), "logistic_regression", 4))
    names = ["user", "item"]
    ends = [np.concatenate([storage.read_array(run.scores(p, n, "training")) for n in names]) for p in (1, 2, 3)]
    third = np.concatenate([storage.read_array(run.accelerated(3, n)) for n in names])
    starts = [np.zeros_like(ends[0]), ends[0], third]
    ends, starts = np.array(ends, np.float64), np.array(starts, np.float64)
    for p in range(3):  # the mean of the intercepts moves to the fixed effect's, which is trained first
        for k, name in enumerate(names):
            ends[p, k * 400 : (k + 1) * 400] -= read_model(run.model(p + 1, name, 0)).means.mean()
    for number in (3, 4):
        g, residual = ends[: number - 1], (ends - starts)[: number - 1]
        γ = np.linalg.lstsq(np.diff(residual, axis=0).T, residual[-1], rcond=None)[0]
        found = np.concatenate([storage.read_array(run.accelerated(number, n)) for n in names])
        np.testing.assert_allclose(found, g[-1] - γ @ np.diff(g, axis=0), atol=1e-5)


def test_a_step_that_is_done_again_gives_the_same_bytes(tmp_path: Path) -> None:
    run = walked(made(tmp_path, problem("crossed", "logistic_regression", 400), "logistic_regression", 4))
    path = Path(run.accelerated(4, "item"))
    before = path.read_bytes()
    path.unlink()
    again = Run.open(run.root)
    assert not again.is_done(again.plan["pass_04.accelerate"])
    execute(again, again.plan["pass_04.accelerate"])
    assert path.read_bytes() == before
    path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    altered = Run.open(run.root)
    Path(altered.marker(altered.plan["pass_04.global.train"])).unlink()
    with pytest.raises(DataError, match=r"item\.npy"):
        execute(altered, altered.plan["pass_04.global.train"])
