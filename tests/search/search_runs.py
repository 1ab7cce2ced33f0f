"""Searches over a frame and shards that are made without Spark, for the tests in this folder."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from run_directory import Rows

from gdmix_core.execution.local_run import metrics_table
from gdmix_core.models.native import read_model
from gdmix_core.pipeline.run import Run

GLOBAL, USER = "coordinates.global.l2", "coordinates.per_user.l2"
USERS = 12


def rows(count: int, seed: int, first_uid: int = 0) -> Rows:
    """A global slope and one per user, of a fixed truth."""
    truth, rng = np.random.default_rng(99), np.random.default_rng(seed)
    w, W = truth.normal(size=3), truth.normal(size=(USERS, 2))
    user = rng.integers(0, USERS, count)
    X, Z = (rng.normal(size=(count, n)).astype(np.float32) for n in (3, 2))
    margin = X @ w + np.sum(Z * W[user], axis=1)
    label = rng.random(count) < 1 / (1 + np.exp(-margin))
    uid = np.arange(first_uid, first_uid + count)
    return Rows(label.astype(float), uid=uid, ids={"user": user}, bags={"global": X, "user": Z})


TRAINING, VALIDATION = rows(150, 1), rows(200, 2, 1000)


def content(l2: tuple[Any, Any], **changes: Any) -> dict[str, Any]:
    return {
        "coordinates": {
            "global": {"fixed_effect": {"tolerance": 1e-9}, "bag": "global", "l2": l2[0]},
            "per_user": {
                "random_effect": {"entity": "user", "shards": 2, "tolerance": 1e-9}, "bag": "user", "l2": l2[1],
            },
        },
        "passes": {"max": 2},
        "metrics": ["logloss", "auc"],
        **changes,
    }  # fmt: skip


def models(run: Run) -> dict[str, Any]:
    """The exported coefficients by coordinate and shard."""
    found: dict[str, Any] = {}
    for path in Path(run.path("export")).rglob("*.parquet"):
        found[f"{path.parent.name}/{path.name}"] = read_model(str(path))
    assert len(found) == 3
    return found


def shown(run: Run) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(metrics_table(run))
    return console.export_text()


def stamps(root: str) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in Path(root).rglob("*") if path.is_file()}
