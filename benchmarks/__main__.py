"""One table of what the library takes, beside its peers: `make bench`, or

    python benchmarks [--size tiny|small|medium|large] [--only WORD] [--runs 3] [--json FILE] [--list]

A table in markdown goes to standard output and, with all it was made from, as JSON to a file. Everybody has the same
cores, by the variables that OpenMP and BLAS libraries read, and where these are not asked by an argument. No time is
compared before ours has an objective as low as the peer's: that row says "not reached" and the runner ends with 1.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import machine
from comparisons import COMPARISONS, SIZES, Comparison

HERE = Path(__file__).resolve().parent
# Relative: two float64 sums of as many terms differ by as much.
_ROUNDING = 1e-12
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "LOKY_MAX_CPU_COUNT")
# Scripts that compare more than a fit, and their rows of data by size.
SCRIPTS = {"ingest": (2_000, 20_000, 2_000_000, 4_000_000), "pipeline": (2_000, 5_000, 100_000, 100_000)}

Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="medium")
    parser.add_argument("--only", default="", help="comparisons whose name holds this")
    parser.add_argument("--runs", type=int, default=3, help="of every fit; a slow one has fewer")
    parser.add_argument("--json", type=Path, default=HERE.parent / "build" / "bench.json")
    parser.add_argument("--list", action="store_true", help="only the names of the comparisons")
    arguments = parser.parse_args()
    names = [name for name in (*COMPARISONS, *SCRIPTS) if arguments.only in name]
    if arguments.list:
        print("\n".join(names))
        return
    rows: list[Row] = []
    versions: dict[str, str] = {}
    for name in names:
        print(f"{name} …", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            if name in SCRIPTS:
                rows += _script(name, SCRIPTS[name][SIZES.index(arguments.size)], Path(folder))
            else:
                rows += _compare(name, arguments.size, arguments.runs, Path(folder), versions)
    report = {"machine": _machine(), "size": arguments.size, "versions": _own_versions() | versions, "rows": rows}
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    print(markdown(report))
    if any(row.get("reached") is False for row in rows):
        sys.exit("ours has not reached a peer's objective; its time says nothing")


def _machine() -> dict[str, Any]:
    return {
        "processor": machine.processor(), "cores": machine.cores(), "memory_gib": round(machine.memory_gib(), 1),
        "python": platform.python_version(), "system": platform.platform(),
    }  # fmt: skip


def _own_versions() -> dict[str, str]:
    return {name: version(name) for name in ("gdmix-airflow", "numpy", "numba", "duckdb", "pyarrow")}


def _compare(name: str, size: str, runs: int, folder: Path, versions: dict[str, str]) -> list[Row]:
    """Rows of one comparison: of each peer, and of ours, which is fitted anew for a peer that gives it something."""
    comparison = COMPARISONS[name]
    _fitting("make", name, size, str(folder))
    measured: dict[str, Row] = {}
    ours = [f"ours.{comparison.ours}"]
    if comparison.given_peers_variances:
        ours = [f"ours.{comparison.ours}.{peer}" for peer in comparison.peers]
    for who in (*(f"peers.{peer}" for peer in comparison.peers), *ours):
        beside = who.split(".")[2:]
        if beside and f"peers.{beside[0]}" not in measured:
            continue
        found, peak = _fitting("fit", name, who, str(folder), str(runs))
        if found.returncode:
            missing = [line for line in found.stderr.splitlines() if line.startswith("ModuleNotFoundError")]
            if not missing or who.startswith("ours"):
                raise RuntimeError(f"{who}: {found.stderr}")
            print(f"left out: {who}: {missing[-1]}", file=sys.stderr, flush=True)
            continue
        measured[who] = json.loads((folder / f"{who}.json").read_text())
        measured[who]["peak_memory"] = max(measured[who]["peak_memory"], peak)  # with the processes below it
        versions |= measured[who].pop("versions")
    _fitting("value", name, str(folder))
    values = json.loads((folder / "values.json").read_text())
    return _rows(name, comparison, size, measured, values)


def _rows(
    name: str, comparison: Comparison, size: str, measured: dict[str, Row], values: dict[str, float]
) -> list[Row]:
    rows: list[Row] = []
    for own in (who for who in measured if who.startswith("ours")):
        for who in (own, *(f"peers.{peer}" for peer in own.split(".")[2:] or comparison.peers)):
            if who in measured:
                row = {"comparison": name, "objective": comparison.objective, "sizes": comparison.sizes[size],
                       "who": who, "value": values[who], **measured[who]}  # fmt: skip
                rows.append(row | (_beside(row, values[own], measured[own]["seconds"]) if who != own else {}))
    return rows


def _beside(row: Row, value: float, seconds: float) -> Row:
    """Ours beside a peer's row."""
    excess = row["value"] - value
    reached = excess >= -_ROUNDING * abs(row["value"])
    return {"above_ours": excess, "reached": reached, "ratio": seconds / row["seconds"] if reached else None}


