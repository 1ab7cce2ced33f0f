"""Nothing outlives who started it: signals to the command, and what it started, as real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
import yaml
from gdmix_command import GDMIX, gdmix

from gdmix_core.samples.generated import generate_sample, write_generated
from tests import kill_at_random
from tests.kill_at_random import Undisturbed

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


def _looks_here_first() -> dict[str, str]:
    """A PYTHONPATH that begins with a folder below the working directory."""
    path = os.pathsep.join(filter(None, ["path", os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """A run in Spark, from a working directory whose modules have the names of others."""
    folder = tmp_path_factory.mktemp("undisturbed")
    for name in ("random", "types", "numpy", "pyarrow", "logging", "spark_jobs"):
        (folder / f"{name}.py").write_text("raise SystemExit(f'{__name__} of the user was taken')")
    (folder / "path/spark_jobs").mkdir(parents=True)
    (folder / "path/spark_jobs/__init__.py").write_text("")
    (folder / "events").mkdir()
    (folder / "conf").mkdir()
    settings = f"spark.eventLog.enabled true\nspark.eventLog.dir {(folder / 'events').as_uri()}\n"
    (folder / "conf/spark-defaults.conf").write_text(settings)
    environment = {**_looks_here_first(), "SPARK_CONF_DIR": str(folder / "conf")}
    return kill_at_random.undisturbed(folder, "spark", cwd=folder, env=environment)


def test_modules_of_the_working_directory_are_not_taken(undisturbed: Undisturbed) -> None:
    """A finished run is run again there, too: without Spark."""
    folder = undisturbed.folder
    stamp = (folder / "run/report.html").stat().st_mtime_ns
    without_java = {**_looks_here_first(), "JAVA_HOME": "/nonexistent"}
    again = gdmix("run", "p.yaml", cwd=folder, env=without_java)
    assert (again.returncode, "exported" in again.stdout) == (0, True), again.stderr
    assert (folder / "run/report.html").stat().st_mtime_ns == stamp


def test_one_application_validates_and_partitions(undisturbed: Undisturbed) -> None:
    assert len(list((undisturbed.folder / "events").iterdir())) == 1
    assert (undisturbed.folder / "run/shards").is_dir()


def test_a_missing_java_is_one_sentence(pipeline: Path) -> None:
    environment = {**os.environ, "JAVA_HOME": "/nonexistent"}
    done = gdmix("validate", pipeline, env=environment)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: JAVA_HOME is /nonexistent, where there is no bin/java")


def test_another_interpreter_is_one_sentence(pipeline: Path) -> None:
    environment = {**os.environ, "PYSPARK_PYTHON": "/nonexistent/python"}
    done = gdmix("validate", pipeline, env=environment)
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
def test_kills_at_random_change_no_byte(
    request: pytest.FixtureRequest, tmp_path: Path, engine: str, kills: int
) -> None:
    if engine == "spark":
        reference = request.getfixturevalue("undisturbed")
    else:
        reference = kill_at_random.undisturbed(tmp_path, engine)
    assert kill_at_random.check(reference, kills=kills, seed=7) == []
