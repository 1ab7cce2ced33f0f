"""Fixed effects on rows that memory does not hold."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gdmix_core.effects.linear import training
from gdmix_core.pipeline.run import Run
from gdmix_core.pipeline.run_directory import clear
from gdmix_core.training_context import TrainingContext
from tests.run_directory import Rows, make_run

STEP = "pass_01.global.train"


def run_of(root: Path, rows: int, features: int, memory: str, rows_per_block: int, **settings: Any) -> Run:
    random = np.random.default_rng(7)
    X = random.standard_normal((rows, features), np.float32)
    label = (random.random(rows) < 1 / (1 + np.exp(-X[:, 0] + 0.5 * X[:, 1]))).astype(float)
    pipeline = {
        "coordinates": {"global": {"fixed_effect": settings, "bag": "features", "variances": "simple"}},
        "engine": {"local": {"processes": 2, "memory": memory}},
    }
    data = Rows(label=label, bags={"features": X})
    return make_run(
        root, pipeline, data, Rows(label=label[:100], bags={"features": X[:100]}), rows_per_block=rows_per_block
    )


@pytest.mark.parametrize("settings", [{}, {"downsampling": 0.5}, {"solver": "lbfgs"}])
def test_the_same_bytes_from_mapped_files(
    tmp_path: Path, settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    written = []
    for memory in ("1g", "1m"):
        run = run_of(tmp_path / memory, 8_000, 30, memory, 3_000, **settings)
        training.train(TrainingContext(run, run.plan[STEP]))
        files = [run.model(1, "global", 0), *Path(run.coordinate(1, "global", "scores")).rglob("*.npy")]
        written.append([Path(file).read_bytes() for file in files])
        assert ("more than engine.local.memory" in caplog.text) == (memory == "1m")
        assert not list(Path(run.root).glob(".gdmix-spill*"))
    assert len(written[0]) == 3
    assert written[0] == written[1]


# argv: the run, the file of a control group's processes, the largest file. Prints the most memory it had, in KiB.
TRAIN = """
import os, resource, sys
run, group, file_size = sys.argv[1:]
if group:
    open(group, "w").write(str(os.getpid()))
if int(file_size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(file_size), int(file_size)))
from gdmix_core.effects.linear import training
from gdmix_core.pipeline.run import Run
from gdmix_core.training_context import TrainingContext
opened = Run.open(run)
training.train(TrainingContext(opened, opened.plan["pass_01.global.train"]))
print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
"""

BEYOND = 40 << 20  # what a process may have beyond what it needs for next to no data


def train_apart(run: Run, group: Path | None = None, file_size: int = 0) -> subprocess.CompletedProcess[str]:
    listed = "" if group is None else str(group / "cgroup.procs")
    command = [sys.executable, "-c", TRAIN, run.root, listed, str(file_size)]
    return subprocess.run(command, capture_output=True, text=True, timeout=200)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = run_of(tmp_path_factory.mktemp("large"), 215_000, 100, "32m", 10_000)
    assert run.result("validate")["splits"]["training"]["rows"] * 100 * 8 > 4 * BEYOND
    return run


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A control group whose processes have BEYOND more than training takes without data; the kernel kills for more."""
    small = train_apart(run_of(tmp_path_factory.mktemp("small"), 2_000, 20, "1m", 1_000))
    limit = (int(small.stdout) << 10) + BEYOND
    root = Path("/sys/fs/cgroup")
    old = (root / "memory" / "memory.limit_in_bytes").exists()
    group = (root / "memory" if old else root) / f"gdmix-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / ("memory.limit_in_bytes" if old else "memory.max")).write_text(str(limit))
    except OSError as error:
        with contextlib.suppress(OSError):
            group.rmdir()
        pytest.skip(f"CONTROL GROUPS MISSING: no limit of memory can be set here ({error.strerror})")
    yield group
    group.rmdir()


@pytest.mark.slow
def test_four_times_as_much_data_as_memory(large: Run, limited: Path) -> None:
    config = Path(large.root, "config.yaml")
    text = config.read_text()
    config.write_text(text.replace("memory: 32m", "memory: 8g"))
    assert train_apart(large, limited).returncode == -signal.SIGKILL
    config.write_text(text)
    found = train_apart(large, limited)
    assert found.returncode == 0, found.stderr
    assert large.is_done(large.plan[STEP])


@pytest.mark.slow
def test_a_folder_without_room_is_one_error(large: Run) -> None:
    clear(large.coordinate(1, "global"))
    found = train_apart(large, file_size=BEYOND)
    assert "no room for 0.086 GB of rows, which memory does not hold (File too large)" in found.stderr
    assert "engine.local.spill" in found.stderr
    assert not large.is_done(large.plan[STEP])
