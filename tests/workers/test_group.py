"""A group of processes in which one freezes."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from gdmix_core.workers.group import WorkerGroup, train_together


@pytest.mark.skipif(sys.platform != "linux", reason="SIGSTOP and /proc")
@pytest.mark.timeout(120)
@pytest.mark.parametrize("replaced", [True, False], ids=["another in its place", "all again"])
def test_a_frozen_server_is_missed_and_killed(tmp_path: Path, caplog: pytest.LogCaptureFixture, replaced: bool) -> None:
    caplog.set_level(logging.WARNING)
    group = WorkerGroup(
        "step",
        "tests.workers.beating_worker",
        ["--run", str(tmp_path), "--step", "step"],
        {"chief": 1, "worker": 1},
        restarts=1,
        replaceable=("worker",) if replaced else (),
        servers=True,
        heartbeat_timeout=4.0,
    )
    assert train_together(group, lambda event: None) == {"served": "step"}
    then = "starting another in its place" if replaced else "starting all 2 workers again from the checkpoint"
    assert [record.message.partition(" (restart")[0] for record in caplog.records] == [
        f"step: worker 0 did not answer; {then}"
    ]
