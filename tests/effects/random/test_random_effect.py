"""A random effect over a run's shards: the models of every entity, scores of every row, counts, and starting again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_directory import Rows, make_run
from scipy import optimize

from gdmix_core import storage, training_context
from gdmix_core.data import shards
from gdmix_core.data.frame import Frame
from gdmix_core.data.hashing import hash_ids
from gdmix_core.data.shard_groups import balance_shards, group_shards
from gdmix_core.effects.random import shard, shard_markers, training
from gdmix_core.errors import StepError
from gdmix_core.evaluation.evaluate import evaluate
from gdmix_core.models.native import read_model
from gdmix_core.models.table import CoefficientTable
from gdmix_core.pipeline.run import Run
from gdmix_core.training_context import TrainingContext

FEATURES = 5
TRAIN = "pass_01.per_user.train"


def make_rows(count: int, *, seed: int = 0, text: bool = False, users: int = 15) -> Rows:
    """User 0 has a third of all rows."""
    rng = np.random.default_rng(seed)
    user = np.where(rng.random(count) < 1 / 3, 0, rng.integers(0, users, count)) * 11 - 5
    X = rng.normal(size=(count, FEATURES)) * (rng.random((count, FEATURES)) < 0.6)
    label = (rng.random(count) < 1 / (1 + np.exp(-X.sum(axis=1)))).astype(float)
    ids: Any = [f"user {u}" for u in user] if text else user
    weight, offset = rng.choice([0.5, 1, 2], count), rng.normal(size=count)
    return Rows(label, weight, offset, ids={"user_id": ids}, bags={"per_user": X})


def coordinates(**effect: Any) -> dict[str, Any]:
    settings = {"random_effect": {"entity": "user_id", "shards": 3, **effect}, "bag": "per_user", "l2": 0.5}
    return {"coordinates": {"per_user": {**settings, "regularize_intercept": True}}, "metrics": ["logloss"]}


def trained(root: Path, rows: Rows, validation: Rows | None = None, *, processes: int = 1, **effect: Any) -> Run:
    config = {**coordinates(**effect), "engine": {"local": {"processes": processes}}}
    run = make_run(root, config, rows, validation, rows_per_block=70)
    training.train(TrainingContext(run, run.plan[TRAIN]))
    return run


def models(run: Run, pass_number: int = 1) -> dict[Any, tuple[list[int], list[float]]]:
    count = run.result("partition")["coordinates"]["per_user"]["shards"]
    found: dict[Any, tuple[list[int], list[float]]] = {}
    for number in range(count):
        table = read_model(run.model(pass_number, "per_user", number))
        for e, entity in enumerate(table.entities.to_pylist()):
            assert entity not in found, "an entity lies in two shards"
            span = slice(table.offsets[e], table.offsets[e + 1])
            found[entity] = (table.features[span].tolist(), table.means[span].tolist())
    return found


def optimum(rows: Rows, chosen: np.ndarray, factor: float = 1.0, l2: float = 0.5) -> np.ndarray:
    """SciPy's coefficients of the chosen rows, intercept first, all features."""
    X = np.hstack([np.ones((len(chosen), 1)), np.asarray(rows.bags["per_user"])[chosen]])
    y, offset = np.asarray(rows.label)[chosen], np.asarray(rows.offset)[chosen]
    weight = np.asarray(rows.weight)[chosen] * factor

    def value(w: np.ndarray) -> tuple[float, np.ndarray]:
        z = X @ w + offset
        slope = weight * (1 / (1 + np.exp(-z)) - y)
        return float(weight @ (np.logaddexp(0, z) - y * z) + 0.5 * l2 * w @ w), X.T @ slope + l2 * w

    options = {"ftol": 1e-15, "gtol": 1e-9, "maxiter": 5000}
    return np.asarray(optimize.minimize(value, np.zeros(X.shape[1]), jac=True, method="L-BFGS-B", options=options).x)


def scores_of(run: Run, split: str) -> np.ndarray:
    step = run.plan["pass_01.per_user.evaluate"]
    evaluate(run, step)
    return np.asarray(storage.read_array(run.scores(1, "per_user", split)))


def assert_same_model(found: tuple[list[int], list[float]], expected: np.ndarray) -> None:
    features, means = found
    full = np.zeros(len(expected))
    full[np.array(features) + 1] = means
    assert full == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("text", [False, True])
