"""Worker processes: their events, their ends, and that none outlives its parent. Real processes throughout."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gdmix_core.workers import processes

WORKER = """
import os, sys, time
from gdmix_core.workers import processes
processes.become_worker()
processes.send({"pid": os.getpid(), "stdin": sys.stdin.read()})
print("no event")
what = sys.argv[1]
if what == "fail":
    sys.exit(3)
if what == "killed":
    os.kill(os.getpid(), 9)
if what == "stay":
    time.sleep(600)
processes.send({"end": what})
"""
PARENT = """
import sys, time
from gdmix_core.workers import processes
workers = [processes.start("a_worker", ["stay"]) for _ in range(2)]
for worker in workers:
    if sys.argv[1] == "later":
        worker.stdout.readline()
    print(worker.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_worker.py").write_text(textwrap.dedent(WORKER))
    (tmp_path / "a_parent.py").write_text(textwrap.dedent(PARENT))
    paths = [str(tmp_path), str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in paths if path))


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def run(*what: str) -> tuple[list[int], list[tuple[int, processes.Event]]]:
    events: list[tuple[int, processes.Event]] = []
    workers = [processes.start("a_worker", [argument]) for argument in what]
    return processes.wait_all(workers, lambda number, event: events.append((number, event))), events


def test_events_of_all_workers_arrive_and_other_lines_do_not():
    codes, events = run("a", "b")
    assert codes == [0, 0]
    assert sorted((n, e["end"]) for n, e in events if "end" in e) == [(0, "a"), (1, "b")]
    assert all(event["stdin"] == "" for _, event in events if "stdin" in event)
    assert len(events) == 4


@pytest.mark.parametrize(
    ("what", "reason"), [("fail", "exit code 3"), ("killed", "killed by SIGKILL (out of memory?)")]
)
def test_when_one_fails_the_others_are_ended_and_it_is_named(what, reason):
    codes, events = run("stay", what)
    assert codes[0] == -signal.SIGTERM
    assert codes[1] != 0
    assert not any(is_alive(event["pid"]) for _, event in events if "pid" in event)
    error = processes.explain(codes, [], "step x")
    assert str(error).startswith(f"step x: worker 1: {reason}")
    assert "worker 0" not in str(error)


def test_what_workers_say_comes_first():
    assert "step x: broken file; worker 1: exit code 1." in str(processes.explain([0, 1], ["broken file"], "step x"))
    assert str(processes.explain((), ["step x: a loss of nan"], "step x")) == "step x: a loss of nan"
    assert "ended from outside" in str(processes.explain([-15, -15], [], "step x"))


def test_terminate_children_ends_every_worker():
    workers = [processes.start("a_worker", ["stay"]) for _ in range(2)]
    for worker in workers:
        assert worker.stdout is not None
        worker.stdout.readline()
    processes.terminate_children()
    assert all(worker.returncode == -signal.SIGTERM for worker in workers)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
@pytest.mark.parametrize("when", ["later", "at once"])
def test_workers_die_with_their_parent(when):
    """Also when it is killed while they are still importing."""
    parent = subprocess.Popen([sys.executable, "-m", "a_parent", when], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pids = [int(parent.stdout.readline()) for _ in range(2)]
    assert all(map(is_alive, pids))
    parent.kill()
    parent.wait()
    ended = eventually(lambda: not any(map(is_alive, pids)))
    for pid in pids:
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)
    assert ended


FORKS = """
import os, signal, time
from gdmix_core.workers import processes
processes.end_on_signals("ended by {name}", [signal.SIGTERM, signal.SIGINT])
for _ in range(20):
    child = os.fork()
    if child == 0:
        time.sleep(600)
        os._exit(0)
    os.kill(child, signal.SIGTERM)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGTERM
time.sleep(0.2)
print("goes on")
"""


def test_a_signal_to_a_child_that_somebody_forks_is_the_childs_alone():
    done = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "goes on\n"), done.stderr
