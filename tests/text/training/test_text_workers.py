"""Text networks trained by several real processes: in step, and under parameter servers; whoever dies on the way."""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gdmix_core import storage
from gdmix_core.execution.dispatch import execute
from gdmix_core.pipeline.run import SPLITS
from gdmix_core.text.training.worker import train_and_score
from gdmix_core.training_context import TrainingContext
from gdmix_core.workers import progress
from gdmix_core.workers.all_reduce import SingleWorker
from tests.effects.worker_processes import wait_until, workers_of
from tests.text.text_runs import EVERYTHING, STEP, scores, text_rows, text_run

pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc"),
]


@pytest.fixture
def listen() -> Iterator[Callable[[progress.Listener], None]]:
    yield progress.listen
    progress.listen(None)


def test_two_workers_one_of_which_dies_find_what_one_finds(
    tmp_path: Path, listen: Callable[[progress.Listener], None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    # Batches of 3 rows: some have none for one of the workers.
    settings: dict[str, Any] = {**EVERYTHING, "batch": 3, "epochs": 2, "evaluations": 3}
    data = text_rows(151, 20), text_rows(77, 21)
    alone = text_run(tmp_path / "alone", *data, **settings)
    expected = train_and_score(TrainingContext(alone, alone.plan[STEP]), SingleWorker())
    run = text_run(tmp_path / "two", *data, **settings, workers=2, restarts=1)
    killed: list[int] = []
    told: list[int] = []

    def kill_one(done: int, total: int, what: str) -> None:
        told.append(done)
        if done >= 60 and not killed:
            killed.append(workers_of(os.getpid())[1])
            os.kill(killed[0], signal.SIGKILL)

    listen(kill_one)
    result = execute(run, run.plan[STEP])
    assert "worker 1 was killed by SIGKILL" in caplog.text
    assert "restart 1 of 1" in caplog.text
    assert sorted(told) == told  # it did not begin anew
    assert run.is_done(run.plan[STEP])
    assert len(result["curve"]) == 6
    for mine, one in zip(result["curve"], expected["curve"], strict=True):
        assert mine["step"] == one["step"]
        assert mine["loss"] == pytest.approx(one["loss"], rel=1e-4)
    for split in SPLITS:
        np.testing.assert_allclose(scores(run, split), scores(alone, split), atol=2e-3)
        assert len(storage.list_files(run.coordinate(1, "global", "scores", split))) == 2
    assert not storage.exists(run.coordinate(1, "global", "checkpoint"))


def test_a_worker_under_a_parameter_server_dies_and_another_goes_on(
    tmp_path: Path, listen: Callable[[progress.Listener], None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    settings = {**EVERYTHING, "mode": "parameter_server", "workers": 2, "epochs": 8, "patience": 50}
    validation = text_rows(211, 23)
    run = text_run(tmp_path, text_rows(503, 22), validation, **settings)
    killed: list[int] = []

    def kill_one(done: int, total: int, what: str) -> None:
        if not killed:
            killed.append(workers_of(os.getpid())[1])
            os.kill(killed[0], signal.SIGKILL)

    listen(kill_one)
    result = execute(run, run.plan[STEP])
    assert re.search("worker 1 was killed by SIGKILL.*; starting another in its place", caplog.text)
    assert "from the checkpoint" not in caplog.text
    assert len(result["curve"]) == 8
    # Workers that do not wait differ from run to run: the bounds stand far from what a run finds.
    assert result["curve"][-1]["loss"] < 0.95 * np.log(2)
    assert [len(scores(run, split)) for split in SPLITS] == [503, 211]
    z = validation.offset + scores(run, "validation")
    above = z[validation.label == 1][:, None] > z[validation.label == 0]
    assert above.mean() > 0.6
    wait_until(lambda: not (workers_of(os.getpid()) or workers_of(os.getpid(), "ps")))