def test_models_are_scipys_and_scores_are_theirs(tmp_path: Path, text):
    rows, validation = make_rows(400, text=text), make_rows(90, seed=1, text=text, users=18)
    run = trained(tmp_path, rows, validation)
    found = models(run)
    users = np.array(rows.ids["user_id"])
    assert set(found) == set(users.tolist())
    coefficients = {}
    for user in found:
        chosen = np.flatnonzero(users == user)
        coefficients[user] = optimum(rows, chosen)
        assert_same_model(found[user], coefficients[user])
    for split, data in (("training", rows), ("validation", validation)):
        ids = np.array(data.ids["user_id"]).tolist()
        X = np.hstack([np.ones((len(ids), 1)), np.asarray(data.bags["per_user"])])
        expected = [X[i] @ coefficients[u] if u in coefficients else 0.0 for i, u in enumerate(ids)]
        assert scores_of(run, split) == pytest.approx(np.array(expected), abs=1e-4), split
    unseen = [i for i, u in enumerate(np.array(validation.ids["user_id"]).tolist()) if u not in coefficients]
    assert unseen
    assert not scores_of(run, "validation")[unseen].any()


@pytest.mark.slow
def test_most_rows_beyond_the_cap_are_scored_but_not_trained_on(tmp_path: Path):
    rows = make_rows(400)
    run = trained(tmp_path, rows, samples={"max": 30})
    found, users = models(run), np.array(rows.ids["user_id"])
    uids = np.arange(400)
    import pyarrow as pa

    rank = hash_ids(pa.array(uids)).view(np.int64)
    for user, model in found.items():
        own = np.flatnonzero(users == user)
        kept = own[np.argsort(rank[own])][:30]
        assert_same_model(model, optimum(rows, kept, factor=len(own) / len(kept)))
    scores = scores_of(run, "training")
    assert len(scores) == 400
    assert np.count_nonzero(scores[users == -5]) > 100  # of user 0, far more than 30
    totals = run.result("partition")["coordinates"]["per_user"]["totals"]["training"]
    counts = np.unique(users, return_counts=True)[1]
    assert totals["active_rows"] == np.minimum(counts, 30).sum()
    assert totals["largest_entity"] == counts.max()


def test_entities_below_the_minimum_have_no_model_and_score_0(tmp_path: Path):
    rows = make_rows(400)
    run = trained(tmp_path, rows, samples={"min": 20})
    users, counts = np.unique(rows.ids["user_id"], return_counts=True)
    small = set(users[counts < 20].tolist())
    assert small
    assert len(small) < len(users)
    found = models(run)
    assert {user for user, (features, _) in found.items() if not features} == small
    scores = scores_of(run, "training")
    is_small = np.isin(rows.ids["user_id"], list(small))
    assert not scores[is_small].any()
    assert scores[~is_small].all()
    result = run.result(TRAIN)
    assert (result["no_data"], result["converged"]) == (len(small), len(users) - len(small))


@pytest.mark.parametrize("text", [False, True])
def test_more_shards_than_entities(tmp_path: Path, text):
    """Empty shards, and shards whose entities occur in validation only."""
    rows, validation = make_rows(60, text=text, users=3), make_rows(80, seed=3, text=text, users=40)
    run = trained(tmp_path, rows, validation, shards=16)
    users = set(np.array(rows.ids["user_id"]).tolist())
    assert set(models(run)) == users
    for number in range(16):
        assert read_model(run.model(1, "per_user", number)).entities.type == ("string" if text else "int64")
    ids = np.array(validation.ids["user_id"]).tolist()
    assert not scores_of(run, "validation")[[i for i, u in enumerate(ids) if u not in users]].any()


def test_an_intercept_only_effect(tmp_path: Path):
    rows = make_rows(300)
    config = coordinates()
    del config["coordinates"]["per_user"]["bag"]
    run = make_run(tmp_path, config, rows, rows_per_block=70)
    training.train(TrainingContext(run, run.plan[TRAIN]))
    bare = Rows(rows.label, rows.weight, rows.offset, bags={"per_user": np.zeros((300, 0))})
    for user, model in models(run).items():
        assert model[0] == [-1]
        assert_same_model(model, optimum(bare, np.flatnonzero(np.array(rows.ids["user_id"]) == user)))


# The same result however the work is cut


def files_of(run: Run, *parts: str) -> dict[str, bytes]:
    root = Path(run.path(*parts))
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_processes_threads_and_chunks_change_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rows, validation = make_rows(500), make_rows(100, seed=4)
    runs = [trained(tmp_path / "one", rows, validation)]
    runs.append(trained(tmp_path / "two", rows, validation, processes=2))
    monkeypatch.setattr(shards, "_BATCH_ROWS", 16)
    monkeypatch.setattr(training_context, "ROWS_AT_A_TIME", 20)
    monkeypatch.setattr(shard, "PIECES", 5)
    runs.append(trained(tmp_path / "small", rows, validation))
    for run in runs:
        scores_of(run, "training")
    first, *others = (files_of(run, "passes") for run in runs)
    assert any(name.endswith("metrics.json") for name in first)
    for other in others:
        assert first == other