def _fitting(*arguments: str) -> tuple[subprocess.CompletedProcess[str], int]:
    """Run fitting.py; with the peak of the resident memory of it and all its processes together, sampled."""
    command = [sys.executable, str(HERE / "fitting.py"), *arguments]
    found, peak = _watched(command)
    if found.returncode and arguments[0] != "fit":
        raise RuntimeError(f"{' '.join(arguments)}: {found.stderr}")
    return found, peak


def _watched(command: list[str]) -> tuple[subprocess.CompletedProcess[str], int]:
    environment = os.environ | dict.fromkeys(_THREADS, str(machine.cores())) | {"PYTHONWARNINGS": "ignore"}
    with (
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        ) as process,
        machine.PeakMemory(process.pid) as peak,
    ):
        out, errors = process.communicate()
    return subprocess.CompletedProcess(command, process.returncode, out, errors), peak.bytes


def _script(name: str, count: int, folder: Path) -> list[Row]:
    found, _ = _watched(
        [sys.executable, str(HERE / f"{name}.py"), "--rows", str(count), "--json", str(folder / "rows.json")]
    )
    if found.returncode:
        raise RuntimeError(f"{name}: {found.stderr}")
    return json.loads((folder / "rows.json").read_text())


def markdown(report: dict[str, Any]) -> str:
    """The table, with the machine above it."""
    machine_, versions = report["machine"], report["versions"]
    lines = [
        f"{machine_['cores']} cores, {machine_['processor']}, {machine_['memory_gib']:.0f} GiB, Python "
        f"{machine_['python']}; " + ", ".join(f"{name} {number}" for name, number in versions.items()) + ".",
        "",
        "| comparison | who | median | peak memory | objective; a peer's: above ours | ours takes |",
        "|---|---|---|---|---|---|",
    ]
    previous = None
    for row in report["rows"]:
        sizes = ", ".join(f"{count:,} {name}" for name, count in row["sizes"].items())
        title = f"{row['comparison']}: {sizes}" if row["comparison"] != previous else ""
        previous = row["comparison"]
        who = (
            row["who"].split(".", 1)[-1].replace("scikit_learn", "scikit-learn").replace("_", " ")
            if row["who"].startswith("peers")
            else "**ours**"
        )
        details = ", ".join(
            part for part in (f"{row['runs']} runs" if row["runs"] > 1 else "1 run", row["note"]) if part
        )
        peak = f"{row['peak_memory'] / 2**20:,.0f} MiB" if row["peak_memory"] else ""
        found = row.get("result") or (f"{row['above_ours']:+.1e}" if "above_ours" in row else f"{row['value']:.10g}")
        ratio = f"{row['ratio']:.3g} ×" if row.get("ratio") else "" if row.get("reached", True) else "not reached"
        if row.get("reached") is False or (row.get("ratio") or 0.0) > 1.0:
            ratio = f"**{ratio}**"
        lines.append(f"| {title} | {who} | {row['seconds']:.3g} s ({details}) | {peak} | {found} | {ratio} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
