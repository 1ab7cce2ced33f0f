"""Locks of a run and its steps, with processes that hold them and are killed."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec.core
import numpy as np
import pytest
import yaml
from run_directory import Rows, make_run

from gdmix_core.errors import StepError
from gdmix_core.execution import dispatch
from gdmix_core.pipeline import advisory_lock, run_lock
from gdmix_core.pipeline.lock_owner import Owner

WITHOUT_FLOCK = "run_lock._acquired = lambda *a, **k: None"
HOLD = """
import sys, time
from gdmix_core.pipeline import run_lock
root, step, shared, more = sys.argv[1:]
exec(more)
with run_lock.step(root, step, wait=0) if step else run_lock.whole_run(root, shared=bool(shared)):
    print("held", flush=True)
    time.sleep(600)
"""


def is_advisory() -> bool:
    return run_lock._acquired.__name__ == "<lambda>"


@contextlib.contextmanager
def holder(root: Path | str, step: str = "", shared: bool = False) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock by now."""
    arguments = [sys.executable, "-c", HOLD, str(root), step, "x" if shared else ""]
    arguments.append(WITHOUT_FLOCK if is_advisory() else "")
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def is_free(root: Path | str, *, shared: bool = False) -> bool:
    try:
        with run_lock.whole_run(str(root), shared=shared):
            return True
    except StepError:
        return False