def test_the_number_of_shards_changes_no_coefficient_and_no_score(tmp_path: Path):
    rows, validation = make_rows(400), make_rows(100, seed=4)
    few, many = (trained(tmp_path / str(n), rows, validation, shards=n) for n in (1, 7))
    assert models(few) == models(many)
    for split in ("training", "validation"):
        assert np.array_equal(scores_of(few, split), scores_of(many, split))
    assert few.result("pass_01.per_user.evaluate")["metrics"] == many.result("pass_01.per_user.evaluate")["metrics"]


def test_the_order_of_shard_rows_of_another_block_size_is_the_same(tmp_path: Path):
    rows = make_rows(300)
    runs = []
    for size in (40, 1000):
        run = make_run(tmp_path / str(size), coordinates(samples={"max": 25}), rows, rows_per_block=size)
        training.train(TrainingContext(run, run.plan[TRAIN]))
        runs.append(run)
    assert models(runs[0]) == models(runs[1])


# Starting again


def stamps(run: Run) -> dict[str, int]:
    return {p.name: p.stat().st_mtime_ns for p in Path(run.coordinate(1, "per_user", "model")).glob("shard-*")}


def test_shards_that_are_done_are_not_trained_again(tmp_path: Path):
    run = trained(tmp_path, make_rows(300))
    before = stamps(run)
    Path(shard_markers.shard_marker(TrainingContext(run, run.plan[TRAIN]), 1)).unlink()
    again = Run.open(run.root)
    training.train(TrainingContext(again, again.plan[TRAIN]))
    after = stamps(run)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"shard-00001.parquet", "shard-00001.json"}


def test_a_group_trains_its_own_shards_and_the_last_one_commits(tmp_path: Path):
    config = coordinates(shards=5, groups=2, rows_per_group=100)
    run = make_run(tmp_path, config, make_rows(300))
    step = run.plan[TRAIN]
    groups = group_shards(TrainingContext(run, step).partition, run.config.coordinates["per_user"].random_effect)
    assert training.train(TrainingContext(run, step), group=1)["shards"] == len(groups[1])
    assert not run.is_done(step)
    assert training.train(TrainingContext(run, step), group=0)["shards"] == len(groups[0])
    assert run.is_done(step)
    assert run.result(TRAIN)["shards"] == 5


def with_l2(run: Run, l2: float) -> Run:
    content = run.config.model_dump(mode="json", exclude_none=True)
    content["coordinates"]["per_user"]["l2"] = l2
    return Run.create(type(run.config).model_validate(content))


def test_a_changed_setting_trains_again_and_changing_back_gives_the_first_models(tmp_path: Path):
    run = trained(tmp_path, make_rows(300), make_rows(50, seed=2))
    scores_of(run, "training")
    first = files_of(run, "passes")
    other = with_l2(run, 3.0)
    training.train(TrainingContext(other, other.plan[TRAIN]))
    scores_of(other, "training")
    assert (
        files_of(other, "passes")["01/per_user/model/shard-00000.parquet"]
        != first["01/per_user/model/shard-00000.parquet"]
    )
    back = with_l2(run, 0.5)
    training.train(TrainingContext(back, back.plan[TRAIN]))
    scores_of(back, "training")
    assert files_of(back, "passes") == first


def test_a_shard_killed_under_another_setting_is_not_taken_for_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Between a shard's new model and its marker: the old marker must not vouch for the new model."""
    run = trained(tmp_path, make_rows(300), make_rows(50, seed=2))
    scores_of(run, "training")
    first = files_of(run, "passes")
    other = with_l2(run, 3.0)

    def killed(path: str, table: CoefficientTable) -> None:
        from gdmix_core.models.native import write_model

        write_model(path, table)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shard, "write_model", killed)
        with pytest.raises(KeyboardInterrupt):
            training.train(TrainingContext(other, other.plan[TRAIN]))
    back = with_l2(run, 0.5)
    training.train(TrainingContext(back, back.plan[TRAIN]))
    scores_of(back, "training")
    found = files_of(back, "passes")
    assert {name: found.get(name) for name in first} == first


