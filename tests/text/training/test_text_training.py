"""Training of text networks in this process: batches, offsets, judgement, checkpoints, scores."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import tensorflow as tf
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from gdmix_core import storage
from gdmix_core.data.frame import Frame
from gdmix_core.errors import DataError
from gdmix_core.evaluation.evaluate import group_codes
from gdmix_core.pipeline.run import SPLITS, Run
from gdmix_core.text import network_rows
from gdmix_core.text.network.network import TextNetwork
from gdmix_core.text.network_inputs import NetworkInputs
from gdmix_core.text.network_rows import RowReader
from gdmix_core.text.training import loop, row_scores
from gdmix_core.text.training.losses import loss_sums
from gdmix_core.text.training.row_order import OrderOfGroups
from gdmix_core.text.training.train_step import as_tensors
from gdmix_core.text.training.worker import train_and_score
from gdmix_core.training_context import TrainingContext
from gdmix_core.workers import processes
from gdmix_core.workers.all_reduce import SingleWorker
from tests.run_directory import Rows
from tests.text.text_runs import EVERYTHING, STEP, scores, text_rows, text_run

pytestmark = pytest.mark.tensorflow


def train(run: Run, step_id: str = STEP) -> dict[str, Any]:
    return train_and_score(TrainingContext(run, run.plan[step_id]), SingleWorker())


def trained_network(run: Run, step_id: str = STEP) -> TextNetwork:
    step = run.plan[step_id]
    with storage.open_for_read(TrainingContext(run, step).model_file("network_inputs.json")) as file:
        network = TextNetwork(run.config.coordinates["global"].text, NetworkInputs.from_json(file.read().decode()))
    network.weights.load(TrainingContext(run, step).model_file("weights.npz"))
    return network


def test_every_row_is_scored_in_order_as_the_saved_model_scores_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Neither divides the rows, the blocks or the row groups.
    monkeypatch.setattr(network_rows, "ROWS_AT_A_TIME", 37)
    monkeypatch.setattr(row_scores, "_BATCH", 10)
    splits = {"training": text_rows(503, 1), "validation": text_rows(211, 2)}
    run = text_run(tmp_path, splits["training"], splits["validation"], **EVERYTHING, epochs=1, tensorboard=True)
    result = train(run)
    model = tf.saved_model.load(TrainingContext(run, run.plan[STEP]).model_file("saved_model"))
    for split, rows in splits.items():
        tags = sp.csr_matrix(rows.bags["tags"])
        longest = int(np.diff(tags.indptr).max())
        indices, values = np.full((len(rows), longest), -1), np.zeros((len(rows), longest), np.float32)
        places = np.arange(tags.nnz) - np.repeat(tags.indptr[:-1], np.diff(tags.indptr))
        of_rows = np.repeat(np.arange(len(rows)), np.diff(tags.indptr))
        indices[of_rows, places], values[of_rows, places] = tags.indices, tags.data
        expected = model.signatures["serving_default"](
            title=tf.constant(rows.ids["title"]),
            user=tf.constant(rows.ids["user"]),
            context=tf.constant(rows.bags["context"]),
            tags_indices=tf.constant(indices, tf.int64),
            tags_values=tf.constant(values),
        )["score"]
        found = scores(run, split)
        assert len(found) == len(rows)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    margin = splits["validation"].offset + scores(run, "validation")  # type: ignore[operator]
    weights = splits["validation"].weight
    assert result["best_value"] == pytest.approx(
        roc_auc_score(splits["validation"].label, margin, sample_weight=weights), abs=1e-6
    )
    assert result["steps"] == 8  # the last batch, of 503 − 7 · 64 rows, is one of them
    events = storage.list_files(TrainingContext(run, run.plan[STEP]).model_file("tensorboard"))
    assert len(events) == 1


def test_the_loss_is_that_of_all_rows_at_the_first_weights(tmp_path: Path) -> None:
    """With a learning rate of nearly 0 the mean training loss is Σ w · loss / Σ w at the offset plus the score."""
    rows = text_rows(150, 3)
    run = text_run(tmp_path, rows, epochs=1, optimizer={"learning_rate": 1e-20, "name": "sgd"})
    point = train(run)["curve"][0]
    z = rows.offset + scores(run, "training")
    loss = np.average(np.logaddexp(0, z) - rows.label * z, weights=rows.weight)
    assert point["loss"] == pytest.approx(loss, rel=1e-5)


SIZES = {"training": 150, "validation": 70}


def run_of_two_passes(root: Path, offsets: dict[str, Any], others: dict[str, Any], **settings: Any) -> Run:
    """Before its second pass; others: the scores of the random effect."""
    data = [text_rows(n, n, offset=offsets[split]) for split, n in SIZES.items()]
    per_user = {"random_effect": {"entity": "user", "shards": 1}}
    run = text_run(root, *data, {"passes": {"max": 2}}, {"per_user": per_user}, epochs=1, **settings)
    for split in SIZES:
        storage.write_array(run.scores(1, "per_user", split), others[split])
    return run


def test_a_later_pass_adds_the_scores_of_the_others_and_starts_from_the_weights_before(tmp_path: Path) -> None:
    zeros = {split: np.zeros(n, np.float32) for split, n in SIZES.items()}
    others = {split: 2 * np.random.default_rng(n).normal(size=n).astype(np.float32) for split, n in SIZES.items()}
    of_scores = run_of_two_passes(tmp_path / "scores", zeros, others)
    train(of_scores)
    first = Path(of_scores.coordinate(1, "global"))
    of_data = run_of_two_passes(tmp_path / "data", others, zeros)
    shutil.copytree(first, of_data.coordinate(1, "global"))
    # What the others score is the same to it as an offset in the data, to the bit.
    results = [without_times(train(run, "pass_02.global.train")) for run in (of_scores, of_data)]
    assert results[0] == results[1]
    np.testing.assert_array_equal(*(scores(run, "training", number=2) for run in (of_scores, of_data)))
    assert not np.allclose(scores(of_scores, "training", number=2), scores(of_scores, "training"), atol=1e-3)
    still = {"optimizer": {"learning_rate": 1e-20, "name": "sgd"}}
    stays = run_of_two_passes(tmp_path / "stays", zeros, others, **still)
    shutil.copytree(first, stays.coordinate(1, "global"))
    assert train(stays, "pass_02.global.train")["best_step"] == 0
    np.testing.assert_array_equal(scores(stays, "training", number=2), scores(of_scores, "training"))


def test_where_offsets_say_all_there_is_little_to_learn(tmp_path: Path) -> None:
    """Labels of the offset alone: given it, scores stay near 0; without it they have to take its place."""
    offset = np.full(400, 3.0)
    label = (np.random.default_rng(0).random(400) < 1 / (1 + np.exp(-offset))).astype(float)
    means = []
    for given in (offset, np.zeros(400)):
        run = text_run(tmp_path / str(given[0]), text_rows(400, 13, label=label, offset=given), epochs=8)
        train(run)
        means.append(float(np.mean(scores(run, "training"))))
    assert abs(means[0]) < 0.5
    assert means[1] > 2.0


def test_early_stopping_keeps_the_best_weights(tmp_path: Path) -> None:
    """Few rows and many steps: validation gets worse while the training loss falls."""
    validation = text_rows(300, 5)
    options = {"epochs": 60, "patience": 3, "evaluations": 2, "optimizer": {"learning_rate": 0.05, "decay": "none"}}
    run = text_run(tmp_path, text_rows(120, 4), validation, {"metrics": ["logloss"]}, **options)
    result = train(run)
    values = [point["metric"] for point in result["curve"]]
    best = int(np.argmin(values))
    assert len(values) == best + 1 + 3
    assert result["stopped_early"]
    assert (result["best_value"], result["best_step"]) == (values[best], result["curve"][best]["step"])
    z = validation.offset + scores(run, "validation")
    loss = np.average(np.logaddexp(0, z) - validation.label * z, weights=validation.weight)
    assert loss == pytest.approx(values[best], rel=1e-5)


class Killed(BaseException):
    pass


def test_a_killed_step_goes_on_as_if_nothing_had_happened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"hidden": [8], "dropout": 0.4, "evaluations": 2, "epochs": 4}
    data = text_rows(301, 6), text_rows(100, 7)
    undisturbed = text_run(tmp_path / "whole", *data, **options)
    expected = train(undisturbed)
    run = text_run(tmp_path / "killed", *data, **options)
    for at in (5, 13):  # in the middle of an epoch and at the end of one

        def kill(event: processes.Event, at: int = at) -> None:
            if event["steps"] >= at:
                raise Killed

        monkeypatch.setattr(processes, "send", kill)
        with pytest.raises(Killed):
            train(run)
    monkeypatch.setattr(processes, "send", lambda event: None)
    found = train(run)
    assert without_times(found) == without_times(expected)
    for split in SPLITS:
        np.testing.assert_array_equal(scores(run, split), scores(undisturbed, split))


def without_times(result: dict[str, Any]) -> dict[str, Any]:
    curve = [{k: v for k, v in point.items() if k != "rows_per_second"} for point in result["curve"]]
    return {k: v for k, v in result.items() if k != "rows_per_second"} | {"curve": curve}


def grouped_rows(n: int, seed: int) -> Rows:
    """Rows of the same search lie far apart: every 40th row is one."""
    rows = text_rows(n, seed)
    rows.ids = {**rows.ids, "search": [f"s{number % 40}" for number in range(n)]}
    return rows


def test_workers_hold_whole_groups_and_their_sums_are_those_of_one(tmp_path: Path) -> None:
    config = {"metrics": ["ndcg@5:search"]}
    run = text_run(
        tmp_path, grouped_rows(450, 8), grouped_rows(200, 9), config, loss="pairwise", group="search", epochs=2
    )
    result = train(run)
    assert result["curve"][1]["loss"] < result["curve"][0]["loss"]
    codes = group_codes(Frame(run), "training", "search")
    network = trained_network(run)
    reader = RowReader(TrainingContext(run, run.plan[STEP]), network)

    def sums(workers: int) -> NDArray[np.float64]:
        """[steps, 2] of an epoch, added up over the workers."""
        total = np.zeros((8, 2))
        for rank in range(workers):
            order = OrderOfGroups(codes, rank, workers, 64, seed=3)
            rows = reader.read("training", order.rows, codes)
            order.begin(1)
            assert order.steps == 8
            for number in range(8):
                own = order.own(number)
                batch, targets = as_tensors(rows.batch(own)), as_tensors(rows.targets(own))
                parts = loss_sums(
                    network.settings, run.config.task, network(batch, training=False),
                    targets["label"], targets["weight"], targets["offset"], targets["group"],
                )  # fmt: skip
                total[number] += [float(part) for part in parts]
        return total

    assert np.all(sums(1)[:, 1] > 0)
    np.testing.assert_allclose(sums(3), sums(1), rtol=1e-4)


def test_a_metric_that_is_undefined_stops_nothing(tmp_path: Path) -> None:
    validation = text_rows(40, 10, label=np.ones(40))
    result = train(text_run(tmp_path, text_rows(130, 11), validation, epochs=4, patience=1))
    assert [point["metric"] for point in result["curve"]] == [None] * 4
    assert (result["best_value"], result["best_step"], result["steps"]) == (None, 12, 12)


def test_a_listwise_loss_refuses_labels_that_are_no_shares(tmp_path: Path) -> None:
    """With labels below 0 its denominator may be, too, and it would be made larger."""
    rows = text_rows(40, 13, label=np.linspace(-1.0, 1.0, 40))
    rows.ids = {**rows.ids, "search": [f"s{number // 4}" for number in range(40)]}
    config = {"task": "linear_regression", "passes": {"max": 1}}
    run = text_run(tmp_path, rows, config=config, loss="listwise", group="search")
    with pytest.raises(DataError, match=r"coordinate global: loss listwise takes labels .* has -1; use labels of 0"):
        train(run)


def test_groups_in_which_nothing_ranks_above_anything_are_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such batches have no weight, also when progress is told before there was an evaluation."""
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_REPORTS", -1.0)
    rows = text_rows(40, 13, label=np.zeros(40))
    rows.ids = {**rows.ids, "search": [f"s{number // 4}" for number in range(40)]}
    single = {"passes": {"max": 1}, "metrics": ["ndcg@3:search"]}
    ranking = {"loss": "listwise", "group": "search"}
    result = train(text_run(tmp_path, rows, config=single, batch=8, epochs=1, evaluations=5, **ranking))
    assert (result["best_value"], result["curve"][0]["loss"], result["steps"]) == (None, 0.0, 5)
    # The first batch is not timed.
    assert [point["rows_per_second"] is None for point in result["curve"]] == [True] + [False] * 4


@pytest.mark.parametrize("task", ["multiclass_classification", "multilabel_classification"])
def test_scores_of_classes(tmp_path: Path, task: str) -> None:
    several = task == "multilabel_classification"
    rows = text_rows(203, 12)
    topics = np.stack([np.char.count(rows.ids["title"], word) > 0 for word in ("good", "bad", "old")], axis=1)
    config: dict[str, Any] = {"task": task} | ({"columns": {"label": "topics"}} if several else {"classes": 3})
    rows.label = topics.sum(axis=1) if several else np.argmax(topics, axis=1)
    if several:
        rows.bags = {**rows.bags, "topics": topics.astype(np.float32)}
    run = text_run(
        tmp_path,
        rows,
        None,
        config,
        epochs=12,
        optimizer={"learning_rate": 0.05},
        encoder={"filters": 16, "windows": [1]},
    )
    if several:
        run.commit(run.plan["validate"], run.result("validate") | {"label_bag": "topics"})
    result = train(run)
    found = scores(run, "training")
    assert found.shape == (203, 3)
    right = ((found > 0) == topics).mean() if several else (np.argmax(found, axis=1) == rows.label).mean()
    assert right > 0.95
    assert result["best_value"] > 0.95
