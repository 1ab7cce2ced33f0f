"""VerbAgg and Contraception as runs of ours, and what lme4 estimates on them (shared data, folder glmm)."""

from __future__ import annotations

import csv
import gzip
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdmix_core.execution import dispatch
from gdmix_core.pipeline.run import Run
from tests.run_directory import Rows, make_run


@dataclass
class Estimates:
    """fixed: float64 [features + 1], the intercept first; variance: by grouping column; entities: by column and id."""

    fixed: NDArray[np.float64]
    variance: dict[str, float]
    entities: dict[str, dict[str, float]]


def rows_of(folder: Path, model: str) -> Rows:
    """The model matrix of the R formula in models.txt, without its intercept."""
    if model == "verbagg":
        table = _read(folder / "VerbAgg.csv")
        terms = [
            [float(row["Anger"]) for row in table],
            [row["Gender"] == "M" for row in table],
            [row["btype"] == "scold" for row in table],
            [row["btype"] == "shout" for row in table],
            [row["situ"] == "self" for row in table],
        ]
        label, ids = [row["r2"] == "Y" for row in table], {name: [r[name] for r in table] for name in ("id", "item")}
    else:
        table = _read(folder / "Contraception.csv")
        age = np.array([float(row["age"]) for row in table])
        living = [[row["livch"] == level for row in table] for level in ("1", "2", "3+")]
        terms = [age, age**2, [row["urban"] == "Y" for row in table], *living]
        label, ids = [row["use"] == "Y" for row in table], {"district": [r["district"] for r in table]}
    x = np.column_stack([np.asarray(term, np.float64) for term in terms])
    return Rows(label=np.asarray(label, np.float64), bags={"terms": x}, ids=ids)


def estimates(folder: Path, model: str, fit: str) -> Estimates:
    rows = [row for row in _read(folder / "estimates.csv") if row["model"] == f"{model}_{fit}"]
    fixed = np.array([float(row["value"]) for row in rows if row["kind"] == "fixed"])
    variance = {row["name"].split()[0]: float(row["value"]) for row in rows if row["kind"] == "variance"}
    entities: dict[str, dict[str, float]] = {name: {} for name in variance}
    path = folder / f"ranef_{model}_{fit}.csv.gz"
    if path.exists():
        for row in _read(path):
            entities[row["grpvar"]][row["grp"]] = float(row["condval"])
    return Estimates(fixed, variance, entities)


def train(root: Path, rows: Rows, l2: dict[str, Any], passes: int) -> Run:
    """All passes: an unpenalised fixed effect, and an intercept for each entity with the given l2."""
    coordinates: dict[str, Any] = {"global": {"fixed_effect": {"tolerance": 1e-9}, "bag": "terms", "l2": 0.0}}
    for name, value in l2.items():
        coordinates[name] = {
            "random_effect": {"entity": name, "tolerance": 1e-9},
            "l2": value,
            "regularize_intercept": True,
        }
    config = {"coordinates": coordinates, "passes": {"max": passes}, "metrics": ["logloss"]}
    run = make_run(root, config, rows, rows_per_block=10_000)
    for step in run.plan.steps:
        if step.kind in ("train_fixed", "train_random", "evaluate", "accelerate"):
            dispatch.execute(run, step)
    return run


def _read(path: Path) -> list[dict[str, str]]:
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    return list(csv.DictReader(io.StringIO(text)))