def test_parts_left_of_another_number_of_shards_do_no_harm(tmp_path: Path):
    rows = make_rows(300)
    run = trained(tmp_path, rows, shards=6)  # its scores are never brought together
    again = make_run(tmp_path, coordinates(shards=2), rows, rows_per_block=70)
    shutil.rmtree(again.path("shards", "per_user"))
    again = make_run(tmp_path, coordinates(shards=2), rows, rows_per_block=70)
    training.train(TrainingContext(again, again.plan[TRAIN]))
    fresh = trained(tmp_path / "fresh", rows, shards=2)
    assert run.root == again.root
    assert np.array_equal(scores_of(again, "training"), scores_of(fresh, "training"))


def kill_when(pattern: str, found: list[int], stop: threading.Event) -> None:
    """SIGKILLs the first child of this process whose command line holds the pattern."""
    while not stop.is_set():
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                if parent == os.getpid() and pattern in (entry / "cmdline").read_text():
                    os.kill(int(entry.name), signal.SIGKILL)
                    found.append(int(entry.name))
                    return
            except (OSError, IndexError):
                continue
        time.sleep(0.005)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_killed_worker_is_named_and_a_new_run_completes_as_if_undisturbed(tmp_path: Path):
    rows = make_rows(300)
    config = {**coordinates(), "engine": {"local": {"processes": 2}}}
    run = make_run(tmp_path / "killed", config, rows, rows_per_block=70)
    killed: list[int] = []
    stop = threading.Event()
    watcher = threading.Thread(target=kill_when, args=("random.worker", killed, stop))
    watcher.start()
    try:
        with pytest.raises(StepError, match=r"pass_01\.per_user\.train: .*worker \d: killed by SIGKILL"):
            training.train(TrainingContext(run, run.plan[TRAIN]))
    finally:
        stop.set()
        watcher.join()
    assert killed
    assert not run.is_done(run.plan[TRAIN])
    again = Run.open(run.root)
    training.train(TrainingContext(again, again.plan[TRAIN]))
    fresh = trained(tmp_path / "fresh", rows)
    scores_of(again, "training")
    scores_of(fresh, "training")
    assert files_of(again, "passes") == files_of(fresh, "passes")


def test_an_error_in_a_worker_reaches_the_caller(tmp_path: Path):
    config = {**coordinates(), "engine": {"local": {"processes": 2}}}
    run = make_run(tmp_path, config, make_rows(300), rows_per_block=70)
    shard = Path(run.shard("per_user", "training", 1))
    shard.write_bytes(b"PAR1 is all that is left".ljust(shard.stat().st_size))
    with pytest.raises(StepError, match=r"shard-00001\.parquet"):
        training.train(TrainingContext(run, run.plan[TRAIN]))


def test_the_iteration_limit_is_counted(tmp_path: Path):
    run = trained(tmp_path, make_rows(300), max_iterations=1)
    result = run.result(TRAIN)
    assert result["iteration_limit"] == result["entities"] == len(models(run))
    assert result["converged"] == 0


def test_worker_needs_no_standard_input(tmp_path: Path):
    """Airflow's tasks have a socket there: a worker process must run without."""
    run = make_run(tmp_path, coordinates(), make_rows(100), rows_per_block=70)
    worker = [sys.executable, "-m", "gdmix_core.effects.random.worker"]
    done = subprocess.run(
        [*worker, "--run", run.root, "--step", TRAIN, "--shards", "0,2"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ['{"shard": 0}', '{"shard": 2}']
    assert [shard_markers.is_shard_done(TrainingContext(run, run.plan[TRAIN]), n) for n in range(3)] == [
        True,
        False,
        True,
    ]


def test_spread_gives_every_shard_once_and_the_largest_first():
    rows = {0: 10, 1: 500, 2: 20, 3: 490, 4: 0}
    parts = balance_shards([0, 1, 2, 3, 4], rows, 2)
    assert sorted(number for part in parts for number in part) == [0, 1, 2, 3, 4]
    assert {part[0] for part in parts} == {1, 3}


def test_frame_and_shards_hold_the_same_rows(tmp_path: Path):
    """Every frame row lies in exactly one shard, all rows of an entity in one, sorted by entity."""
    import pyarrow.parquet as pq

    run = make_run(tmp_path, coordinates(), make_rows(300), rows_per_block=70)
    frame, seen, homes = Frame(run), [], {}
    for number in range(3):
        table = pq.read_table(run.shard("per_user", "training", number))
        entities = table["entity"].to_pylist()
        assert entities == sorted(entities)
        for entity in set(entities):
            assert homes.setdefault(entity, number) == number
        seen += table["row"].to_pylist()
    assert sorted(seen) == list(range(frame.rows("training")))
