"""What the runner does in processes of their own, so that a fit's peak memory is its own and no peer's threads disturb
another.

    python benchmarks/fitting.py make COMPARISON SIZE FOLDER    makes the problem's arrays
    python benchmarks/fitting.py fit COMPARISON WHO FOLDER RUNS    leaves WHO.npy and WHO.json there
    python benchmarks/fitting.py value COMPARISON FOLDER    leaves every fit's objective in values.json

WHO is a function of ours.py or peers.py, as in `peers.glum_poisson`, or `ours.FUNCTION.PEER` where ours takes the
variances that a peer has estimated.
"""

from __future__ import annotations

import importlib
import json
import resource
import statistics
import sys
from pathlib import Path
from typing import Any

import machine
import numpy as np
from comparisons import COMPARISONS, SIZES, Comparison, Fit, Problem
from threadpoolctl import threadpool_limits

# Nobody is fitted again once this much time has gone.
_ENOUGH_SECONDS = 15.0


def make(comparison: Comparison, size: str, folder: Path) -> None:
    (folder / "problem").mkdir()
    for name, array in comparison.make(**comparison.sizes[size]).items():
        np.save(folder / "problem" / f"{name}.npy", array)


def fit(comparison: Comparison, who: str, folder: Path, runs: int) -> None:
    module, function, *beside = who.split(".")
    room = importlib.import_module(module)
    prepare = getattr(room, function)
    others = [np.load(folder / f"peers.{peer}.npy") for peer in beside]
    # What nobody's time counts: imports, compilation, the start of a JVM.
    prepare(comparison.make(**comparison.sizes[SIZES[0]]), *others).work()
    fitted: Fit = prepare(_read(folder), *others)
    returned, seconds = _timed(fitted, runs)
    note = fitted.note()
    if module == "peers" and not function.startswith(("spark", "lme4")):  # whose threads are not this process's
        # BLAS shares small products among threads at a loss, and a large one where the cores have other work.
        with threadpool_limits(1, "blas"):
            again, alone = _timed(fitted, runs if sum(seconds) < _ENOUGH_SECONDS else 0)
        if alone and statistics.median(alone) < statistics.median(seconds):
            returned, seconds, note = again, alone, "one BLAS thread"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    np.save(folder / f"{who}.npy", fitted.coefficients(returned))
    measured = {
        "seconds": statistics.median(seconds), "seconds_of_runs": seconds, "runs": len(seconds), "peak_memory": peak,
        "note": note, "versions": room.versions(function),
    }  # fmt: skip
    (folder / f"{who}.json").write_text(json.dumps(measured))


def _timed(fitted: Fit, runs: int) -> tuple[Any, list[float]]:
    """What the latest of so many runs returned, and the seconds of each."""
    returned: list[Any] = [None]
    seconds: list[float] = []
    while len(seconds) < runs and sum(seconds) < _ENOUGH_SECONDS:
        wall = machine.once(lambda: returned.append(fitted.work()))
        seconds.append(fitted.seconds(returned[-1]) if fitted.seconds else wall)
        del returned[:-1]
    return returned[-1], seconds


def value(comparison: Comparison, folder: Path) -> None:
    problem = _read(folder)
    values = {path.stem: comparison.value(problem, np.load(path)) for path in folder.glob("*.npy")}
    (folder / "values.json").write_text(json.dumps(values))


def _read(folder: Path) -> Problem:
    return {path.stem: np.load(path) for path in (folder / "problem").iterdir()}


def main(what: str, name: str, *arguments: str) -> None:
    comparison = COMPARISONS[name]
    if what == "make":
        make(comparison, arguments[0], Path(arguments[1]))
    elif what == "fit":
        fit(comparison, arguments[0], Path(arguments[1]), int(arguments[2]))
    else:
        value(comparison, Path(arguments[0]))


if __name__ == "__main__":
    main(*sys.argv[1:])
