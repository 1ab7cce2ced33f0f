"""A real Airflow for the tests: `airflow standalone`, SQLite and LocalExecutor, in a directory of its own."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml
from free_ports import free_ports
from waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
_MARK = "GDMIX_TEST_STANDALONE"
_LIBC = ctypes.CDLL(None)


def airflow_environment(home: Path, dags: Path) -> dict[str, str]:
    """Variables for an Airflow that has `home` to itself, and finds this project as its plugins folder."""
    return os.environ | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        # Ten times and more of what Airflow gives: the machine may be busy.
        "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "300",
        "AIRFLOW__DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "300",
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "plugins")]),
        # Airflow finds its own parts on the PATH.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }


def airflow(environment: Mapping[str, str], *arguments: str) -> str:
    """Output of an `airflow` command; raises with all of it when the command fails."""
    done = subprocess.run(
        [sys.executable, "-m", "airflow", *arguments],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, f"airflow {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def write_dag(dags: Path, name: str, pipeline: Mapping[str, Any]) -> None:
    """A DAG as its users write it, and the YAML beside it that has the pipeline."""
    (dags / f"{name}.yaml").write_text(yaml.safe_dump(dict(pipeline), sort_keys=False))
    (dags / f"{name}.py").write_text(
        "# airflow\n"
        "from pathlib import Path\n"
        "from gdmix_operators.factory import build_dag\n"
        'dag = build_dag(Path(__file__).with_suffix(".yaml"))\n'
    )


class Standalone:
    """The four processes of `airflow standalone`, and their REST API."""

    def __init__(self, home: Path, dags: Path) -> None:
        port, *log_ports = free_ports(3)
        self.home = home
        self.url = f"http://127.0.0.1:{port}"
        self._mark = uuid.uuid4().hex
        self.environment = airflow_environment(home, dags) | {
            _MARK: self._mark,
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(log_ports[0]),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(log_ports[1]),
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "3",
            # Not a second, by default, after every task.
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__API__WORKERS": "1",
        }
        self._api = httpx.Client(base_url=f"{self.url}/api/v2", timeout=120)

    def __enter__(self) -> Standalone:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _start(self) -> None:
        self._output = (self.home / "standalone.log").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "airflow", "standalone"],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            preexec_fn=_stop_with_parent,
            start_new_session=True,
        )
        wait_for("a healthy Airflow", self._healthy)

    def _stop(self) -> None:
        """SIGINT stops all parts in order; what is left after that is killed."""
        self._api.close()
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
        for process in self.processes():
            process.kill()
        self._output.close()

    def processes(self) -> list[psutil.Process]:
        """Everything this Airflow has started and that is alive, at any depth, orphans included."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            if process.status() == psutil.STATUS_ZOMBIE or process.pid == os.getpid():
                return False
            return process.environ().get(_MARK) == self._mark
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return False

    def _healthy(self) -> bool | None:
        assert self._process.poll() is None, (self.home / "standalone.log").read_text()
        try:
            parts = self._api.get("/monitor/health").json()
        except httpx.HTTPError:
            return None
        needed = ("metadatabase", "scheduler", "dag_processor")
        return all(parts[part]["status"] == "healthy" for part in needed) or None

    # REST

    def get(self, path: str, **query: Any) -> Any:
        return self._call("GET", path, params=query).raise_for_status().json()

    def post(self, path: str, content: Any) -> httpx.Response:
        return self._call("POST", path, json=content)

    def patch(self, path: str, content: Any) -> httpx.Response:
        return self._call("PATCH", path, json=content)

    def _call(self, method: str, path: str, **content: Any) -> httpx.Response:
        """With SQLite a call fails now and then because another process is writing; it has done nothing then."""
        for _ in range(5):
            response = self._api.request(method, path, **content)
            if response.status_code != httpx.codes.INTERNAL_SERVER_ERROR:
                break
            time.sleep(1.0)
        return response

    def wait_for_dags(self, *names: str) -> None:
        def known() -> bool | None:
            errors = self.get("/importErrors")["import_errors"]
            assert not errors, errors
            return {dag["dag_id"] for dag in self.get("/dags")["dags"]} >= set(names) or None

        wait_for(f"DAGs {names}", known)

    def trigger(self, dag: str, conf: Mapping[str, Any], logical_date: str | None = None) -> httpx.Response:
        """As the UI does it, which sends its logical date; CLI and REST may leave it null."""
        return self.post(f"/dags/{dag}/dagRuns", {"logical_date": logical_date, "conf": conf})

    def runs(self, dag: str, run_type: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get(f"/dags/{dag}/dagRuns", run_type=run_type)["dag_runs"]
        return found

    def wait_for_run(self, dag: str, run_id: str, state: str = "success") -> dict[str, Any]:
        """The run, once it is over; with the logs of its failed tasks if it ended in another state."""

        def over() -> dict[str, Any] | None:
            run: dict[str, Any] = self.get(f"/dags/{dag}/dagRuns/{run_id}")
            return run if run["state"] in ("success", "failed") else None

        run = wait_for(f"the end of {dag} {run_id}", over)
        if run["state"] != state:
            failed = [found for found in self.tasks(dag, run_id).values() if found["state"] == "failed"]
            logs = [self.log(dag, run_id, found["task_id"], found["map_index"]) for found in failed]
            raise AssertionError("\n".join([f"{dag} {run_id} is {run['state']}", *logs]))
        return run

    def tasks(self, dag: str, run_id: str) -> dict[str, dict[str, Any]]:
        """Task instances by task id (for a mapped task, the last of them)."""
        found = self.get(f"/dags/{dag}/dagRuns/{run_id}/taskInstances", limit=100)["task_instances"]
        return {task["task_id"]: task for task in found}

    def log(self, dag: str, run_id: str, task: str, map_index: int = -1) -> str:
        """The log of a task's first attempt."""
        path = f"/dags/{dag}/dagRuns/{run_id}/taskInstances/{task}/logs/1"
        content = self.get(path, map_index=map_index)["content"]
        return "\n".join(_text_of(entry) for entry in content)


def _text_of(entry: Any) -> str:
    if isinstance(entry, str):
        return entry
    errors = entry.get("error_detail") or []
    lines = [entry.get("event", ""), entry.get("reason", ""), *(f"{e['exc_type']}: {e['exc_value']}" for e in errors)]
    return "\n".join(line for line in lines if line)


def _stop_with_parent() -> None:
    """In the new process: SIGINT, which is how standalone is told to stop, works, and comes when the parent dies."""
    # A job in the background ignores it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.platform == "linux":
        set_parent_death_signal = 1  # of prctl(2)
        _LIBC.prctl(set_parent_death_signal, signal.SIGINT)
