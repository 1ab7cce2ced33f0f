"""`gdmix compile`: small pipelines that call every kernel once, so that their compiled code is there for all others."""

from __future__ import annotations

import copy
import io
import tempfile
from collections.abc import Iterator
from typing import Any

from rich.console import Console

from gdmix_core.config.pipeline import Config
from gdmix_core.execution.local_run import run_pipeline
from gdmix_core.samples.generated import generate_sample, write_generated

_BASE: dict[str, Any] = {
    "columns": {"label": "response", "weight": "weight"},
    "coordinates": {
        "global": {"fixed_effect": {}, "data": "global", "bag": "global"},
        "per_user": {"random_effect": {"entity": "user_id"}, "data": "per_user", "bag": "per_user"},
    },
    "passes": {"max": 2, "min_delta": "none"},
    "export": {"formats": ["native"]},
    "engine": {"data": "embedded"},
}
_AUTOMATIC = {"global": {"l2": "auto", "variances": "full"}, "per_user": {"l2": "auto", "variances": "full"}}
_PLAIN = {"global": {"variances": "simple"}, "per_user": {"variances": "simple"}}
_SPARSE = {
    "global": {"l2": 0.1, "l1": 0.1, "normalization": "standardization"},
    "per_user": {"l2": 0.1, "l1": 0.1, "bounds": [{"upper": 3.0}]},
}
_SMALL = {
    "global": {"fixed_effect": {"solver": "lbfgs", "downsampling": 0.9}},
    "per_user": {"random_effect": {"entity": "user_id", "features_to_samples": 0.5, "samples": {"max": 5}}},
}
_BY_FEATURE = {"global": {"l2": {"auto": "feature"}}, "per_user": {"l2": {"auto": "feature"}}}
_RANKING = ["auc", "logloss", "auc@user_id", "precision@3:user_id", "ndcg@3:user_id", "mrr@3:user_id"]
_PIPELINES: list[tuple[str, list[str], dict[str, dict[str, Any]]]] = [
    ("logistic_regression", _RANKING, _AUTOMATIC),
    ("logistic_regression", ["logloss"], _PLAIN),
    ("logistic_regression", ["logloss"], _SPARSE),
    ("logistic_regression", ["logloss"], _SMALL),
    ("logistic_regression", ["logloss"], _BY_FEATURE),
    ("linear_regression", ["rmse"], _AUTOMATIC),
    ("linear_regression", ["rmse"], _PLAIN),
    ("poisson_regression", ["poisson_loss"], _AUTOMATIC),
    ("poisson_regression", ["poisson_loss"], _PLAIN),
    ("smoothed_hinge", ["auc"], _PLAIN),
]


def pipelines(folder: str) -> Iterator[Config]:
    """The configurations, each with a run of its own in the folder."""
    for number, (task, metrics, changes) in enumerate(_PIPELINES):
        content = copy.deepcopy(_BASE) | {"name": f"compile{number}", "task": task, "metrics": metrics}
        for name, change in changes.items():
            content["coordinates"][name] |= change
        yield Config.model_validate({**content, "input": f"{folder}/input", "output": f"{folder}/run{number}"})


def compile_kernels() -> None:
    """Calls all kernels on a small sample, in a folder that is removed."""
    with tempfile.TemporaryDirectory(prefix="gdmix-compile-") as folder:
        write_generated(f"{folder}/input", generate_sample(users=40, movies=60, ratings=600))
        for config in pipelines(folder):
            run_pipeline(config, Console(file=io.StringIO()))
