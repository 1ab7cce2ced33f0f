"""Incremental training of a random effect: a Gaussian prior from earlier models, against SciPy user by user."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from user_models import (
    TRAIN,
    assert_same_model,
    configured,
    design,
    expected_scores,
    make_rows,
    models,
    optimum,
    rows_of,
    scores_of,
    trained,
)

from gdmix_core.execution.dispatch import execute
from tests.run_directory import make_run

L2 = 0.4


def earlier_models(users: int, *, seed: int = 5, every: int = 2) -> dict[Any, dict[int, tuple[float, float]]]:
    """Of every other user and of some that are not in the data; features 0, 2 and 4 alone."""
    rng = np.random.default_rng(seed)
    ids = [*range(0, users, every), users + 1, users + 7]
    return {u: {j: (float(rng.normal()), float(np.exp(rng.normal()))) for j in (-1, 0, 2, 4)} for u in ids}


def prior_config(weight: float, **settings: Any) -> dict[str, Any]:
    initial = {"path": "earlier", "prior_weight": weight, **settings.pop("initial", {})}
    return configured({"shards": settings.pop("shards", 1)}, l2=L2, initial_model=initial, **settings)


@pytest.mark.parametrize("task", ["logistic_regression", "linear_regression", "poisson_regression", "smoothed_hinge"])
@pytest.mark.parametrize("variances", [True, False])
def test_models_are_scipys_under_the_prior(tmp_path: Path, task: str, variances: bool):
    rows = make_rows(150, task=task)
    weight, earlier = 0.7, earlier_models(12)
    run = trained(tmp_path, prior_config(weight, task=task), rows, initial=earlier, variances=variances)
    found = models(run)
    for user in range(12):
        mean = {j: m for j, (m, _) in earlier.get(user, {}).items()}
        precision = {j: weight * (1 / v if variances else L2) for j, (_, v) in earlier.get(user, {}).items()}
        l2 = {j: precision.get(j, L2) for j in range(-1, 5)}
        expected = optimum(rows, rows_of(rows, user), l2, centre=mean, task=task)
        kept = {j: m for j, m in mean.items() if j not in expected}  # under a prior, features without data are kept
        assert_same_model(found[user], expected | kept)


def test_some_entries_without_a_variance_fall_back_to_l2(tmp_path: Path):
    """nan and 0 are no variances, infinity is no information."""
    rows = make_rows(150)
    earlier = earlier_models(12)
    for model in earlier.values():
        model |= {-1: (model[-1][0], np.nan), 0: (model[0][0], 0.0), 2: (model[2][0], np.inf)}
    run = trained(tmp_path, prior_config(2.0), rows, initial=earlier)
    found = models(run)
    for user in range(0, 12, 2):
        mean = {j: m for j, (m, _) in earlier[user].items()}
        l2 = {-1: 2 * L2, 0: 2 * L2, 2: 2 * L2, 4: 2.0 / earlier[user][4][1], 1: L2, 3: L2}
        expected = optimum(rows, rows_of(rows, user), l2, centre=mean)
        assert_same_model(found[user], expected | {j: m for j, m in mean.items() if j not in expected})


def test_a_huge_weight_holds_the_earlier_means(tmp_path: Path):
    rows, earlier = make_rows(150), earlier_models(12)
    held = models(trained(tmp_path / "held", prior_config(1e9), rows, initial=earlier))
    for user in range(0, 12, 2):
        for feature, (mean, _) in earlier[user].items():
            assert held[user][feature] == pytest.approx(mean, abs=1e-6)


def test_a_prior_with_l1_and_bounds(tmp_path: Path):
    rows, earlier = make_rows(150), earlier_models(12)
    bounds = [{"name": "feature", "term": "2", "lower": -0.1, "upper": 0.2}]
    run = trained(tmp_path, prior_config(0.7, l1=0.3, bounds=bounds), rows, initial=earlier)
    found = models(run)
    for user in range(12):
        mean = {j: m for j, (m, _) in earlier.get(user, {}).items()}
        l2 = {j: 0.7 / earlier[user][j][1] if j in mean else L2 for j in range(-1, 5)}
        expected = optimum(rows, rows_of(rows, user), l2, centre=mean, l1=0.3, bounds={2: (-0.1, 0.2)})
        trained_on = {j: c for j, c in found[user].items() if j in expected}
        assert_same_model(trained_on, expected)


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("text", [False, True])
def test_models_without_data_are_kept_or_dropped_and_counted(tmp_path: Path, shards: int, text: bool):
    rows, validation = make_rows(150, text=text), make_rows(80, seed=2, users=20, text=text)
    X = np.asarray(rows.bags["per_user"])
    X[rows_of(rows, "user 000" if text else 0), 4] = 0.0  # a feature of the earlier model this user has no more
    earlier: dict[Any, Any] = earlier_models(12)
    if text:
        earlier = {f"user {u:03d}": m for u, m in earlier.items()}
    gone = sorted(earlier)[-2:]
    first = sorted(earlier)[0]
    for entities in ("keep", "drop"):
        for features in ("keep", "drop"):
            choice = {"entities_without_data": entities, "features_without_data": features}
            root = tmp_path / f"{entities}-{features}"
            run = trained(root, prior_config(0.5, initial=choice, shards=shards), rows, validation, initial=earlier)
            found = models(run)
            assert set(found) == set(np.array(rows.ids["user_id"]).tolist()) | (
                set(gone) if entities == "keep" else set()
            )
            if entities == "keep":
                for user in gone:
                    assert found[user] == {j: mean for j, (mean, _) in earlier[user].items()}
            assert (4 in found[first]) == (features == "keep")
            if features == "keep":
                assert found[first][4] == earlier[first][4][0]
            lost = sum(
                j >= 0 and not X[rows_of(rows, u), j].any() for u, m in earlier.items() for j in m if u not in gone
            )
            result = run.result(TRAIN)
            assert result["kept_entities" if entities == "keep" else "dropped_entities"] == 2
            assert result["kept_coefficients" if features == "keep" else "dropped_coefficients"] == lost >= 1
            assert len({k for k in result if k.startswith(("kept", "dropped"))}) == 2
            for split, data in (("training", rows), ("validation", validation)):
                np.testing.assert_allclose(scores_of(run, split), expected_scores(data, found), atol=1e-5)


def test_an_entity_below_the_minimum_counts_as_one_without_data(tmp_path: Path):
    rows, earlier = make_rows(150), earlier_models(12)
    counts = np.bincount(np.array(rows.ids["user_id"]), minlength=12)
    small = [u for u in range(12) if counts[u] < 12]
    known = [u for u in small if u in earlier]
    assert known
    for choice in ("keep", "drop"):
        config = prior_config(0.5, initial={"entities_without_data": choice})
        config["coordinates"]["per_user"]["random_effect"]["samples"] = {"min": 12}
        run = trained(tmp_path / choice, config, rows, initial=earlier)
        found = models(run)
        for user in known:
            expected = {j: mean for j, (mean, _) in earlier[user].items()} if choice == "keep" else {}
            assert found[user] == expected
        assert run.result(TRAIN)["kept_entities" if choice == "keep" else "dropped_entities"] == 2 + len(known)
        assert np.allclose(scores_of(run, "training"), expected_scores(rows, found), atol=1e-5)


def test_a_warm_start_alone_changes_nothing_but_the_work(tmp_path: Path):
    """prior_weight 0: the same optimum from another start, and by default no earlier coefficient stays in."""
    rows = make_rows(150)
    plain = trained(tmp_path / "plain", configured(l2=L2), rows)
    cold = models(plain)
    earlier = {u: {j: (c, np.nan) for j, c in m.items()} for u, m in cold.items()}
    warm_run = trained(tmp_path / "warm", prior_config(0.0), rows, initial=earlier)
    warm = models(warm_run)
    assert warm_run.result(TRAIN)["iterations"] <= 2 < plain.result(TRAIN)["iterations"]
    far = models(trained(tmp_path / "far", prior_config(0.0), rows, initial=earlier_models(12)))
    for user, model in cold.items():
        assert_same_model(warm[user], model, 1e-7)
        assert_same_model(far[user], model, 1e-6)


def test_variances_of_kept_models_and_of_new_ones_stand_together(tmp_path: Path):
    rows, earlier = make_rows(150), earlier_models(12)
    run = trained(tmp_path, prior_config(0.5, variances="full"), rows, initial=earlier)
    found = models(run, variances=True)
    assert found[13] == {j: variance for j, (_, variance) in earlier[13].items()}
    for user in range(0, 12, 2):
        trained_on = set(design(rows, rows_of(rows, user))[0])
        for feature, (_, variance) in earlier[user].items():
            if feature in trained_on:
                assert 0 < found[user][feature] < variance / 0.5  # the data add to what the prior knows
            else:
                assert found[user][feature] == variance


def test_the_second_pass_starts_from_the_models_of_the_first(tmp_path: Path):
    """Beside a coordinate that does next to nothing, the second pass has nothing left to do."""
    config = configured({"shards": 2}, l2=L2)
    config["coordinates"]["again"] = {"random_effect": {"entity": "user_id", "shards": 1}, "l2": 1e9}
    config["coordinates"]["again"]["regularize_intercept"] = True
    run = make_run(tmp_path, config | {"passes": {"max": 2, "min_delta": -1.0}}, make_rows(150))
    for number in (1, 2):
        for coordinate in ("per_user", "again"):
            execute(run, run.plan[f"pass_0{number}.{coordinate}.train"])
            execute(run, run.plan[f"pass_0{number}.{coordinate}.evaluate"])
    first, second = (run.result(f"pass_0{number}.per_user.train") for number in (1, 2))
    assert second["iterations"] <= 2 < first["iterations"]
    for user, model in models(run, 1).items():
        assert_same_model(models(run, 2)[user], model, 1e-6)
