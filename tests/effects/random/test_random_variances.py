"""Posterior variances of random effects, from the training to the exported files."""

from __future__ import annotations

from pathlib import Path

import fastavro
import numpy as np
import pytest
from user_models import LOSS_OF_TASK, configured, design, make_rows, models, rows_of, trained

from gdmix_core.execution.dispatch import execute
from gdmix_core.models.native import read_model
from tests.solvers.losses import loss_formulas


def expected_variances(rows, user, model, l2: float, mode: str, task: str) -> dict[int, float]:
    chosen = rows_of(rows, user)
    features, X = design(rows, chosen)
    z = X @ np.array([model[j] for j in features]) + np.asarray(rows.offset)[chosen]
    bend = loss_formulas.second(LOSS_OF_TASK[task], z, np.asarray(rows.label, float)[chosen])
    H = X.T @ (X * (np.asarray(rows.weight)[chosen] * bend)[:, None]) + l2 * np.eye(len(features))
    found = 1 / np.diag(H) if mode == "simple" else np.diag(np.linalg.inv(H))
    return dict(zip(features, found.tolist(), strict=True))


@pytest.mark.parametrize("task", LOSS_OF_TASK)
@pytest.mark.parametrize("mode", ["simple", "full"])
def test_in_the_model(tmp_path: Path, mode: str, task: str):
    rows = make_rows(150, task=task)
    run = trained(tmp_path, configured({"shards": 2}, l2=0.4, task=task, variances=mode), rows)
    found = models(run, variances=True)
    for user, model in models(run).items():
        expected = expected_variances(rows, user, model, 0.4, mode, task)
        assert found[user] == pytest.approx(expected, rel=1e-6)


def test_none_by_default(tmp_path: Path):
    run = trained(tmp_path, configured(), make_rows(100))
    assert read_model(run.model(1, "per_user", 0)).variances is None


def test_variances_change_no_coefficient(tmp_path: Path):
    rows = make_rows(150)
    runs = [trained(tmp_path / mode, configured(variances=mode), rows) for mode in ("none", "simple", "full")]
    assert models(runs[0]) == models(runs[1]) == models(runs[2])


def test_with_an_l1_penalty_they_are_of_the_smooth_part(tmp_path: Path):
    """Photon ML's choice as well: the curvature of loss and L2."""
    rows = make_rows(150)
    run = trained(tmp_path, configured(l2=0.4, l1=0.3, variances="full"), rows)
    found = models(run, variances=True)
    for user, model in models(run).items():
        assert found[user] == pytest.approx(expected_variances(rows, user, model, 0.4, "full", "logistic_regression"))


def test_under_l2_auto(tmp_path: Path):
    rows = make_rows(300)
    run = trained(tmp_path, configured(l2={"auto": "coordinate"}, variances="full"), rows)
    l2 = run.result("pass_01.per_user.train")["l2"]["used"]["coefficients"]
    found = models(run, variances=True)
    for user, model in models(run).items():
        expected = expected_variances(rows, user, model, l2, "full", "logistic_regression")
        assert found[user] == pytest.approx(expected, rel=1e-6)


def test_in_the_exported_avro_files(tmp_path: Path):
    rows = make_rows(150, text=True)
    run = trained(tmp_path, configured({"shards": 2}, variances="full"), rows)
    for step in ("pass_01.per_user.evaluate", "select", "export"):
        execute(run, run.plan[step])
    means, variances = models(run), models(run, variances=True)
    seen = set()
    for number in range(2):
        with open(run.path("export", "per_user", f"part-{number:05d}.avro"), "rb") as file:
            for record in fastavro.reader(file):
                seen.add(record["modelId"])
                for name, expected in (("means", means), ("variances", variances)):
                    entries = {(e["name"], e["term"]): e["value"] for e in record[name]}
                    named = {
                        ("(INTERCEPT)", "") if j < 0 else ("feature", str(j)): value
                        for j, value in expected[record["modelId"]].items()
                    }
                    assert entries == named
        native = read_model(run.path("export", "per_user", f"shard-{number:05d}.parquet"))
        assert native.variances is not None
        assert (native.variances > 0).all()
    assert seen == set(means)
