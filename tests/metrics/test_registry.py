"""Names of metrics: what is accepted, what is refused and with which words, and how values compare."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdmix_core.errors import ConfigError
from gdmix_core.metrics import all_rows, grouped, ranking
from gdmix_core.metrics.registry import DEFAULT_METRIC, Metric, parse_metric


@pytest.mark.parametrize(
    ("text", "metric", "name"),
    [
        ("auc", Metric("auc"), "auc"),
        (" LogLoss ", Metric("logloss"), "logloss"),
        ("RMSE", Metric("rmse"), "rmse"),
        ("mse", Metric("mse"), "mse"),
        ("poisson_loss", Metric("poisson_loss"), "poisson_loss"),
        ("smoothed_hinge", Metric("smoothed_hinge"), "smoothed_hinge"),
        ("AUC@userId", Metric("auc", "userId"), "auc@userId"),
        ("precision@10:user_id", Metric("precision", "user_id", 10), "precision@10:user_id"),
        ("NDCG@5:query", Metric("ndcg", "query", 5), "ndcg@5:query"),
        ("mrr@10:query", Metric("mrr", "query", 10), "mrr@10:query"),
        ("micro_f1", Metric("micro_f1"), "micro_f1"),
        ("Confusion_Matrix", Metric("confusion_matrix"), "confusion_matrix"),
        ("Precision@ 1 : a:b@c", Metric("precision", "a:b@c", 1), "precision@1:a:b@c"),
    ],
)
def test_names_are_parsed(text: str, metric: Metric, name: str) -> None:
    assert parse_metric(text) == metric
    assert metric.name == name
    assert parse_metric(name) == metric


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("acu", r"unknown metric 'acu'; did you mean auc\? Allowed: auc, logloss, .*precision@K:COLUMN"),
        ("logistic_loss", r"did you mean logloss\?"),
        ("precison@10:user_id", r"did you mean precision@K:COLUMN\?"),
        ("AUC:user_id", r"per group it is written auc@COLUMN"),
        ("ndgc@5:user_id", r"did you mean ndcg@K:COLUMN\?"),
        ("ndcg@user_id", r"ndcg needs a depth of at least 1 and a group column, as in ndcg@10:user_id"),
        ("mrr", r"mrr needs a depth"),
        ("accuracy@user_id", r"accuracy has no form per group"),
        ("NDCG:query", r"per group it is written ndcg@K:COLUMN"),
        ("zzz", r"unknown metric 'zzz'\. Allowed: auc"),
        ("", r"unknown metric ''\. Allowed"),
        ("rmse@user_id", r"rmse has no form per group"),
        ("auc@", r"name the group column after @"),
        ("precision", r"precision@10:user_id"),
        ("precision@10", r"precision@10:user_id"),
        ("precision@user_id", r"precision@10:user_id"),
        ("precision@0:user_id", r"depth of at least 1"),
        ("precision@-1:user_id", r"depth of at least 1"),
        ("precision@10:", r"group column"),
        ("precision@²:user_id", r"depth of at least 1"),
        ("precision@99999999999999999999:user_id", r"depth of at least 1"),
    ],
)
def test_other_names_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_metric(text)


@settings(deadline=None)
@given(st.text())
def test_any_text_is_either_a_metric_or_a_config_error(text: str) -> None:
    for candidate in (text, f"auc@{text}", f"precision@3:{text}"):
        try:
            metric = parse_metric(candidate)
        except ConfigError:
            continue
        assert parse_metric(metric.name) == metric


def test_every_task_has_a_default_metric() -> None:
    assert {task: parse_metric(name).name for task, name in DEFAULT_METRIC.items()} == {
        "logistic_regression": "auc",
        "linear_regression": "rmse",
        "poisson_regression": "poisson_loss",
        "smoothed_hinge": "auc",
        "multiclass_classification": "accuracy",
        "multilabel_classification": "auc",
    }
    assert all(parse_metric(name).fits(task) for task, name in DEFAULT_METRIC.items())


@pytest.mark.parametrize(
    "name", ["auc", "auc@u", "precision@1:u", "ndcg@1:u", "mrr@1:u", "accuracy", "micro_f1", "micro_recall"]
)
def test_higher_is_better_for_ranking_metrics(name: str) -> None:
    metric = parse_metric(name)
    assert metric.higher_is_better
    assert metric.better(0.8, 0.7)
    assert not metric.better(0.7, 0.8)


@pytest.mark.parametrize("name", ["logloss", "rmse", "mse", "poisson_loss", "smoothed_hinge", "cross_entropy"])
def test_lower_is_better_for_losses(name: str) -> None:
    metric = parse_metric(name)
    assert not metric.higher_is_better
    assert metric.better(0.7, 0.8)
    assert not metric.better(0.8, 0.7)


@settings(deadline=None)
@given(st.sampled_from(["auc", "logloss"]), st.none() | st.floats(), st.none() | st.floats())
def test_better_is_a_strict_order(name: str, a: float | None, b: float | None) -> None:
    metric = parse_metric(name)
    assert not (metric.better(a, b) and metric.better(b, a))
    assert not metric.better(a, a)
    assert not metric.better(None, b)
    if a is not None and a == a:
        assert metric.better(a, None)
        assert metric.better(a, float("nan"))


def test_evaluate_reaches_every_metric() -> None:
    random = np.random.default_rng(0)
    label = (random.random(60) < 0.5).astype(float)
    score, weight, user = random.normal(size=60), random.gamma(2.0, size=60), random.integers(0, 6, 60)
    for kind, function in all_rows.GLOBAL_METRICS.items():
        value = parse_metric(kind).evaluate(label, score, weight)
        assert value == all_rows.MetricValue(function(label, score, weight))
    groups = {"item": user[::-1], "user": user}
    found = parse_metric("auc@user").evaluate(label, score, weight, groups)
    assert found == grouped.auc_per_group(label, score, weight, user)
    found = parse_metric("precision@3:user").evaluate(label, score, weight, groups)
    assert found == grouped.precision_per_group(label, score, weight, user, 3)
    found = parse_metric("ndcg@3:user").evaluate(label, score, weight, groups)
    assert found == ranking.ndcg_per_group(label, score, weight, user, 3)
    found = parse_metric("mrr@3:user").evaluate(label, score, weight, groups)
    assert found == ranking.mrr_per_group(label, score, weight, user, 3)
    matrix = parse_metric("confusion_matrix").evaluate(label, score, weight).matrix
    assert matrix == all_rows.confusion_matrix(label, score, weight)


BINARY = ("logistic_regression", "smoothed_hinge", "multiclass_classification", "multilabel_classification")


@pytest.mark.parametrize(
    ("name", "fits", "foreign_to"),
    [
        ("auc", ("logistic_regression", "multilabel_classification"), ()),
        ("auc@user", ("logistic_regression",), ()),
        ("ndcg@5:user", ("logistic_regression", "linear_regression", "poisson_regression"), ()),
        ("accuracy", BINARY, ("linear_regression", "poisson_regression")),
        ("confusion_matrix", ("smoothed_hinge", "multiclass_classification"), ("linear_regression",)),
        ("logloss", ("logistic_regression", "multilabel_classification"), ("smoothed_hinge", "linear_regression")),
        ("rmse", ("linear_regression",), ("logistic_regression",)),
        ("cross_entropy", ("multiclass_classification",), ()),
        ("micro_f1", ("multilabel_classification",), ()),
    ],
)
def test_metrics_know_their_tasks(name: str, fits: tuple[str, ...], foreign_to: tuple[str, ...]) -> None:
    metric = parse_metric(name)
    assert all(metric.fits(task) and metric.foreign_to(task) is None for task in fits)
    assert all(metric.fits(task) and metric.foreign_to(task) is not None for task in foreign_to)


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("auc", "multiclass_classification"),
        ("auc@user", "multilabel_classification"),
        ("ndcg@5:user", "multiclass_classification"),
        ("confusion_matrix", "multilabel_classification"),
        ("rmse", "multiclass_classification"),
        ("cross_entropy", "logistic_regression"),
        ("micro_f1", "multiclass_classification"),
    ],
)
def test_metrics_of_scores_of_another_shape_do_not_fit(name: str, task: str) -> None:
    assert not parse_metric(name).fits(task)


def test_undefined_values_are_none() -> None:
    assert parse_metric("auc").evaluate([1.0], [0.0]).value is None
    assert parse_metric("mse").evaluate([0.0], [1e200]).value is None
    assert parse_metric("logloss").evaluate([], []).value is None


@pytest.mark.parametrize("groups", [None, {}, {"item_id": [0]}])
def test_a_missing_group_column_is_a_config_error(groups: dict | None) -> None:
    with pytest.raises(ConfigError, match="no group column 'user_id'"):
        parse_metric("auc@user_id").evaluate([1.0], [0.0], None, groups)


def test_parsing_names_imports_no_numba_and_no_numpy() -> None:
    code = (
        "import sys, gdmix_core.metrics.registry as r; r.parse_metric('auc@u');"
        "assert not {'numba', 'numpy'} & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
