"""Sums over workers, and what several workers make of a fixed effect, with threads in place of processes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gdmix_core import storage
from gdmix_core.effects.linear.fit import fit
from gdmix_core.effects.linear.training_rows import TrainingRows
from gdmix_core.errors import StepError
from gdmix_core.pipeline.run import Run
from gdmix_core.training_context import TrainingContext
from gdmix_core.workers.all_reduce import SharedObjective, SingleWorker
from gdmix_core.workers.tensorflow_all_reduce import TensorFlowAllReduce, place_in_cluster
from tests.run_directory import Rows, make_run


class Threads:
    """The group of the threads of a test."""

    def __init__(self, rank: int, workers: int, board: list[Any], barrier: threading.Barrier) -> None:
        self.rank, self.workers = rank, workers
        self._board, self._barrier = board, barrier

    def sum(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        self._board[self.rank] = values
        self._barrier.wait(300)
        total = np.sum(self._board, axis=0)
        self._barrier.wait(300)
        return np.asarray(total)


def in_group(workers: int, work: Callable[[Threads], Any]) -> list[Any]:
    board: list[Any] = [None] * workers
    barrier = threading.Barrier(workers)
    with ThreadPoolExecutor(workers) as pool:
        groups = [Threads(rank, workers, board, barrier) for rank in range(workers)]
        return list(pool.map(work, groups))


class Quadratic:
    """|w − centre|², of one worker."""

    def __init__(self, centre: float) -> None:
        self._centre = centre

    def value_and_gradient(self, w: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        gap = w - self._centre
        return float(gap @ gap), 2 * gap

    def product(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        return 2 * v


def test_alone_the_objective_is_its_own() -> None:
    objective = SharedObjective(Quadratic(1.0), SingleWorker())
    value, gradient = objective.value_and_gradient(np.array([3.0, 1.0]))
    assert value == 4.0
    np.testing.assert_array_equal(gradient, [4.0, 0.0])
    assert objective.evaluations == 1


def test_the_objective_is_the_sum_of_all_workers() -> None:
    def work(group: Threads) -> tuple[float, NDArray[np.float64]]:
        return SharedObjective(Quadratic(group.rank), group).value_and_gradient(np.array([3.0]))

    for value, gradient in in_group(3, work):
        assert value == 9.0 + 4.0 + 1.0
        np.testing.assert_array_equal(gradient, [6.0 + 4.0 + 2.0])


def test_workers_that_drift_apart_are_told() -> None:
    def work(group: Threads) -> str:
        objective = SharedObjective(Quadratic(0.0), group)
        objective.value_and_gradient(np.array([0.1]))
        # The last bit of one worker's w.
        w = np.nextafter(np.array([0.3]), 1.0 if group.rank == 1 else 0.0)
        with pytest.raises(StepError) as raised:
            objective.value_and_gradient(w)
        return str(raised.value)

    messages = in_group(2, work)
    assert "worker 1 evaluates other coefficients than the rest after 2 evaluations" in messages[1]


def small_run(root: Path, task: str, rows: int) -> Run:
    random = np.random.default_rng(rows)

    def split(n: int) -> Rows:
        label = random.integers(0, 2, n) if task == "logistic_regression" else random.poisson(2.0, n)
        weight = random.uniform(0.5, 2.0, n)
        X = (random.random((n, 8)) * (random.random((n, 8)) < 0.4)).astype(np.float32)
        return Rows(label=label, weight=weight, offset=random.normal(0, 0.2, n), bags={"global": X})

    effect = {"fixed_effect": {"tolerance": 1e-8}, "bag": "global"}
    return make_run(root, {"task": task, "coordinates": {"global": effect}}, split(rows), split(2), rows_per_block=100)


def result_of(run: Run, workers: int) -> tuple[list[dict[str, Any]], dict[str, NDArray[np.float32]]]:
    step = run.plan["pass_01.global.train"]

    def work(group: Any) -> dict[str, Any]:
        rows = TrainingRows(TrainingContext(run, step), group.rank, group.workers, 1)
        return fit(TrainingContext(run, step), rows, group, on_iteration=lambda number, objective: None)

    outcomes = in_group(workers, work) if workers > 1 else [work(SingleWorker())]
    scores = {}
    for split in ("training", "validation"):
        parts = storage.list_files(run.coordinate(1, "global", "scores", split))
        assert len(parts) == workers
        scores[split] = np.concatenate([storage.read_array(path) for path, _, _ in parts])
    return outcomes, scores


@pytest.mark.parametrize("task", ["logistic_regression", "linear_regression", "poisson_regression"])
@pytest.mark.parametrize("rows", [730, 3])
def test_any_number_of_workers_finds_what_one_finds(tmp_path: Path, task: str, rows: int) -> None:
    alone, scores_alone = result_of(small_run(tmp_path / "1", task, rows), 1)
    # With five workers some of 3 training rows, and of 2 validation rows, have none.
    for workers in (2, 5):
        outcomes, scores = result_of(small_run(tmp_path / str(workers), task, rows), workers)
        assert all(outcome == outcomes[0] for outcome in outcomes)
        assert outcomes[0]["objective"] == pytest.approx(alone[0]["objective"], rel=1e-8)
        assert outcomes[0]["goal"] == pytest.approx(alone[0]["goal"], rel=1e-12)
        assert outcomes[0]["converged"]
        for split, expected in scores_alone.items():
            np.testing.assert_allclose(scores[split], expected, atol=1e-4)


def tf_config(cluster: Any, task: Any) -> dict[str, str]:
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})}


def test_place_in_cluster() -> None:
    workers = {"worker": ["a:1", "b:1", "c:1"]}
    assert place_in_cluster(tf_config(workers, {"type": "worker", "index": 2})) == (2, 3)
    assert place_in_cluster(tf_config(workers, {"type": "worker", "index": "0"})) == (0, 3)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"TF_CONFIG": "{"},
        {"TF_CONFIG": "[]"},
        tf_config({"worker": ["a:1"]}, {"type": "worker", "index": 1}),
        tf_config({"worker": ["a:1"]}, {"type": "worker", "index": -1}),
        tf_config({"worker": ["a:1"]}, {"type": "ps", "index": 0}),
        tf_config({"worker": ["a:1"], "chief": ["b:1"]}, {"type": "worker", "index": 0}),
        tf_config({"worker": ["a:1"]}, {"type": "worker"}),
    ],
)
def test_a_place_that_is_none_is_told(environment: dict[str, str]) -> None:
    with pytest.raises(StepError, match="TF_CONFIG must name the workers"):
        place_in_cluster(environment)


def test_without_a_cluster_tensorflow_is_not_even_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(StepError, match="TF_CONFIG"):
        TensorFlowAllReduce()
