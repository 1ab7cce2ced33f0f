"""Kills a run at random moments, gives the same command again, and compares with an undisturbed run.

    python tests/kill_at_random.py [--kills 20] [--seed 0] [--engine spark]

Each time one process is killed by SIGKILL: the command, Spark's JVM or driver, or a worker, whichever of them is there
then. Afterwards no process of the run may be left, and export, models and scores must be the same bytes.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml
from gdmix_command import GDMIX

from gdmix_core.samples.generated import generate_sample, write_generated

# How soon whatever is tied to a process that was killed must be gone, on a machine that is busy.
_SECONDS_TO_END = 10.0


def write_pipeline(folder: Path, engine: str) -> None:
    write_generated(str(folder / "input"), generate_sample(users=40, movies=60, ratings=700, seed=1))
    coordinates = {
        "global": {"fixed_effect": {}, "data": "global", "bag": "global"},
        "per_user": {"random_effect": {"entity": "user_id", "shards": 4}, "data": "per_user", "bag": "per_user"},
    }
    content = {
        "name": "killed",
        "input": str(folder / "input"),
        "output": str(folder / "run"),
        "columns": {"label": "response"},
        "coordinates": coordinates,
        "passes": {"max": 2, "min_delta": "none"},
        "engine": {"data": engine, "local": {"processes": 2}},
    }
    (folder / "p.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


def run(folder: Path, **how: Any) -> subprocess.Popen[bytes]:
    """how: of the process, as subprocess takes it."""
    command = [GDMIX, "run", str(folder / "p.yaml")]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **how)


@dataclass
class Undisturbed:
    """A run that nobody killed: its results, and how many seconds it took."""

    folder: Path
    expected: dict[str, bytes]
    seconds: float


def undisturbed(folder: Path, engine: str, **how: Any) -> Undisturbed:
    """Writes the pipeline into the folder and runs it; raises with what it said when it fails."""
    write_pipeline(folder, engine)
    began = time.monotonic()
    running = run(folder, **how)
    _, said = running.communicate()
    seconds = time.monotonic() - began
    if running.returncode:
        raise RuntimeError(said.decode())
    return Undisturbed(folder, results(folder), seconds)


def results(folder: Path) -> dict[str, bytes]:
    """Of export, models and scores: everything but the manifests' times and the paths in them."""
    below = [folder / "run/export", folder / "run/passes"]
    files = [path for part in below for path in part.rglob("*") if path.suffix in (".parquet", ".avro", ".npy", ".csv")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def left_of(folder: Path) -> list[str]:
    """Processes that have the folder on their command line and still run."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = " ".join(process.info["cmdline"] or [])
        if str(folder) in line and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(line[:150])
    return found


def kill_once(folder: Path, seconds: float, draw: random.Random) -> str:
    """Begins the run anew, kills one of its processes after so many seconds; says which, or that it had ended."""
    shutil.rmtree(folder / "run", ignore_errors=True)
    running = run(folder)
    time.sleep(seconds)
    if running.poll() is not None:
        return "nothing: it had ended"
    there = [psutil.Process(running.pid)]
    there += there[0].children(recursive=True)
    victim = draw.choice(there)
    try:
        name = " ".join(victim.cmdline()[:4])[-60:]
        os.kill(victim.pid, signal.SIGKILL)
    except (psutil.NoSuchProcess, ProcessLookupError):
        name = "a process that was gone"
    running.communicate(timeout=300)
    return name


def check(reference: Undisturbed, kills: int, seed: int) -> list[str]:
    """The faults found; prints a line for each kill."""
    draw = random.Random(seed)
    faults: list[str] = []
    folder, expected = reference.folder, reference.expected
    for number in range(1, kills + 1):
        seconds = draw.uniform(0.5, 0.95 * reference.seconds)
        killed = kill_once(folder, seconds, draw)
        deadline = time.monotonic() + _SECONDS_TO_END
        while left_of(folder) and time.monotonic() < deadline:
            time.sleep(0.2)
        left = left_of(folder)
        again = run(folder)
        _, said = again.communicate()
        found = results(folder)
        differing = sorted(path for path in expected.keys() | found.keys() if expected.get(path) != found.get(path))
        fault = (
            f"left running: {left}" if left
            else f"the command failed: {said.decode()[-300:]}" if again.returncode
            else f"{len(differing)} files differ, first {differing[0]}" if differing
            else ""
        )  # fmt: skip
        print(f"{number:2d}. after {seconds:5.1f} s: {killed}: {fault or 'the same bytes'}", flush=True)
        faults += [f"kill {number} ({killed} after {seconds:.1f} s): {fault}"] if fault else []
    return faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", choices=["spark", "embedded"], default="embedded")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gdmix-killed-") as place:
        faults = check(undisturbed(Path(place), arguments.engine), arguments.kills, arguments.seed)
    print("\n".join(faults) or f"{arguments.kills} kills, the same bytes each time, nothing left running")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
