"""Large inputs, end to end: validate, partition, one pass, export; time, memory and disk of every step.

    python benchmarks/large.py [--rows 20000000] [--folder DIR] [--engine spark] [--memory 4g]
    python benchmarks/large.py --rows 100000 1000000 10000000

With several sizes, the cost of a row is compared: what a run takes beyond one of a thousand rows, by the rows. The
input has 10 non-zeros a row for the global model and 8 for the entities' models, of which there is one for 20 rows; 20
million rows take about 10 GB of disk with the run's files.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import machine
import yaml

from gdmix_core.pipeline.run import Run
from gdmix_core.samples.generated_rows import RowShape, generate_rows

SMALLEST = 1_000


@dataclass
class StepCost:
    seconds: float
    memory: int
    disk: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[20_000_000])
    parser.add_argument("--folder")
    parser.add_argument("--engine", choices=["embedded", "spark"], default="embedded", help="of the data steps")
    parser.add_argument("--memory", default="auto", help="engine.local.memory, such as 4g")
    arguments = parser.parse_args()
    print(machine.describe())
    sizes = arguments.rows if len(arguments.rows) == 1 else [SMALLEST, *sorted(arguments.rows)]
    seconds = {rows: run_once(rows, arguments) for rows in sizes}
    if len(sizes) == 1:
        return
    print(f"\nbeyond the {seconds[SMALLEST]:.1f} s of {SMALLEST:,} rows:")
    costs = {rows: 1e6 * (seconds[rows] - seconds[SMALLEST]) / (rows - SMALLEST) for rows in sizes[1:]}
    for rows, cost in costs.items():
        print(f"{rows:>12,} rows   {cost:6.2f} µs a row   {cost / min(costs.values()):.2f} x the least")


def run_once(rows: int, arguments: argparse.Namespace) -> float:
    """Generate the rows and run the pipeline once; print what its steps took and return the seconds of the run."""
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        validation = rows // 10
        shape = RowShape(entities=max(10, rows // 20))
        began = time.monotonic()
        generate_rows(f"{folder}/input", rows=rows - validation, validation_rows=validation, shape=shape)
        size = disk_of(Path(folder, "input"))
        print(f"\n{rows:,} rows, {size / 1e9:.2f} GB, generated in {time.monotonic() - began:.0f} s", flush=True)
        config = Path(folder, "large.yaml")
        engine = {"data": arguments.engine, "local": {"memory": arguments.memory}}
        config.write_text(yaml.safe_dump(configuration(folder) | {"engine": engine}))
        began = time.monotonic()
        command = [str(Path(sys.executable).with_name("gdmix")), "run", str(config)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            costs, output = _watched(process, Path(folder, "run"))
        if process.returncode != 0:
            sys.exit(process.returncode)
        whole = time.monotonic() - began
        print(output[: output.index("run directory")].rstrip())
        print(f"{'step':28s}{'seconds':>9s}{'rows/s':>12s}{'memory, GiB':>13s}{'disk, GB':>10s}")
        for step, cost in costs.items():
            print(
                f"{step:28s}{cost.seconds:9.1f}{rows / max(cost.seconds, 1e-9):12,.0f}{cost.memory / 2**30:13.2f}"
                f"{cost.disk / 1e9:10.2f}"
            )
        memory = max(cost.memory for cost in costs.values())
        disk = max(cost.disk for cost in costs.values())
        print(f"{'whole run':28s}{whole:9.1f}{rows / whole:12,.0f}{memory / 2**30:13.2f}{disk / 1e9:10.2f}", flush=True)
        assert Run.open(f"{folder}/run").result("validate")["splits"]["training"]["rows"] == rows - validation
        return whole


def _watched(process: subprocess.Popen[str], folder: Path) -> tuple[dict[str, StepCost], str]:
    """(the costs of each step, what is printed): a step's line begins it."""
    assert process.stdout is not None
    costs: dict[str, StepCost] = {}
    lines: list[str] = []
    over = threading.Event()
    current = "start"
    began = time.monotonic()
    costs[current] = StepCost(0.0, 0, 0)

    def watch() -> None:
        while not over.is_set():
            with machine.PeakMemory(process.pid) as peak:
                over.wait(0.5)
            cost = costs[current]
            cost.memory, cost.disk = max(cost.memory, peak.bytes), max(cost.disk, disk_of(folder))

    watcher = threading.Thread(target=watch)
    watcher.start()
    for line in process.stdout:
        lines.append(line)
        found = line.split()
        if (len(found) == 3 and found[1] == "INFO") or len(found) == 1:
            step = found[-1]
            if step in ("validate", "partition", "select", "export") or step.startswith("pass_"):
                costs[current].seconds = time.monotonic() - began
                current, began = step, time.monotonic()
                costs[current] = StepCost(0.0, 0, 0)
    costs[current].seconds = time.monotonic() - began
    over.set()
    watcher.join()
    return costs, "".join(line for line in lines if " INFO " not in line)


def disk_of(folder: Path) -> int:
    """Bytes of the files below a folder, which may change meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total


def configuration(folder: str) -> dict[str, object]:
    return {
        "name": "large",
        "input": f"{folder}/input",
        "output": f"{folder}/run",
        "columns": {"label": "response"},
        "coordinates": {
            "global": {"fixed_effect": {}, "bag": "features"},
            "per_entity": {
                "random_effect": {"entity": "entity_id"},
                "bag": "per_entity",
                "regularize_intercept": True,
            },
        },
        "metrics": ["auc", "logloss"],
        "export": {"formats": ["native"]},
    }


if __name__ == "__main__":
    main()
