"""A fixed effect trained by several real processes: the same result, whoever dies on the way."""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gdmix_core import storage
from gdmix_core.effects.linear import training
from gdmix_core.errors import StepError
from gdmix_core.execution.dispatch import execute
from gdmix_core.models.native import read_model
from gdmix_core.pipeline.run import SPLITS, Run
from gdmix_core.training_context import TrainingContext
from gdmix_core.workers import processes, progress
from gdmix_core.workers.process import TERMINATED
from tests.effects.worker_processes import wait_until, workers_of
from tests.run_directory import Rows, checkpoint_of, make_run

pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc"),
]

STEP = "pass_01.global.train"


def make(
    root: Path, workers: int, restarts: int = 2, solver: str = "lbfgs", tolerance: float = 1e-8, **settings: Any
) -> Run:
    """A problem that takes hundreds of iterations: the features differ in scale, and little is penalised."""
    random = np.random.default_rng(20)
    scale = np.logspace(-1.0, 0.5, 20)

    def split(n: int) -> Rows:
        X = random.normal(size=(n, 20)) * scale
        label = random.random(n) < 1 / (1 + np.exp(-X @ (random.normal(size=20) / scale)))
        return Rows(label=label.astype(float), weight=random.uniform(0.5, 2.0, n), bags={"global": X})

    effect = {"solver": solver, "workers": workers, "restarts": restarts, "tolerance": tolerance, "history": 2}
    effect["max_iterations"] = 3000
    coordinate = {"fixed_effect": effect, "bag": "global", "l2": 1e-2, **settings}
    return make_run(root, {"coordinates": {"global": coordinate}}, split(2000), split(700), rows_per_block=500)


def train(run: Run) -> dict[str, Any]:
    return training.train(TrainingContext(run, run.plan[STEP]))


def scores(run: Run, split: str) -> NDArray[np.float32]:
    parts = storage.list_files(run.coordinate(1, "global", "scores", split))
    return np.concatenate([storage.read_array(path) for path, _, _ in parts])


def written(run: Run) -> list[bytes]:
    return [Path(run.model(1, "global", 0)).read_bytes(), *(scores(run, split).tobytes() for split in SPLITS)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Run]:
    run = make(tmp_path_factory.mktemp("alone"), workers=1)
    result = train(run)
    assert result["iterations"] > 150
    return result, run


def assert_same_as_alone(run: Run, result: dict[str, Any], alone: tuple[dict[str, Any], Run]) -> None:
    expected, run_alone = alone
    assert result["converged"]
    assert result["objective"] == pytest.approx(expected["objective"], rel=1e-8)
    for split in SPLITS:
        np.testing.assert_allclose(scores(run, split), scores(run_alone, split), atol=1e-4)
    assert not storage.exists(run.coordinate(1, "global", "checkpoint"))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def adopt_orphans() -> Iterator[None]:
    """Makes this process the parent of those whose parent dies, so that it can ask for their exit codes."""
    set_child_subreaper = 36  # of prctl(2)
    ctypes.CDLL(None).prctl(set_child_subreaper, 1)
    yield
    ctypes.CDLL(None).prctl(set_child_subreaper, 0)


@pytest.fixture
def listen() -> Iterator[Callable[[progress.Listener], None]]:
    yield progress.listen
    progress.listen(None)