@pytest.fixture(params=["flock", "advisory"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with and one without flock; there the other process is without it, too."""
    if request.param == "advisory":
        monkeypatch.setattr(run_lock, "_acquired", lambda *a, **k: None)
    return tmp_path


def test_one_owner_or_several_who_share(root: Path):
    with holder(root) as owner:
        assert not is_free(root)
        assert not is_free(root, shared=True)
        with pytest.raises(StepError) as refused, run_lock.whole_run(str(root)):
            pass
        said = str(refused.value)
        assert f"{root}: the run is being worked on by process {owner.pid} on " in said
        assert time.strftime("since %Y-%m-%dT", time.gmtime()) in said
    with holder(root, shared=True), holder(root, shared=True):
        assert is_free(root, shared=True)
        assert not is_free(root)
    assert is_free(root)


def test_a_killed_owner_holds_nothing(root: Path):
    for shared in (False, True):
        with holder(root, shared=shared) as owner:
            os.kill(owner.pid, signal.SIGKILL)
            owner.wait()
            assert is_free(root)


def test_a_process_forked_off_keeps_no_lock(tmp_path: Path):
    """As a trainer of the user's may fork; it lives on when the owner is killed."""
    # A line is one write: with PYTHONUNBUFFERED, print makes two, and those of two processes may mix.
    forks = '    import os\n    os.write(1, b"%d\\n" % os.fork())\n    os.write(1, b"held\\n")\n'
    code = HOLD.replace('    print("held", flush=True)\n', forks)
    arguments = [sys.executable, "-c", code, str(tmp_path), "", "", ""]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        # "held" of both, the child's number from the parent, and 0 from the child.
        said = [process.stdout.readline().strip() for _ in range(4)]
        child = max(int(word) for word in said if word.isdigit())
        try:
            assert sorted(said) == sorted(["held", "held", "0", str(child)])
            assert not is_free(tmp_path)
            process.kill()
            process.wait()
            os.kill(child, 0)
            assert is_free(tmp_path)
        finally:
            process.kill()
            os.kill(child, signal.SIGKILL)


def test_a_step_is_held_beside_other_steps(root: Path):
    with holder(root, "validate"):
        for others in ("partition", "pass_01.global.train"):
            with run_lock.step(str(root), others, wait=0), run_lock.whole_run(str(root)):
                pass
        with pytest.raises(StepError, match=r"step validate is being worked on by process \d+"):
            run_lock.step(str(root), "validate", wait=0).__enter__()
        with pytest.raises(StepError, match="step validate is being worked on"):
            run_lock.step(str(root), "validate", 3, wait=0).__enter__()


def test_groups_work_side_by_side(root: Path):
    with run_lock.step(str(root), "train", 0, wait=0), run_lock.step(str(root), "train", 1, wait=0):
        for group in (0, 1, None):
            with pytest.raises(StepError, match="step train"):
                run_lock.step(str(root), "train", group, wait=0).__enter__()
    with run_lock.step(str(root), "train", wait=0):
        pass


def test_one_who_waits_is_told_for_whom(root: Path, caplog: pytest.LogCaptureFixture):
    with holder(root) as owner:
        threading.Timer(1.0, owner.kill).start()
        began = time.monotonic()
        with run_lock.whole_run(str(root), wait=60):
            assert 0.5 < time.monotonic() - began < 30
    [line] = [record.getMessage() for record in caplog.records if "waiting up to" in record.getMessage()]
    assert f"process {owner.pid} on" in line


def test_never_two_at_a_time(root: Path, tmp_path_factory: pytest.TempPathFactory):
    """Many who come and go at once: whoever holds the lock finds nobody else inside."""
    inside = tmp_path_factory.mktemp("inside") / "one"
    code = """
import os, sys, time
from gdmix_core.pipeline import advisory_lock, run_lock
exec(sys.argv[3])
for _ in range(15):
    with run_lock.whole_run(sys.argv[1], wait=100):
        os.close(os.open(sys.argv[2], os.O_CREAT | os.O_EXCL))
        time.sleep(0.002)
        os.unlink(sys.argv[2])
"""
    if is_advisory():  # every try that fails costs a random pause
        code = code.replace("range(15)", "range(3)")
    arguments = [sys.executable, "-c", code, str(root), str(inside), WITHOUT_FLOCK if is_advisory() else ""]
    processes = [subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    for process in processes:
        _, error = process.communicate(timeout=240)
        assert process.returncode == 0, error
    if not is_advisory():
        assert os.listdir(root) == []  # nothing is left behind


class TestObjectStore:
    """On memory://, whose objects only this process sees: other owners are objects as they would have written them."""

    @pytest.fixture
    def root(self, tmp_path: Path) -> str:
        return f"memory://locked{tmp_path}"

    def other(self, root: str, **changes: Any) -> str:
        owner = Owner("elsewhere", "space", 7, "gdmix run", "2026-11-01T00:00:00+00:00", False).content()
        path = f"{root}/.locks/run/other.json"
        with fsspec.open(path, "wb") as file:
            file.write(json.dumps({**owner, "renewed": 0.0, **changes}).encode())
        return path

    def aged(self, path: str, seconds: float) -> None:
        files, key = fsspec.core.url_to_fs(path)
        files.store[key].modified -= datetime.timedelta(seconds=seconds)

    def test_an_owner_elsewhere_counts_until_it_is_stale(self, root: str, caplog: pytest.LogCaptureFixture):
        path = self.other(root)
        with pytest.raises(
            StepError, match=r"process 7 on elsewhere \(gdmix run\) since 2026-11-01.* said so \d+ s ago"
        ):
            run_lock.whole_run(root).__enter__()
        self.aged(path, 60)
        with pytest.raises(StepError, match=r"said so 6\d s ago.*free 120 s after"):
            run_lock.whole_run(root).__enter__()
        self.aged(path, 61)
        assert is_free(root)
        assert "process 7 on elsewhere" in caplog.text
        assert "is dead, is taken over" in caplog.text

    def test_a_dead_process_of_this_machine_is_known_at_once(self, root: str):
        process = subprocess.Popen(["true"])
        process.wait()
        own = Owner.this(shared=False).content()
        self.other(root, **{**own, "pid": process.pid})
        assert is_free(root)
        self.other(root, **{**own, "pid": os.getppid()})
        assert not is_free(root)
        self.other(root, **{**own, "pid": process.pid, "space": "another container"})
        assert not is_free(root)

    def test_an_owner_renews_its_lock_and_learns_that_it_was_lost(self, root: str, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(advisory_lock, "RENEW_SECONDS", 0.05)
        files, folder = fsspec.core.url_to_fs(f"{root}/.locks/run")

        def lose_it() -> None:
            with run_lock.whole_run(root):
                [path] = files.ls(folder, detail=False)
                before = files.modified(path)
                time.sleep(0.5)
                assert files.modified(path) > before
                files.rm_file(path)
                time.sleep(0.2)
                assert not files.exists(path)

        with pytest.raises(StepError, match="was taken over by another process"):
            lose_it()
        assert is_free(root)


def test_a_step_that_another_process_works_on_fails_and_writes_nothing(tmp_path: Path, monkeypatch):
    draw = np.random.default_rng(0)
    rows = Rows(draw.integers(0, 2, 40), bags={"f": draw.normal(size=(40, 2))})
    run = make_run(tmp_path, {"coordinates": {"global": {"fixed_effect": {}, "bag": "f"}}}, rows)
    step = run.plan["pass_01.global.train"]
    monkeypatch.setattr(run_lock, "PATIENCE", 0.5)
    with holder(run.root, step.id), pytest.raises(StepError, match=r"step pass_01\.global\.train is being worked on"):
        dispatch.execute(run, step)
    assert not run.is_done(step)
    dispatch.execute(run, step)
    assert run.is_done(step)
    assert not Path(run.path(".locks")).exists()


def test_the_driver_of_a_spark_job_holds_its_step_and_reports_who_else_does(tmp_path: Path, monkeypatch):
    from gdmix_core.execution import spark_submit
    from spark_jobs import application

    rows = Rows([0, 1], bags={"f": [[1.0], [2.0]]})
    run = make_run(tmp_path, {"coordinates": {"global": {"fixed_effect": {}, "bag": "f"}}}, rows)
    monkeypatch.setattr(run_lock, "PATIENCE", 0.5)
    monkeypatch.setattr(sys, "argv", ["partition.py", "--run", run.root])

    def work(run: Any, step: Any, engine: Any) -> None:
        with pytest.raises(
            StepError, match=r"step partition is being worked on by process \d+ on \S+ \(partition.py\)"
        ):
            run_lock.step(run.root, "partition", wait=0).__enter__()
        done.append(step.id)

    done: list[str] = []
    monkeypatch.setitem(application._STEPS, "partition", work)
    application.main("partition")
    with holder(run.root, "partition") as owner, pytest.raises(SystemExit):
        application.main("partition")
    assert done == ["partition"]
    with pytest.raises(StepError, match=f"step partition is being worked on by process {owner.pid} on"):
        spark_submit.raise_reported(run, [run.plan["partition"]], otherwise="nothing was reported")


PIPELINE = {
    "name": "two", "output": "out", "input": "in", "coordinates": {"global": {"fixed_effect": {}, "bag": "f"}},
    "metrics": ["auc"],
}  # fmt: skip


@pytest.mark.spark
def test_two_commands_at_the_same_moment_then_a_kill(tmp_path: Path):
    """Of two `gdmix run` one is refused at once; after kill -9 of the other the same command resumes."""
    import synthetic_input as synthetic

    rows = synthetic.make_rows(60, seed=3)
    synthetic.write_directory(tmp_path / "in", rows)
    content = {**PIPELINE, "columns": {"label": "response"}}
    content["coordinates"] = {"global": {"fixed_effect": {}, "bag": "global"}}
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(content))
    command = [sys.executable, "-m", "gdmix_core.cli", "run", "p.yaml"]

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    started = [start(), start()]
    while all(process.poll() is None for process in started):
        time.sleep(0.1)
    refused = next(process for process in started if process.poll() is not None)
    [first] = [process for process in started if process is not refused]
    said, _ = refused.communicate()
    assert refused.returncode == 1
    assert f"the run is being worked on by process {first.pid} on" in said
    assert "Traceback" not in said
    first.kill()
    first.communicate()
    done = start()
    said, _ = done.communicate(timeout=240)
    assert done.returncode == 0, said


def test_a_link_to_nothing_in_a_locks_place_is_told(tmp_path: Path):
    (tmp_path / ".locks").mkdir()
    (tmp_path / ".locks" / "run").symlink_to("/nonexistent/a/b")
    with pytest.raises(StepError, match="run is a link to nothing; remove it"), run_lock.whole_run(str(tmp_path)):
        pass
