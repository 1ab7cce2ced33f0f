"""Everything a fixed effect can be asked for, on any number of workers and threads, and killed on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from gdmix_core.effects.linear import automatic_l2, training
from gdmix_core.effects.linear.fit import fit
from gdmix_core.effects.linear.training_rows import TrainingRows
from gdmix_core.execution.dispatch import execute
from gdmix_core.models.native import read_model, write_model
from gdmix_core.models.table import CoefficientTable
from gdmix_core.pipeline.run import Run
from gdmix_core.training_context import TrainingContext
from gdmix_core.workers import checkpoint, progress
from gdmix_core.workers.all_reduce import SingleWorker
from gdmix_core.workers.checkpoint import Iterate
from tests.run_directory import Rows, checkpoint_of, make_run, mark_initialized
from tests.workers.test_all_reduce import in_group

STEP = "pass_01.global.train"
FEATURES = 150  # more than newton_cg.DENSE_LIMIT

CASES: dict[str, dict[str, Any]] = {
    "newton": {"l2": 0.3},
    "few features": {"l2": 0.3, "bag": "few", "variances": "full"},
    "lbfgs": {"effect": {"solver": "lbfgs"}, "l2": 3.0},
    "l1": {"l1": 2.0, "l2": 0.0},
    "l1 by lbfgs": {"l1": 20.0, "l2": 1.0, "normalization": "standard_deviation", "effect": {"solver": "lbfgs"}},
    "bounds": {"l2": 2.0, "alpha": 0.5, "bounds": [{"name": "feature", "term": "1*", "lower": 0.0, "upper": 0.4}]},
    "standardized": {"l2": 5.0, "normalization": "standardization", "variances": "full", "regularize_intercept": True},
    "simple": {"l2": 0.3, "normalization": "max_magnitude", "variances": "simple"},
    "down-sampled": {"l2": 0.3, "effect": {"downsampling": 0.5}},
    "auto": {"l2": "auto", "normalization": "standard_deviation"},
    "probed": {"l2": {"auto": "coordinate"}, "normalization": "standard_deviation"},
    "prior": {"l2": 0.3, "prior": True},
}


def make(root: Path, case: str, processes: int = 1) -> Run:
    settings = dict(CASES[case])
    random = np.random.default_rng(1)
    n = 1500
    X = np.where(random.random((n, FEATURES)) < 0.3, random.normal(0.2, 1.0, (n, FEATURES)), 0.0)
    X *= np.logspace(-1, 1, FEATURES)
    X[:, 5] = 0.0
    margin = X @ (random.normal(0.0, 0.3, FEATURES) / np.logspace(-1, 1, FEATURES))
    y = (random.random(n) < 1 / (1 + np.exp(-margin))).astype(float)
    rows = Rows(label=y, weight=random.uniform(0.5, 2.0, n), bags={"global": X, "few": X[:, :6]})
    prior = settings.pop("prior", False)
    effect = {"tolerance": 1e-6 if "lbfgs" in case else 1e-9, **settings.pop("effect", {})}
    content: dict[str, Any] = {
        "coordinates": {"global": {"fixed_effect": effect, "bag": "global", **settings}},
        "engine": {"local": {"processes": processes}},
    }
    if prior:
        content["initial_model"] = {"path": "earlier", "prior_weight": 2.0}
    run = make_run(root, content, rows, Rows(label=y[:7], bags={"global": X[:7], "few": X[:7, :6]}))
    if prior:
        features = np.arange(-1, FEATURES + 2, dtype=np.int32)
        table = CoefficientTable(
            pa.array(["global"]), np.array([0, len(features)]), features, random.normal(0, 0.2, len(features)),
            random.uniform(0.1, 1.0, len(features)),
        )  # fmt: skip
        write_model(run.initial("global", 0), table)
        mark_initialized(run)
    if "summarize" in [step.id for step in run.plan.steps]:
        execute(run, run.plan["summarize"])
    return run


def train(run: Run, workers: int) -> tuple[list[dict[str, Any]], CoefficientTable]:
    step = run.plan[STEP]

    def work(group: Any) -> dict[str, Any]:
        rows = TrainingRows(TrainingContext(run, step), group.rank, group.workers, 1)
        return fit(TrainingContext(run, step), rows, group, on_iteration=lambda number, objective: None)

    outcomes = in_group(workers, work) if workers > 1 else [work(SingleWorker())]
    return outcomes, read_model(run.model(1, "global", 0))


@pytest.mark.parametrize("case", CASES)
def test_shared_as_alone(tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if case == "probed":
        monkeypatch.setattr(automatic_l2, "DENSE_LIMIT", 10)
    (alone,), expected = train(make(tmp_path / "1", case), 1)
    outcomes, found = train(make(tmp_path / "3", case), 3)
    assert outcomes[0] == outcomes[1] == outcomes[2]
    assert outcomes[0]["converged"]
    assert alone["converged"]
    assert outcomes[0]["objective"] == pytest.approx(alone["objective"], rel=1e-8)
    np.testing.assert_array_equal(found.features, expected.features)
    np.testing.assert_allclose(found.means, expected.means, atol=1e-3)
    assert (found.variances is None) == (expected.variances is None)
    if expected.variances is not None and found.variances is not None:
        np.testing.assert_allclose(found.variances, expected.variances, rtol=1e-4)
    if "l2" in alone:
        assert outcomes[0]["l2"]["used"] == pytest.approx(alone["l2"]["used"], rel=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_the_same_bytes_on_any_number_of_threads(tmp_path: Path, case: str) -> None:
    written = []
    for processes in (1, 3):
        run = make(tmp_path / str(processes), case, processes)
        result = training.train(TrainingContext(run, run.plan[STEP]))
        written.append((Path(run.model(1, "global", 0)).read_bytes(), {k: v for k, v in result.items() if k != "key"}))
    assert written[0] == written[1]


class KilledError(Exception):
    """Stands for whatever ends the process in the middle."""


@pytest.mark.parametrize("case", ["newton", "l1", "standardized", "auto"])
def test_a_killed_step_goes_on_from_its_checkpoint(tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "_SHARE", 1e9)  # each is written, however slow the disk
    whole, expected = train(make(tmp_path / "whole", case), 1)
    run = make(tmp_path / "killed", case)
    at = whole[0]["iterations"] * 2 // 3

    def kill(done: int, total: int, what: str) -> None:
        if done == at:
            raise KilledError

    progress.listen(kill)
    try:
        with pytest.raises(KilledError):
            training.train(TrainingContext(run, run.plan[STEP]))
    finally:
        progress.listen(None)
    stored = checkpoint_of(run).read()
    assert stored is not None
    assert 0 < stored.iterations <= at
    result = training.train(TrainingContext(run, run.plan[STEP]))
    assert result["converged"]
    assert result["iterations"] > stored.iterations
    assert result["evaluations"] > stored.evaluations
    assert result["objective"] == pytest.approx(whole[0]["objective"], rel=1e-3 if case == "auto" else 1e-9)
    np.testing.assert_allclose(read_model(run.model(1, "global", 0)).means, expected.means, atol=2e-3)
    if case == "auto":
        assert result["l2"]["rounds"] < whole[0]["l2"]["rounds"]


def test_a_checkpoint_keeps_all_that_was_counted(tmp_path: Path) -> None:
    run = make(tmp_path, "auto")
    kept = checkpoint_of(run)
    kept.offer(Iterate(np.arange(3.0), 17, 23, 29, np.array([0.5, 2.0])))
    stored = kept.read()
    assert stored is not None
    assert (stored.iterations, stored.evaluations, stored.hessian_products) == (17, 23, 29)
    np.testing.assert_array_equal(stored.variance, [0.5, 2.0])
