"""A run that starts from an earlier run's models goes on where that one ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gdmix_core.errors import DataError
from gdmix_core.execution import dispatch
from gdmix_core.models.native import read_model
from gdmix_core.pipeline.run import Run
from tests.run_directory import Rows, make_run


def rows_of(seed: int, count: int = 600) -> Rows:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 3))
    users, films = rng.integers(0, 20, count), rng.integers(0, 30, count)
    margin = x[:, 0] + rng.normal(0, 1, 20)[users] + rng.normal(0, 1, 30)[films]
    label = (rng.random(count) < 1 / (1 + np.exp(-margin))).astype(float)
    return Rows(label=label, bags={"x": x}, ids={"user": users, "film": films})


def train(root: Path, rows: Rows, passes: int, **changes: Any) -> Run:
    coordinates = {
        "global": {"fixed_effect": {"tolerance": 1e-9}, "bag": "x"},
        "per_user": {"random_effect": {"entity": "user", "tolerance": 1e-9}, "regularize_intercept": True},
        "per_film": {"random_effect": {"entity": "film", "tolerance": 1e-9}, "regularize_intercept": True},
    }
    config = {"coordinates": coordinates, "passes": {"max": passes}, **changes}
    run = make_run(root, config, rows, rows_of(99, 100))
    for step in run.plan.steps:
        if step.kind not in ("validate", "partition", "gate"):
            dispatch.execute(run, step)
    return run


def test_the_first_pass_is_the_earlier_runs_next(tmp_path: Path) -> None:
    rows = rows_of(1)
    # Without this, select would export the pass that validates best, which need not be the last.
    earlier = train(tmp_path / "earlier", rows, 2, metrics=["logloss"])
    best = earlier.result("select")["pass"]
    later = train(tmp_path / "later", rows, 1, metrics=["logloss"], initial_model=earlier.root)
    whole = train(tmp_path / "whole", rows, best + 1, metrics=["logloss"])
    for name in later.config.coordinates:
        found, wanted = (read_model(run.model(n, name, 0)) for run, n in ((later, 1), (whole, best + 1)))
        np.testing.assert_allclose(found.means, wanted.means, atol=1e-6)
    first = later.result("pass_01.global.evaluate")["metrics"]["validation"]["logloss"]
    wanted_value = whole.result(f"pass_{best + 1:02d}.global.evaluate")["metrics"]["validation"]["logloss"]
    assert abs(first - wanted_value) < 1e-6


def test_it_starts_from_nothing_where_the_earlier_run_has_no_such_coordinate(tmp_path: Path) -> None:
    rows = rows_of(2)
    earlier = train(tmp_path / "earlier", rows, 1)
    manifest_of = earlier.path("export", "per_film")
    assert Path(manifest_of).is_dir()
    cold = train(tmp_path / "cold", rows, 1)
    later = train(
        tmp_path / "later", rows, 1,
        initial_model={"coordinates": {"per_user": str(Path(earlier.path("export", "per_user")))}},
    )  # fmt: skip
    cold_global, later_global = (read_model(run.model(1, "global", 0)).means for run in (cold, later))
    # per_user's earlier scores are in the global model's offsets, per_film's are not: there are none.
    assert np.abs(cold_global - later_global).max() > 1e-3
    assert Path(later.scores(0, "per_user", "training")).exists()
    assert not Path(later.scores(0, "per_film", "training")).exists()


def test_the_first_of_nightly_runs_has_nothing_to_start_from(tmp_path: Path) -> None:
    rows, nowhere = rows_of(3), str(tmp_path / "yesterday")
    cold = train(tmp_path / "cold", rows, 1)
    first = train(tmp_path / "first", rows, 1, initial_model={"path": nowhere, "required": False, "prior_weight": 1.0})
    for name in cold.config.coordinates:
        np.testing.assert_array_equal(*(read_model(run.model(1, name, 0)).means for run in (cold, first)))
    with pytest.raises(DataError, match=r"nothing is at .*yesterday"):
        train(tmp_path / "strict", rows, 1, initial_model=nowhere)
