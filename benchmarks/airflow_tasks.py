"""What a task of Airflow costs beside its work: a three-pass pipeline of MovieLens-100k's size, in a real Airflow.

    python benchmarks/airflow_tasks.py [--ratings 100000] [--runs 3]

The Airflow is that of the tests: scheduler, DAG processor and API server, LocalExecutor, SQLite. Seconds of each task:

waiting   from the end of the task before to the start of this one: the scheduler, the queue
start     from there to the operator's first line: the process, Airflow's imports, the DAG file, ours
(file)    the part of it in which the DAG file was read, as Airflow's own line says
work      the step itself, as the operator's line says
end       from there to the end that Airflow notes

Of several runs each number is the median. Runs of the DAG follow each other: the first, which fills the caches, is
not counted.
"""

from __future__ import annotations

import argparse
import datetime
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import machine
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "integration")]

from airflow_standalone import Standalone, airflow, airflow_environment, write_dag  # noqa: E402

COLUMNS = ("waiting", "start", "file", "work", "end")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ratings", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    print(machine.describe())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sample = ["generated", "--users", "943", "--movies", "1682", "--ratings", str(arguments.ratings)]
        gdmix = Path(sys.executable).with_name("gdmix")
        subprocess.run([gdmix, "sample", *sample, "--output", folder / "input"], check=True, capture_output=True)
        for part in ("dags", "home"):
            (folder / part).mkdir()
        write_dag(folder / "dags", "movielens", pipeline(folder))
        airflow(airflow_environment(folder / "home", folder / "dags"), "db", "migrate")
        with Standalone(folder / "home", folder / "dags") as server:
            server.wait_for_dags("movielens")
            measured = [list(one_run(server, folder / f"run-{number}")) for number in range(1 + arguments.runs)][1:]
    report(measured)


def pipeline(folder: Path) -> dict[str, Any]:
    """The demo's pipeline with all its passes."""
    content: dict[str, Any] = yaml.safe_load((ROOT / "dags" / "movielens.yaml").read_text())
    changes = {"input": str(folder / "input"), "output": str(folder / "run"), "airflow": {"retries": 0}}
    return content | changes | {"passes": {"max": 3, "min_delta": "none"}, "engine": {"data": "embedded"}}


def one_run(server: Standalone, output: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """Trigger the DAG and yield each task's name and its seconds by column, in the order in which they ran."""
    run = server.trigger("movielens", {"output": str(output)}).raise_for_status().json()
    run = server.wait_for_run("movielens", run["dag_run_id"])
    path = f"/dags/movielens/dagRuns/{run['dag_run_id']}/taskInstances"
    tasks = server.get(path, limit=100)["task_instances"]
    before = when(run["start_date"])
    for task in sorted(tasks, key=lambda found: found["start_date"]):
        began, ended = when(task["start_date"]), when(task["end_date"])
        log = server.get(f"{path}/{task['task_id']}/logs/1", map_index=task["map_index"])["content"]
        lines = [line for line in log if isinstance(line, dict) and line.get("timestamp")]
        done = [line for line in lines if re.search(r" done in [\d.]+ s: ", line["event"])]
        first = next(line for line in lines if ", run /" in line["event"])
        parsed = next(line for line in lines if "dag_file_parse_ms" in line)
        yield (
            task["task_id"],
            {
                "waiting": began - before,
                "start": when(first["timestamp"]) - began,
                "file": parsed["dag_file_parse_ms"] / 1000,
                "work": when(done[-1]["timestamp"]) - when(first["timestamp"]),
                "end": ended - when(done[-1]["timestamp"]),
            },
        )
        before = ended
    yield "the whole run", {"total": when(run["end_date"]) - when(run["start_date"])}


def when(text: str) -> float:
    return datetime.datetime.fromisoformat(text).timestamp()


def report(runs: list[list[tuple[str, dict[str, float]]]]) -> None:
    print(f"{'task':28}" + "".join(f"{name:>9}" for name in COLUMNS))
    totals = dict.fromkeys(COLUMNS, 0.0)
    for found in zip(*runs, strict=True):
        name, first = found[0]
        medians = {key: statistics.median(seconds[key] for _, seconds in found) for key in first}
        if "total" in medians:
            break
        print(f"{name:28}" + "".join(f"{medians[column]:9.2f}" for column in COLUMNS))
        totals = {column: totals[column] + medians[column] for column in COLUMNS}
    print(f"{f'all {len(runs[0]) - 1} tasks':28}" + "".join(f"{totals[column]:9.2f}" for column in COLUMNS))
    whole = statistics.median(run[-1][1]["total"] for run in runs)
    beside = totals["waiting"] + totals["start"] + totals["end"]
    print(f"the whole run {whole:.1f} s: {totals['work']:.1f} s of work, {beside:.1f} s beside it")


if __name__ == "__main__":
    main()
