"""What a task of Airflow costs beside its work: a three-pass pipeline of MovieLens-100k's size, in a real Airflow.

    python benchmarks/airflow_tasks.py [--ratings 100000] [--runs 3] [--idle 0.2]

The Airflow is that of the tests: scheduler, DAG processor and API server, LocalExecutor, SQLite. Seconds of each task:

waiting   from the end of the task before to the start of this one: the scheduler and the queue
start     from there to the operator's first line: the process, Airflow's own imports, the DAG file, the run's directory
file      the part of it in which Airflow reads the DAG file, as it says itself
imports   in the operator, what the step takes longer than in a process that has carried it out before
work      the step, or steps, in such a process
end       from the operator's last line to the end that Airflow notes

Each is the least of several runs, after one that is not counted: whatever else the machine does only adds.
"""

from __future__ import annotations

import argparse
import datetime
import math
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import machine
import yaml

from gdmix_core.execution.dispatch import execute
from gdmix_core.pipeline.loading import parse_config
from gdmix_core.pipeline.run import Run

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "integration")]

from airflow_standalone import Standalone, airflow, airflow_environment, write_dag  # noqa: E402

COLUMNS = ("waiting", "start", "file", "imports", "work", "end")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ratings", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--idle", default="0.2", help="the scheduler's scheduler_idle_sleep_time; Airflow's own is 1")
    arguments = parser.parse_args()
    print(machine.describe())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sample = ["generated", "--users", "943", "--movies", "1682", "--ratings", str(arguments.ratings)]
        gdmix = Path(sys.executable).with_name("gdmix")
        subprocess.run([gdmix, "sample", *sample, "--output", folder / "input"], check=True, capture_output=True)
        for part in ("dags", "home"):
            (folder / part).mkdir()
        content = pipeline(folder)
        write_dag(folder / "dags", "movielens", content)
        airflow(airflow_environment(folder / "home", folder / "dags"), "db", "migrate")
        server = Standalone(folder / "home", folder / "dags")
        server.environment["AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME"] = arguments.idle
        with server:
            server.wait_for_dags("movielens")
            measured = [list(one_run(server, folder / f"run-{number}")) for number in range(1 + arguments.runs)][1:]
        work = seconds_of_steps(content, folder)
    report(measured, work)


def pipeline(folder: Path) -> dict[str, Any]:
    """The demo's pipeline with all its passes."""
    content: dict[str, Any] = yaml.safe_load((ROOT / "dags" / "movielens.yaml").read_text())
    changes = {"input": str(folder / "input"), "output": str(folder / "run"), "airflow": {"retries": 0}}
    return content | changes | {"passes": {"max": 3, "min_delta": "none"}, "engine": {"data": "embedded"}}


def seconds_of_steps(content: dict[str, Any], folder: Path) -> dict[str, float]:
    """Each step's seconds in this process, the least of four runs: nothing is imported or loaded any more."""
    seconds: dict[str, float] = {}
    for number in range(4):
        run = Run.create(parse_config({**content, "output": str(folder / f"here-{number}")}))
        for step in run.plan.steps:
            began = time.perf_counter()
            execute(run, step)
            seconds[step.id] = min(time.perf_counter() - began, seconds.get(step.id, math.inf))
    return seconds


def one_run(server: Standalone, output: Path) -> Iterator[tuple[str, list[str], dict[str, float]]]:
    """Trigger the DAG; yield each task's name, steps and seconds, in the order in which they ran, then the run's."""
    run = server.trigger("movielens", {"output": str(output)}).raise_for_status().json()
    run = server.wait_for_run("movielens", run["dag_run_id"])
    path = f"/dags/movielens/dagRuns/{run['dag_run_id']}/taskInstances"
    before = when(run["start_date"])
    for task in sorted(server.get(path, limit=100)["task_instances"], key=lambda found: found["start_date"]):
        began, ended = when(task["start_date"]), when(task["end_date"])
        log = server.get(f"{path}/{task['task_id']}/logs/1", map_index=task["map_index"])["content"]
        lines = [line for line in log if isinstance(line, dict) and line.get("timestamp")]
        done = [(line, found[1]) for line in lines if (found := re.match(r"(\S+) done in [\d.]+ s", line["event"]))]
        first = when(next(line for line in lines if ", run /" in line["event"])["timestamp"])
        last = when(done[-1][0]["timestamp"])
        parsed = next(line for line in lines if "dag_file_parse_ms" in line)
        seconds = {"waiting": began - before, "start": first - began, "file": parsed["dag_file_parse_ms"] / 1000}
        yield task["task_id"], [name for _, name in done], seconds | {"operator": last - first, "end": ended - last}
        before = ended
    yield "", [], {"whole": when(run["end_date"]) - when(run["start_date"])}


def when(text: str) -> float:
    return datetime.datetime.fromisoformat(text).timestamp()


def report(runs: list[list[tuple[str, list[str], dict[str, float]]]], work: dict[str, float]) -> None:
    print(f"{'task':28}" + "".join(f"{name:>9}" for name in COLUMNS))
    totals = dict.fromkeys(COLUMNS, 0.0)
    *tasks, end = zip(*runs, strict=True)
    for found in tasks:
        name, steps, first = found[0]
        shown = {key: min(seconds[key] for _, _, seconds in found) for key in first}
        shown["work"] = sum(work[step] for step in steps)
        shown["imports"] = shown["operator"] - shown["work"]
        print(f"{name:28}" + "".join(f"{shown[column]:9.2f}" for column in COLUMNS))
        totals = {column: totals[column] + shown[column] for column in COLUMNS}
    print(f"{f'all {len(tasks)} tasks':28}" + "".join(f"{totals[column]:9.2f}" for column in COLUMNS))
    print(f"the whole run: {min(seconds['whole'] for _, _, seconds in end):.1f} s")


if __name__ == "__main__":
    main()
