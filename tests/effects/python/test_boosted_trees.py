"""The example of docs/external.md, run: boosted trees as a fixed effect, with random effects on top."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_directory import Rows, make_run, walk
from scipy.special import expit
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.tree import DecisionTreeRegressor

from gdmix_core.pipeline.run import Run

DOCS = Path(__file__).resolve().parents[3] / "docs"
FEATURES = 6


@pytest.fixture(autouse=True)
def examples_are_importable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(DOCS / "examples"))


def rows_of(rows: int, seed: int, offset: bool = True) -> Rows:
    rng, truth = np.random.default_rng(seed), np.random.default_rng(99)
    x = rng.normal(size=(rows, FEATURES)).astype(np.float32)
    user = rng.integers(0, 10, rows)
    start = rng.normal(size=rows) if offset else np.zeros(rows)
    margin = 2 * np.sign(x[:, 0] * x[:, 1]) + 1.5 * truth.normal(size=10)[user] + start
    label = (rng.random(rows) < expit(margin)).astype(float)
    return Rows(label, rng.choice([0.5, 2.0], rows), start, ids={"user": user}, bags={"global": x})


def run_of(root: Path, training: Rows, validation: Rows | None = None, passes: int = 1, **settings: Any) -> Run:
    effect = {"model": "python", "function": "boosted_trees:train", "bags": ["global"], "settings": settings}
    coordinates = {"global": {"fixed_effect": effect}, "per_user": {"random_effect": {"entity": "user", "shards": 2}}}
    config = {"coordinates": coordinates, "passes": {"max": passes}, "metrics": ["logloss"]}
    return make_run(root, config, training, validation)


def test_the_page_quotes_the_module_that_is_tested():
    assert (DOCS / "examples" / "boosted_trees.py").read_text() in (DOCS / "external.md").read_text()


def test_without_offsets_it_is_scikit_learns_own(tmp_path: Path):
    rows = rows_of(400, 0, offset=False)
    settings = {"n_estimators": 15, "max_depth": 2}
    run = run_of(tmp_path, rows, rows_of(100, 1, offset=False), **settings)
    walk(run, "pass_01.global.evaluate")
    own = GradientBoostingClassifier(init="zero", random_state=0, **settings)
    own.fit(rows.bags["global"], rows.label, rows.weight)
    scores = np.load(run.scores(1, "global", "training"))
    np.testing.assert_allclose(scores, own.decision_function(rows.bags["global"]), rtol=1e-5, atol=1e-6)
    # Of two splits of the training rows that are as good as each other, another seed may take the other.
    scores = np.load(run.scores(1, "global", "validation"))
    same = np.isclose(scores, own.decision_function(rows_of(100, 1).bags["global"]), rtol=1e-5, atol=1e-6)
    assert same.mean() > 0.95


def test_a_tree_is_grown_on_what_the_offset_leaves(tmp_path: Path):
    rows = rows_of(400, 0)
    run = run_of(tmp_path, rows, n_estimators=1, learning_rate=1.0, max_depth=2)
    walk(run, "pass_01.global.evaluate")
    x, y, weight = (np.asarray(part) for part in (rows.bags["global"], rows.label, rows.weight))
    p = expit(np.asarray(rows.offset))
    tree = DecisionTreeRegressor(max_depth=2, random_state=0)
    leaf = tree.fit(x, y - p, weight).apply(x)
    expected = np.zeros(len(y))
    for number in np.unique(leaf):  # one Newton step a leaf
        inside = leaf == number
        gradient = np.sum(weight[inside] * (y - p)[inside])
        expected[inside] = gradient / np.sum(weight[inside] * (p * (1 - p))[inside])
    np.testing.assert_allclose(np.load(run.scores(1, "global", "training")), expected, rtol=1e-4, atol=1e-5)


def test_two_passes_find_what_neither_part_finds_alone(tmp_path: Path):
    training, validation = rows_of(1500, 0), rows_of(1000, 1)
    run = run_of(tmp_path, training, validation, passes=2, n_estimators=30, max_depth=3)
    walk(run, "export")
    loss = {
        step.id: run.result(step.id)["metrics"]["validation"]["logloss"]
        for step in run.plan.steps
        if step.kind == "evaluate"
    }
    assert loss["pass_01.global.evaluate"] > loss["pass_01.per_user.evaluate"] + 0.03
    margin = np.asarray(validation.offset, float)
    alone = np.mean(np.logaddexp(0, -margin * np.where(validation.label, 1, -1)))
    assert loss["pass_01.global.evaluate"] < alone - 0.03
    # What is exported scores as the run did.
    import boosted_trees
    import joblib

    trees = joblib.load(run.path("export", "global", "files", "trees.joblib"))
    scores = boosted_trees.score(trees, validation.bags["global"])
    best = run.result("select")["pass"]
    np.testing.assert_allclose(np.load(run.scores(best, "global", "validation")), scores, rtol=1e-5, atol=1e-6)
