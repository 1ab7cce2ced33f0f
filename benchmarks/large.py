"""A large input, end to end: validate, partition, one pass, export; time of every step, peak memory of every process.

    python benchmarks/large.py [--rows 20000000] [--folder DIR] [--engine spark] [--memory 4g]

The input (10 non-zeros a row for the global model, 8 for the entities' models) takes about 10 GB of disk with the run's
files.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import machine
import psutil
import yaml

from gdmix_core.samples.generated_rows import RowShape, generate_rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--folder")
    parser.add_argument("--engine", choices=["embedded", "spark"], default="embedded", help="of the data steps")
    parser.add_argument("--memory", default="auto", help="bound of the embedded engine, such as 4g")
    arguments = parser.parse_args()
    print(machine.describe())
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        validation = arguments.rows // 10
        shape = RowShape(entities=max(10, arguments.rows // 20))
        began = time.monotonic()
        generate_rows(f"{folder}/input", rows=arguments.rows - validation, validation_rows=validation, shape=shape)
        print(f"generated {arguments.rows} rows in {time.monotonic() - began:.0f} s")
        config = Path(folder, "large.yaml")
        engine = {"data": arguments.engine, "local": {"memory": arguments.memory}}
        config.write_text(yaml.safe_dump(_config(folder) | {"engine": engine}))
        began = time.monotonic()
        command = [str(Path(sys.executable).with_name("gdmix")), "--verbose", "run", str(config)]
        with subprocess.Popen(command) as process:
            peaks: dict[str, int] = {}
            threading.Thread(target=_watch, args=(process.pid, peaks), daemon=True).start()
        if process.returncode != 0:
            sys.exit(process.returncode)
        print(f"whole run: {time.monotonic() - began:.0f} s")
        print("peak resident memory of the largest process of each kind:")
        for name, size in sorted(peaks.items(), key=lambda item: -item[1]):
            print(f"  {size / 2**30:5.2f} GiB  {name}")


def _config(folder: str) -> dict[str, object]:
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


def _watch(pid: int, peaks: dict[str, int]) -> None:
    """Notes the resident memory of the process and all below it, twice a second."""
    while psutil.pid_exists(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(pid)
            for process in [root, *root.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended, or nobody has waited for it yet
                    name = _kind(process.cmdline())
                    peaks[name] = max(peaks.get(name, 0), process.memory_info().rss)
        time.sleep(0.5)


def _kind(command: list[str]) -> str:
    if command and command[0].endswith("java"):
        return "JVM of Spark"
    text = " ".join(command)
    kinds = {
        "pyspark.daemon": "Python worker of Spark",
        "random_worker": "random effect worker",
        "gdmix run": "gdmix run",
    }
    return next((kind for part, kind in kinds.items() if part in text), "other")


if __name__ == "__main__":
    main()
