"""A fixed effect trained by one process, against the optimum found by other means."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.typing import NDArray

from gdmix_core import storage
from gdmix_core.effects.linear import training
from gdmix_core.execution.dispatch import execute
from gdmix_core.pipeline.run import SPLITS, Run
from gdmix_core.training_context import TrainingContext
from gdmix_core.workers import progress
from gdmix_core.workers.checkpoint import Iterate
from tests.effects.global_optimum import coefficients, design_matrix, problem_of
from tests.run_directory import Rows, checkpoint_of, make_run

TASKS = ("logistic_regression", "linear_regression", "poisson_regression")


def generated(task: str, n: int, features: int, seed: int) -> Rows:
    """Sparse rows with weights and offsets, and labels from a model of the task's kind; one feature is never seen."""
    random = np.random.default_rng(seed)
    X = sp.random(n, features, density=0.3, format="lil", dtype=np.float32, random_state=random)
    X[:, features // 2] = 0.0
    X = sp.csr_matrix(X)
    X.data = (2 * X.data - 1).astype(np.float32)
    offset = random.normal(0.0, 0.3, n)
    margin = X @ random.normal(0.0, 1.0, features) + 0.5 + offset
    label = {
        "logistic_regression": lambda: (random.random(n) < 1 / (1 + np.exp(-margin))).astype(float),
        "linear_regression": lambda: margin + random.normal(0.0, 0.5, n),
        "poisson_regression": lambda: random.poisson(np.exp(margin)).astype(float),
    }[task]()
    return Rows(label=label, weight=random.uniform(0.2, 3.0, n), offset=offset, bags={"global": X})


def config(task: str = "logistic_regression", effect: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    return {
        "task": task,
        "coordinates": {"global": {"fixed_effect": effect or {}, "bag": "global", "l2": 0.7, **settings}},
    }


def train(run: Run) -> dict[str, Any]:
    return training.train(TrainingContext(run, run.plan["pass_01.global.train"]))


def scores(run: Run, split: str) -> NDArray[np.float32]:
    parts = storage.list_files(run.coordinate(1, "global", "scores", split))
    return np.concatenate([storage.read_array(path) for path, _, _ in parts])


def assert_optimal(run: Run, result: dict[str, Any], training: Rows, validation: Rows) -> None:
    problem = problem_of(run, "global", training)
    best = problem.optimum()
    w = coefficients(run, "global")
    assert result["converged"]
    assert result["objective"] == pytest.approx(problem.value(best), rel=1e-9)
    assert result["objective"] == pytest.approx(problem.value(w), rel=1e-12)
    assert result["goal"] == pytest.approx(1e-6 * problem.weight.sum())
    assert np.abs(problem.gradient(w)).max() == pytest.approx(result["gradient"], rel=1e-3, abs=1e-10)
    assert result["gradient"] <= result["goal"]
    np.testing.assert_allclose(w, best, atol=2e-4)
    for split, rows in zip(SPLITS, (training, validation), strict=True):
        expected = design_matrix(run, "global", rows) @ w
        np.testing.assert_allclose(scores(run, split), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"regularize_intercept": True},
        {"intercept": False},
        {"bag": None, "l2": 0.0},
        {"bag": None, "l2": 5.0, "regularize_intercept": True},
    ],
    ids=["intercept", "penalised intercept", "no intercept", "intercept alone", "penalised intercept alone"],
)
def test_finds_the_optimum(tmp_path: Path, task: str, settings: dict[str, Any]) -> None:
    training, validation = generated(task, 2300, 30, 1), generated(task, 700, 30, 2)
    run = make_run(tmp_path, config(task, **settings), training, validation)
    assert_optimal(run, train(run), training, validation)