def test_two_workers_find_what_one_finds_and_the_same_bits_again(
    tmp_path: Path, alone: tuple[dict[str, Any], Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make(tmp_path / "first", workers=2)
    result = train(run)
    assert_same_as_alone(run, result, alone)
    assert len(storage.list_files(run.coordinate(1, "global", "scores", "training"))) == 2
    # A proxy, as many companies have one, is not asked for the way to the machine itself.
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    again = make(tmp_path / "again", workers=2)
    assert train(again) == result
    assert written(again) == written(run)


def test_every_sum_of_the_other_solver_is_shared(tmp_path: Path) -> None:
    """Newton's method, the statistics of λ and the variances, over real processes."""
    results, models = [], []
    for workers in (1, 2):
        settings = {"l2": "auto", "variances": "full", "normalization": "standardization"}
        run = make(tmp_path / str(workers), workers, solver="newton_cg", tolerance=1e-9, **settings)
        execute(run, run.plan["summarize"])
        results.append(train(run))
        models.append(read_model(run.model(1, "global", 0)))
    assert results[0]["hessian_products"] > 10
    assert results[1]["converged"]
    assert results[1]["objective"] == pytest.approx(results[0]["objective"], rel=1e-8)
    assert results[1]["l2"]["used"] == pytest.approx(results[0]["l2"]["used"], rel=1e-6)
    assert models[0].variances is not None
    assert models[1].variances is not None
    np.testing.assert_allclose(models[1].variances, models[0].variances, rtol=1e-4)


def test_three_workers_find_what_one_finds(tmp_path: Path, alone: tuple[dict[str, Any], Run]) -> None:
    run = make(tmp_path, workers=3)
    assert_same_as_alone(run, train(run), alone)


def test_killed_parent_and_killed_worker_cost_only_time(
    tmp_path: Path,
    alone: tuple[dict[str, Any], Run],
    adopt_orphans: None,
    listen: Callable[[progress.Listener], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = make(tmp_path, workers=2, restarts=1)
    checkpoint = checkpoint_of(run)
    program = f"from tests.effects.linear.test_fixed_workers import *; train(Run.open({run.root!r}))"
    parent = subprocess.Popen(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    wait_until(checkpoint.read)  # training has begun
    workers = workers_of(parent.pid)
    # The one that goes on waits in an all-reduce for the one that is stopped, when the parent dies.
    os.kill(workers[1], signal.SIGSTOP)
    time.sleep(0.3)
    parent.kill()
    parent.wait()
    assert os.waitstatus_to_exitcode(os.waitpid(workers[0], 0)[1]) == TERMINATED
    os.kill(workers[1], signal.SIGCONT)
    os.waitpid(workers[1], 0)
    stored = checkpoint.read()
    assert stored is not None

    iterations: list[int] = []
    killed: list[int] = []

    def kill_one(done: int, total: int, what: str) -> None:
        iterations.append(done)
        if done >= stored.iterations + 30 and not killed:
            killed.append(workers_of(os.getpid())[1])
            os.kill(killed[0], signal.SIGKILL)

    listen(kill_one)
    result = train(run)
    assert killed
    assert "worker 1 was killed by SIGKILL" in caplog.text
    assert "restart 1 of 1" in caplog.text
    assert min(iterations) > stored.iterations  # neither start began anew
    assert result["iterations"] == iterations[-1]
    assert_same_as_alone(run, result, alone)


def test_a_frozen_worker_is_named_and_ended(tmp_path: Path, listen: Callable[[progress.Listener], None]) -> None:
    run = make(tmp_path, workers=2, restarts=0)
    frozen: list[int] = []

    def freeze(done: int, total: int, what: str) -> None:
        if done >= 5 and not frozen:
            frozen.append(workers_of(os.getpid())[0])
            os.kill(frozen[0], signal.SIGSTOP)

    listen(freeze)
    with pytest.raises(StepError, match="worker 0 did not answer"):
        train(run)
    assert not is_running(frozen[0])
    assert not run.is_done(run.plan[STEP])


def test_when_no_restart_is_left_the_worker_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = make(tmp_path, workers=2, restarts=1)
    killed: set[int] = set()
    over = threading.Event()

    def kill_every_second_worker() -> None:
        while not over.is_set():
            pid = workers_of(os.getpid()).get(1)
            if pid is not None and pid not in killed:
                killed.add(pid)
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)

    killer = threading.Thread(target=kill_every_second_worker)
    killer.start()
    try:
        with pytest.raises(StepError, match="after 1 restarts: worker 1 was killed by SIGKILL"):
            train(run)
    finally:
        over.set()
        killer.join()
    assert len(killed) == 2
    assert "restart 1 of 1" in caplog.text
    assert workers_of(os.getpid()) == {}


def test_a_mistake_is_told_and_not_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    run = make(tmp_path, workers=2)
    block = Path(run.frame("training", "block-00003.parquet"))
    block.write_bytes(bytes(block.stat().st_size))
    with pytest.raises(StepError, match=r"block-00003\.parquet is damaged .*what validate made anew"):
        train(run)
    assert "2 workers (pids " in caplog.text
    assert "restart" not in caplog.text


def test_workers_that_are_told_to_end_are_not_started_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = make(tmp_path, workers=2)

    def end() -> None:
        wait_until(lambda: len(workers_of(os.getpid())) == 2)
        processes.terminate_children()

    ender = threading.Thread(target=end)
    ender.start()
    with pytest.raises(StepError, match="every worker was ended from outside"):
        train(run)
    ender.join()
    assert "restart" not in caplog.text


def test_a_cluster_of_another_size_is_told(tmp_path: Path) -> None:
    run = make(tmp_path, workers=2)
    cluster = {"cluster": {"worker": ["127.0.0.1:1"]}, "task": {"type": "worker", "index": 0}}
    worker = processes.start(
        "gdmix_core.effects.linear.worker", ["--run", run.root, "--step", STEP], {"TF_CONFIG": json.dumps(cluster)}
    )
    events: list[processes.Event] = []
    assert processes.wait_all([worker], lambda rank, event: events.append(event)) == [1]
    assert events == [{"error": f"{STEP}: TF_CONFIG names 1 workers, but fixed_effect.workers is 2"}]
