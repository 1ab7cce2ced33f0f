"""A random effect by user on rows of random shape, and what SciPy finds for each user's own rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import optimize

from gdmix_core import storage
from gdmix_core.data.hashing import hash_ids
from gdmix_core.effects.random import training
from gdmix_core.evaluation.evaluate import evaluate
from gdmix_core.models.native import read_model, write_model
from gdmix_core.models.table import CoefficientTable
from gdmix_core.pipeline.run import Run
from gdmix_core.training_context import TrainingContext
from tests.run_directory import Rows, make_run, mark_initialized
from tests.solvers.losses import loss_formulas

FEATURES = 5
TRAIN = "pass_01.per_user.train"
LOSS_OF_TASK = {
    "logistic_regression": "logistic",
    "linear_regression": "linear",
    "poisson_regression": "poisson",
    "smoothed_hinge": "smoothed_hinge",
}

Model = dict[int, float]
"""Feature → coefficient; −1 is the intercept."""


def make_rows(
    count: int, *, seed: int = 0, users: int = 12, text: bool = False, task: str = "logistic_regression"
) -> Rows:
    """Features differ in scale; each user has an intercept and slopes of its own."""
    rng = np.random.default_rng(seed)
    user = rng.integers(0, users, count)
    X = rng.normal(0.3, 1, (count, FEATURES)) * (rng.random((count, FEATURES)) < 0.6) * (0.5, 1, 2, 1, 3)
    drawn = np.random.default_rng(99).normal(size=(100, FEATURES + 1)) * 0.7
    offset = rng.normal(size=count) * 0.3
    z = np.clip(drawn[user, 0] + np.sum(X * drawn[user, 1:], axis=1) + offset, -3, 3)
    if task == "linear_regression":
        label = z + rng.normal(size=count)
    elif task == "poisson_regression":
        label = rng.poisson(np.exp(z / 2)).astype(float)
    else:
        label = (rng.random(count) < 1 / (1 + np.exp(-z))).astype(float)
    ids: Any = [f"user {u:03d}" for u in user] if text else user
    return Rows(label, rng.choice([0.5, 1, 2], count), offset, ids={"user_id": ids}, bags={"per_user": X})


def configured(effect: Mapping[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    """settings: the coordinate's, and the pipeline's task, initial_model and processes."""
    top = {key: settings.pop(key) for key in ("task", "initial_model") if key in settings}
    random_effect = {"entity": "user_id", "shards": 1, "tolerance": 1e-9, **(effect or {})}
    coordinate = {"random_effect": random_effect, "bag": "per_user", "regularize_intercept": True}
    engine = {"local": {"processes": settings.pop("processes", 1)}}
    return {"coordinates": {"per_user": {**coordinate, **settings}}, "metrics": ["logloss"], "engine": engine, **top}


def trained(root: Path, config: dict[str, Any], rows: Rows, validation: Rows | None = None, **initial: Any) -> Run:
    """initial: models, features → (mean, variance) by user, to start from."""
    run = make_run(root, config, rows, validation, rows_per_block=70)
    if initial:
        write_initial(run, initial["initial"], variances=initial.get("variances", True))
    training.train(TrainingContext(run, run.plan[TRAIN]))
    return run


def write_initial(run: Run, models: Mapping[Any, Mapping[int, tuple[float, float]]], *, variances: bool) -> None:
    """Where the step that prepares initial models leaves them: in the shards of this run."""
    shards = run.result("partition")["coordinates"]["per_user"]["shards"]
    ids = pa.array(sorted(models))
    home = hash_ids(ids) % np.uint64(shards)
    for number in range(shards):
        mine = [i for i, h in zip(ids.to_pylist(), home, strict=True) if h == number]
        entries = [(j, *models[i][j]) for i in mine for j in sorted(models[i])]
        table = CoefficientTable(
            pa.array(mine, ids.type),
            np.cumsum([0, *(len(models[i]) for i in mine)]),
            np.array([j for j, _, _ in entries], np.int32),
            np.array([mean for _, mean, _ in entries], np.float64),
            np.array([variance for _, _, variance in entries], np.float64) if variances else None,
        )
        write_model(run.initial("per_user", number), table)
    mark_initialized(run)


def models(run: Run, pass_number: int = 1, *, variances: bool = False) -> dict[Any, Model]:
    """Of every user, from all shards; with variances: these in place of the means."""
    found: dict[Any, Model] = {}
    for number in range(run.result("partition")["coordinates"]["per_user"]["shards"]):
        table = read_model(run.model(pass_number, "per_user", number))
        column = table.variances if variances else table.means
        assert column is not None
        for e, entity in enumerate(table.entities.to_pylist()):
            assert entity not in found, "an entity lies in two shards"
            span = slice(table.offsets[e], table.offsets[e + 1])
            found[entity] = dict(zip(table.features[span].tolist(), column[span].tolist(), strict=True))
    return found


def scores_of(run: Run, split: str) -> NDArray[np.float32]:
    evaluate(run, run.plan["pass_01.per_user.evaluate"])
    return np.asarray(storage.read_array(run.scores(1, "per_user", split)))


def rows_of(rows: Rows, user: Any) -> NDArray[np.int64]:
    return np.flatnonzero(np.array(rows.ids["user_id"]) == user)


def design(rows: Rows, chosen: NDArray[np.int64]) -> tuple[list[int], NDArray[np.float64]]:
    """(features that the rows have, −1 first; dense matrix of these)."""
    X = np.asarray(rows.bags["per_user"])[chosen].astype(np.float64)
    features = np.flatnonzero(X.any(axis=0))
    return [-1, *features.tolist()], np.hstack([np.ones((len(chosen), 1)), X[:, features]])


def optimum(
    rows: Rows,
    chosen: NDArray[np.int64],
    l2: float | Mapping[int, float],
    *,
    task: str = "logistic_regression",
    centre: Mapping[int, float] | None = None,
    l1: float | Mapping[int, float] = 0.0,
    bounds: Mapping[int, tuple[float, float]] | None = None,
) -> Model:
    """SciPy's, by L-BFGS-B over positive and negative parts. A number holds for all coefficients."""
    features, X = design(rows, chosen)
    y, offset, weight = (np.asarray(c, np.float64)[chosen] for c in (rows.label, rows.offset, rows.weight))
    loss = LOSS_OF_TASK[task]
    λ = np.array([l2[j] if isinstance(l2, Mapping) else l2 for j in features])
    α = np.array([l1[j] if isinstance(l1, Mapping) else l1 for j in features])
    m = np.array([(centre or {}).get(j, 0.0) for j in features])
    low, high = np.array([(bounds or {}).get(j, (-np.inf, np.inf)) for j in features]).T
    size = len(features)

    def value(parts: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        w = parts[:size] - parts[size:]
        z = X @ w + offset
        slope = X.T @ (weight * loss_formulas.first(loss, z, y)) + λ * (w - m)
        total = weight @ loss_formulas.value(loss, z, y) + 0.5 * λ @ (w - m) ** 2 + α @ (parts[:size] + parts[size:])
        return float(total), np.concatenate([slope + α, α - slope])

    limits = [(max(a, 0.0), max(b, 0.0)) for a, b in zip(low, high, strict=True)]
    limits += [(max(-b, 0.0), max(-a, 0.0)) for a, b in zip(low, high, strict=True)]
    start = np.clip(np.zeros(2 * size), *np.array(limits).T)
    options = {"ftol": 1e-16, "gtol": 1e-10, "maxiter": 5000, "maxfun": 20_000}
    found = optimize.minimize(value, start, jac=True, method="L-BFGS-B", bounds=limits, options=options).x
    return dict(zip(features, (found[:size] - found[size:]).tolist(), strict=True))


def assert_same_model(found: Mapping[int, float], expected: Mapping[int, float], tolerance: float = 3e-5) -> None:
    assert set(found) == set(expected)
    for feature, coefficient in expected.items():
        assert abs(found[feature] - coefficient) <= tolerance * max(1.0, abs(coefficient)), feature


def expected_scores(rows: Rows, coefficients: Mapping[Any, Mapping[int, float]]) -> NDArray[np.float64]:
    X = np.asarray(rows.bags["per_user"])
    total = np.zeros(len(rows))
    for i, user in enumerate(np.array(rows.ids["user_id"]).tolist()):
        total[i] = sum(c * (1.0 if j < 0 else X[i, j]) for j, c in coefficients.get(user, {}).items())
    return total