def test_dense_double_features_without_validation(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    X = random.normal(size=(500, 4)) * [1.0, 1e-3, 10.0, 1.0]
    training = Rows(label=(random.random(500) < 0.3).astype(float), bags={"global": X})
    run = make_run(tmp_path, config(effect={"tolerance": 1e-9}), training)
    result = train(run)
    problem = problem_of(run, "global", training)
    assert result["objective"] == pytest.approx(problem.value(problem.optimum()), rel=1e-9)
    assert not storage.exists(run.coordinate(1, "global", "scores", "validation"))


def test_another_coordinates_scores_are_its_offset_and_the_earlier_pass_its_start(tmp_path: Path) -> None:
    training, validation = generated("logistic_regression", 1500, 20, 4), generated("logistic_regression", 300, 20, 5)
    bias = {"fixed_effect": {}, "l2": 0.0}
    both = {"coordinates": {"bias": bias, **config(effect={"tolerance": 1e-8})["coordinates"]}, "passes": {"max": 2}}
    run = make_run(tmp_path, both, training, validation)
    results = {}
    for step in run.plan.steps:
        if step.kind in {"train_fixed", "evaluate"}:
            results[step.id] = execute(run, step)
    for number in (1, 2):
        of_bias = storage.read_array(run.scores(number, "bias", "training")).astype(np.float64)
        problem = problem_of(run, "global", training, of_bias)
        trained = results[f"pass_{number:02d}.global.train"]
        assert trained["objective"] == pytest.approx(problem.value(problem.optimum()), rel=1e-9)
    # The first pass's bias knew nothing of the other coordinate; the second one's does, so little is left to do.
    assert results["pass_02.global.train"]["iterations"] < results["pass_01.global.train"]["iterations"]


def test_the_result_is_the_same_to_the_bit_on_any_number_of_threads(tmp_path: Path) -> None:
    training, validation = generated("logistic_regression", 3000, 50, 6), generated("logistic_regression", 100, 50, 7)
    written = []
    for threads in (1, 3):
        engine = {"engine": {"local": {"processes": threads}}}
        run = make_run(tmp_path / str(threads), config() | engine, training, validation)
        train(run)
        written.append([Path(run.model(1, "global", 0)).read_bytes(), *(scores(run, s).tobytes() for s in SPLITS)])
    assert written[0] == written[1]


def test_says_when_it_did_not_converge(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = generated("logistic_regression", 1000, 30, 8)
    run = make_run(tmp_path, config(effect={"max_iterations": 2, "tolerance": 1e-9}), rows)
    result = train(run)
    assert not result["converged"]
    assert result["iterations"] == 2
    assert result["gradient"] > result["goal"]
    assert "did not converge" in caplog.text


def test_a_step_that_is_done_is_not_done_again(tmp_path: Path) -> None:
    run = make_run(tmp_path, config(), generated("logistic_regression", 500, 10, 9))
    first = train(run)
    model = Path(run.model(1, "global", 0))
    written = model.stat().st_mtime_ns
    assert train(run) == first
    assert model.stat().st_mtime_ns == written


def test_score_parts_of_more_workers_are_removed(tmp_path: Path) -> None:
    rows = generated("logistic_regression", 500, 10, 10)
    run = make_run(tmp_path, config(), rows, rows)
    storage.write_array(run.score_part(1, "global", "training", 3), np.zeros(7, np.float32))
    train(run)
    assert len(scores(run, "training")) == 500


class KilledError(Exception):
    """Stands for whatever ends the process in the middle."""


def killed_after(run: Run, iterations: int) -> None:
    def listener(done: int, total: int, what: str) -> None:
        if done == iterations:
            raise KilledError

    progress.listen(listener)
    try:
        with pytest.raises(KilledError):
            train(run)
    finally:
        progress.listen(None)


def slow_to_converge(tmp_path: Path, **effect: Any) -> tuple[Run, Rows, Rows]:
    training, validation = generated("poisson_regression", 1000, 40, 11), generated("poisson_regression", 200, 40, 12)
    return (
        make_run(tmp_path, config("poisson_regression", {"solver": "lbfgs", **effect}, l2=1e-3), training, validation),
        training,
        validation,
    )


def test_a_killed_step_goes_on_from_its_checkpoint(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    run, training, validation = slow_to_converge(tmp_path)
    killed_after(run, 8)
    stored = checkpoint_of(run).read()
    assert stored is not None
    assert 1 <= stored.iterations <= 8
    problem = problem_of(run, "global", training)
    assert problem.value(stored.w) < problem.value(np.zeros(41))
    result = train(run)
    assert f"goes on from its checkpoint, after {stored.iterations} iterations" in caplog.text
    assert result["iterations"] > stored.iterations
    assert result["evaluations"] > result["iterations"]
    assert_optimal(run, result, training, validation)
    assert not storage.exists(run.coordinate(1, "global", "checkpoint"))


def test_iterations_before_the_kill_count(tmp_path: Path) -> None:
    run, _, _ = slow_to_converge(tmp_path, max_iterations=10, tolerance=1e-12)
    killed_after(run, 8)
    result = train(run)
    assert result["iterations"] == 10
    assert not result["converged"]


def test_a_checkpoint_of_other_settings_is_ignored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    run, training, validation = slow_to_converge(tmp_path)
    killed_after(run, 8)
    again = make_run(tmp_path, config("poisson_regression", l2=2.0), training, validation)
    assert checkpoint_of(again).read() is None
    assert_optimal(again, train(again), training, validation)
    assert "goes on" not in caplog.text


def test_an_unreadable_checkpoint_is_told_and_ignored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run, training, validation = slow_to_converge(tmp_path)
    with storage.open_for_write(run.coordinate(1, "global", "checkpoint", "iterate.npz")) as file:
        file.write(b"PK\x03\x04 cut off")
    assert_optimal(run, train(run), training, validation)
    assert "not a readable checkpoint" in caplog.text


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    run, _, _ = slow_to_converge(tmp_path)
    w = np.random.default_rng(13).normal(size=41)
    checkpoint_of(run).offer(Iterate(w, 17, 23))
    stored = checkpoint_of(run).read()
    assert stored is not None
    np.testing.assert_array_equal(stored.w, w)
    assert (stored.iterations, stored.evaluations) == (17, 23)
