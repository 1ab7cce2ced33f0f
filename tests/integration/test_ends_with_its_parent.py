"""Nothing outlives who started it: signals to the command, and what it started, as real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from gdmix_core.samples.generated import generate_sample, write_generated
from tests import kill_at_random

GDMIX = str(Path(sys.executable).with_name("gdmix"))
pytestmark = [pytest.mark.spark, pytest.mark.slow]


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    write_generated(str(tmp_path / "input"), generate_sample(users=20, movies=40, ratings=200))
    content = {
        "name": "ends",
        "input": str(tmp_path / "input"),
        "output": str(tmp_path / "run"),
        "columns": {"label": "response"},
        "engine": {"data": "spark"},
        "coordinates": {"global": {"fixed_effect": {}, "data": "global", "bag": "global"}},
    }
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "p.yaml"


def processes_of(pipeline: Path) -> list[str]:
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "status"]):
        line = " ".join(process.info["cmdline"] or [])
        if (
            str(pipeline.parent) in line
            and process.info["status"] != psutil.STATUS_ZOMBIE
            and process.pid != os.getpid()
        ):
            found.append(line)
    return found


def wait_until(condition, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def has_driver(pipeline: Path) -> bool:
    """Whether Spark's Python driver runs, which is what writes."""
    return any("validate.py" in line and "python" in Path(line.split()[0]).name for line in processes_of(pipeline))


def test_a_signal_ends_all_and_says_what_will_resume(pipeline: Path) -> None:
    running = subprocess.Popen(
        [GDMIX, "run", str(pipeline)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    assert wait_until(lambda: has_driver(pipeline), 120)
    running.send_signal(signal.SIGTERM)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 128 + signal.SIGTERM
    assert "ended by SIGTERM; what is done is kept: the same command goes on from there" in said
    assert wait_until(lambda: not processes_of(pipeline), 3)


@pytest.mark.parametrize("victim", ["main", "jvm", "driver"])
def test_after_a_kill_nothing_is_left_and_the_command_can_be_given_again(pipeline: Path, victim: str) -> None:
    running = subprocess.Popen([GDMIX, "validate", str(pipeline)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    assert wait_until(lambda: has_driver(pipeline), 120)
    below = psutil.Process(running.pid).children(recursive=True)
    chosen = {
        "main": running.pid,
        "jvm": next(process.pid for process in below if "java" in process.name()),
        "driver": next(process.pid for process in below if "python" in process.name()),
    }
    os.kill(chosen[victim], signal.SIGKILL)
    running.wait(60)
    assert running.returncode != 0
    assert wait_until(lambda: not processes_of(pipeline), 10), processes_of(pipeline)


def test_modules_of_the_working_directory_are_not_taken(pipeline: Path) -> None:
    """A finished run is run again there, too: without Spark."""
    for name in ("random", "types", "numpy", "pyarrow", "logging", "spark_jobs"):
        (pipeline.parent / f"{name}.py").write_text("raise SystemExit(f'{__name__} of the user was taken')")
    (pipeline.parent / "path/spark_jobs").mkdir(parents=True)
    (pipeline.parent / "path/spark_jobs/__init__.py").write_text("")
    environment = {**os.environ, "PYTHONPATH": "path"}
    options = {"cwd": pipeline.parent, "env": environment, "capture_output": True, "text": True}
    first = subprocess.run([GDMIX, "run", "p.yaml"], **options)
    assert first.returncode == 0, first.stderr
    stamp = (pipeline.parent / "run/report.html").stat().st_mtime_ns
    without_java = {**environment, "JAVA_HOME": "/nonexistent"}
    again = subprocess.run([GDMIX, "run", "p.yaml"], **{**options, "env": without_java})
    assert (again.returncode, "exported" in again.stdout) == (0, True), again.stderr
    assert (pipeline.parent / "run/report.html").stat().st_mtime_ns == stamp


def test_a_missing_java_is_one_sentence(pipeline: Path) -> None:
    environment = {**os.environ, "JAVA_HOME": "/nonexistent"}
    done = subprocess.run([GDMIX, "validate", str(pipeline)], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: JAVA_HOME is /nonexistent, where there is no bin/java")


def test_another_interpreter_is_one_sentence(pipeline: Path) -> None:
    environment = {**os.environ, "PYSPARK_PYTHON": "/nonexistent/python"}
    done = subprocess.run([GDMIX, "validate", str(pipeline)], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Spark cannot start /nonexistent/python; let PYSPARK_PYTHON name" in done.stderr
    assert "Traceback" not in done.stderr


AS_NOBODY = ["unshare", "-U", "--map-user=12345", "--map-group=12345"]


def test_any_user_without_a_home_can_run_it(pipeline: Path) -> None:
    """As in a container: a uid that has no name, no HOME, and code beside which nothing can be written."""
    if subprocess.run([*AS_NOBODY, "true"], capture_output=True).returncode:
        pytest.skip("user namespaces are not allowed here")
    environment = {name: os.environ[name] for name in ("PATH", "JAVA_HOME") if name in os.environ}
    done = subprocess.run([*AS_NOBODY, GDMIX, "run", str(pipeline)], env=environment, capture_output=True, text=True)
    if any(Path("/usr/lib").rglob("libnss_wrapper.so")):
        assert done.returncode == 0, done.stderr
    else:
        assert "uid 12345 has no name on this machine" in done.stderr


@pytest.mark.parametrize(("engine", "kills"), [("spark", 2), ("embedded", 4)])
def test_kills_at_random_change_no_byte(engine: str, kills: int) -> None:
    assert kill_at_random.check(kills=kills, seed=7, engine=engine) == []
