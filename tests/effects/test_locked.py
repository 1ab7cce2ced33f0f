"""Locked coordinates end to end: taken from an earlier run, scored, seen by the others, exported, never trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from run_directory import Rows, make_run
from scipy import optimize

from gdmix_core import storage
from gdmix_core.data.feature_list import Feature, read_feature_list
from gdmix_core.execution import dispatch
from gdmix_core.execution.local_run import metrics_table
from gdmix_core.models.native import read_model
from gdmix_core.pipeline.run import Run

COORDINATES: dict[str, Any] = {
    "per_user": {"random_effect": {"entity": "user_id", "shards": 3, "groups": 2}, "bag": "user", "l2": 0.5},
    "global": {"fixed_effect": {}, "bag": "global", "l2": 0.5},
    "per_item": {"random_effect": {"entity": "item_id", "shards": 2}, "l2": 2.0, "regularize_intercept": True},
}
NAMES: dict[str, list[Feature]] = {
    "user": [("x", ""), ("y", "")],
    "global": [("a", ""), ("b", ""), ("c", "")],
}
PERMUTED: dict[str, list[Feature]] = {
    "user": [("y", ""), ("new", ""), ("x", "")],
    "global": [("c", ""), ("a", ""), ("other", "")],
}


def make_rows(count: int, names: dict[str, list[Feature]], *, seed: int, users: int = 12) -> Rows:
    rng = np.random.default_rng(seed)
    ids = {"user_id": rng.integers(0, users, count), "item_id": rng.integers(0, 6, count)}
    bags = {bag: rng.normal(size=(count, len(listed))) for bag, listed in names.items()}
    z = bags["user"][:, 0] * (ids["user_id"] % 3 - 1) + bags["global"][:, 0] + 0.3 * (ids["item_id"] - 2)
    label = (rng.random(count) < 1 / (1 + np.exp(-z))).astype(float)
    return Rows(label, offset=rng.normal(0, 0.1, count), ids=ids, bags=bags)


def finish(run: Run, *, groups: int | None = None) -> Run:
    """Every step after partition. groups: a random effect's, one after another as Airflow's tasks."""
    skipped: set[int | None] = set()
    for step in run.plan.steps[2:]:
        if step.pass_number in skipped:
            continue
        for group in range(groups) if groups and step.kind == "train_random" else [None]:
            result = dispatch.execute(run, step, group=group)
        if step.kind == "gate" and not result["continue"]:
            skipped = set(range(step.pass_number or 0, 100))
    return run


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Run:
    config = {"coordinates": COORDINATES, "passes": {"max": 2}}
    return finish(make_run(tmp_path_factory.mktemp("old"), config, make_rows(300, NAMES, seed=0), feature_names=NAMES))


def new_run(root: Path, old: Run, locked: list[str], *, initial: Any = None, passes: int = 3) -> Run:
    effect = {"entity": "user_id", "shards": 4, "groups": 2}
    coordinates = {**COORDINATES, "per_user": {**COORDINATES["per_user"], "random_effect": effect}}
    coordinates = {name: {**c, "locked": name in locked} for name, c in coordinates.items()}
    config = {
        "coordinates": coordinates,
        "initial_model": {"path": old.root, **(initial or {})},
        "passes": {"max": passes},
        "metrics": ["logloss"],
    }
    training = make_rows(250, PERMUTED, seed=1, users=14)
    validation = make_rows(80, PERMUTED, seed=2, users=16)
    return make_run(root, config, training, validation, feature_names=PERMUTED, rows_per_block=60)


def coefficients(run: Run, name: str) -> dict[Any, dict[Any, float]]:
    """Entity → feature name ("" is the intercept) → mean, of the export."""
    folder = Path(run.path("export", name))
    listed = folder / "features.csv"
    names = [*(f[0] for f in read_feature_list(str(listed)).names), ""] if listed.exists() else [""]
    found = {}
    for path in folder.glob("*.parquet"):
        table = read_model(str(path))
        for e, entity in enumerate(table.entities.to_pylist()):
            span = range(table.offsets[e], table.offsets[e + 1])
            found[entity] = {names[table.features[s]]: float(table.means[s]) for s in span}
    return found


def expected_scores(models: dict[Any, dict[Any, float]], rows: Rows, bag: str | None, ids: Any) -> np.ndarray:
    names = [name for name, _ in PERMUTED[bag]] if bag else []
    matrix = np.asarray(rows.bags[bag]) if bag else np.empty((len(rows), 0))
    scores = []
    for entity, x in zip(ids, matrix, strict=True):
        model = models.get(entity, {})
        scores.append(model.get("", 0.0) + sum(model.get(n, 0.0) * v for n, v in zip(names, x, strict=True)))
    return np.array(scores)


@pytest.mark.parametrize("groups", [None, 2])
def test_locked_effects_are_scored_as_they_were_and_exported(tmp_path: Path, old: Run, groups):
    run = finish(new_run(tmp_path, old, ["per_user", "global"]), groups=groups)
    assert run.plan.passes == 1
    for name in ("per_user", "global"):
        assert coefficients(run, name) == coefficients(old, name)
        assert run.result(f"pass_01.{name}.train")["locked"]
    assert run.result("pass_01.per_user.train")["entities"] == 12
    splits = {
        "training": make_rows(250, PERMUTED, seed=1, users=14),
        "validation": make_rows(80, PERMUTED, seed=2, users=16),
    }
    for split, rows in splits.items():
        for name, bag, ids in (
            ("per_user", "user", np.asarray(rows.ids["user_id"]).tolist()),
            ("global", "global", ["global"] * len(rows)),
        ):
            found = storage.read_array(run.scores(1, name, split))
            assert found == pytest.approx(expected_scores(coefficients(old, name), rows, bag, ids), abs=1e-5)


def test_the_others_train_on_the_scores_of_locked_ones(tmp_path: Path, old: Run):
    """per_user stands before global in the configuration, per_item after it; all see the locked per_item."""
    run = finish(new_run(tmp_path, old, ["per_item", "per_user"]))
    rows = make_rows(250, PERMUTED, seed=1, users=14)
    users, items = (np.asarray(rows.ids[i]).tolist() for i in ("user_id", "item_id"))
    offset = np.asarray(rows.offset)
    offset = offset + expected_scores(coefficients(old, "per_user"), rows, "user", users)
    offset = offset + expected_scores(coefficients(old, "per_item"), rows, None, items)
    X = np.hstack([np.ones((len(rows), 1)), np.asarray(rows.bags["global"])])
    y = np.asarray(rows.label)

    def objective(w: np.ndarray) -> float:
        z = X @ w + offset
        return float(np.sum(np.logaddexp(0, z) - y * z) + 0.25 * w[1:] @ w[1:])

    best = optimize.minimize(objective, np.zeros(4), method="BFGS", options={"gtol": 1e-8}).x
    found = coefficients(run, "global")["global"]
    assert [found[n] for n in ("", "c", "a", "other")] == pytest.approx(best, abs=1e-4)


def test_later_passes_go_over_the_rest_and_everything_follows(tmp_path: Path, old: Run):
    run = finish(new_run(tmp_path, old, ["per_item"], passes=2))
    assert [step.coordinate for step in run.plan.of_pass(1)[::2]] == ["per_item", "per_user", "global"]
    best = run.result("select")
    assert best["passes"] == 2
    last = run.result(f"pass_0{best['pass']}.global.evaluate")
    assert best["metrics"] == last["metrics"]
    assert coefficients(run, "per_item") == coefficients(old, "per_item")
    assert not Path(run.path("passes", "02", "per_item")).exists()
    console = Console(width=100, record=True)
    console.print(metrics_table(run))
    shown = console.export_text()
    assert shown.count("per_item") == 1
    assert shown.count("global") == 2
    assert "global ★" in shown


def test_a_step_is_done_once_and_again_when_the_earlier_model_changes(tmp_path: Path, old: Run):
    run = finish(new_run(tmp_path, old, ["per_user", "global"]))
    files = [Path(run.model(1, name, 0)) for name in ("per_user", "global")]
    files += [Path(run.marker(run.plan[f"pass_01.{name}.train"])) for name in ("per_user", "global")]
    stamps = [file.stat().st_mtime_ns for file in files]
    finish(Run.open(run.root))
    assert [file.stat().st_mtime_ns for file in files] == stamps
    changed = Run.create(run.config.model_copy(update={"initial_model": run.config.initial_model.model_copy(
        update={"features_without_data": "drop"})}))  # fmt: skip
    finish(changed)
    assert coefficients(changed, "global")["global"].keys() == {"", "c", "a"}


def test_a_locked_models_entities_without_data_can_be_dropped(tmp_path: Path, old: Run):
    rows = make_rows(250, PERMUTED, seed=1, users=14)
    few = Rows(np.asarray(rows.label)[:9], ids={k: np.asarray(v)[:9] for k, v in rows.ids.items()},
               bags={k: np.asarray(v)[:9] for k, v in rows.bags.items()})  # fmt: skip
    config = new_run(tmp_path, old, ["per_user"], initial={"entities_without_data": "drop"}).config
    run = make_run(tmp_path, config.model_dump(exclude_none=True), few, rows, feature_names=PERMUTED)
    finish(run)
    present = set(np.asarray(few.ids["user_id"]).tolist()) & set(coefficients(old, "per_user"))
    assert 0 < len(present) < 9
    assert coefficients(run, "per_user").keys() == present
    absent = ~np.isin(np.asarray(rows.ids["user_id"]), sorted(present))
    assert not storage.read_array(run.scores(1, "per_user", "validation"))[absent].any()
