"""l2: auto of random effects, end to end: λ against the formulas over dense matrices, the same however it is cut."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from user_models import TRAIN, configured, design, expected_scores, make_rows, models, rows_of, scores_of, trained

from gdmix_core import storage
from gdmix_core.effects.random import automatic_l2, shard_markers, training
from gdmix_core.evaluation.evaluate import evaluate
from gdmix_core.execution.dispatch import execute
from gdmix_core.pipeline.plan import build_plan
from gdmix_core.pipeline.run import Run
from gdmix_core.solvers.empirical_bayes.fixed_point import MAX_VARIANCE, MIN_VARIANCE
from gdmix_core.training_context import TrainingContext
from tests.run_directory import Rows, make_run
from tests.solvers.losses import loss_formulas


def automatic(mode: str = "intercept_slopes", **settings: Any) -> dict[str, Any]:
    effect = {key: settings.pop(key) for key in ("shards", "groups", "samples") if key in settings}
    return configured(effect, l2={"auto": mode}, **settings)


def variance_by_formula(
    rows: Rows,
    found: dict[Any, dict[int, float]],
    l2: dict[str, float],
    *,
    offset: NDArray[np.float64] | None = None,
    other_leverage: NDArray[np.float64] | None = None,
) -> tuple[dict[str, float], NDArray[np.float64]]:
    """(σ² of intercepts and of slopes after one update at the models found under l2, leverage of each row)."""
    sums: dict[str, NDArray[np.float64]] = {"intercept": np.zeros(4), "slopes": np.zeros(4)}
    leverage = np.zeros(len(rows))
    y, weight = np.asarray(rows.label, np.float64), np.asarray(rows.weight, np.float64)
    offset = np.asarray(rows.offset, np.float64) if offset is None else offset
    others = np.zeros(len(rows)) if other_leverage is None else other_leverage
    for user, model in found.items():
        chosen = rows_of(rows, user)
        features, X = design(rows, chosen)
        θ = np.array([model[j] for j in features])
        λ = np.array([l2["intercept" if j < 0 else "slopes"] for j in features])
        z = X @ θ + offset[chosen]
        V = np.linalg.inv(
            X.T @ (X * (weight[chosen] * loss_formulas.second("logistic", z, y[chosen]))[:, None]) + np.diag(λ)
        )
        leverage[chosen] = np.einsum("ij,jk,ik->i", X, V, X)
        h = leverage[chosen] + others[chosen]
        c = (V @ (X.T @ (h * weight[chosen] * loss_formulas.third("logistic", z)))) * θ
        for k, j in enumerate(features):
            sums["intercept" if j < 0 else "slopes"] += (θ[k] ** 2, c[k], 1.0, V[k, k] * λ[k])
    return {name: (s[0] - s[1]) / (s[2] - s[3]) for name, s in sums.items() if s[2]}, leverage


def files_of(run: Run) -> dict[str, bytes]:
    root = Path(run.path("passes"))
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("shards", [1, 3])
def test_the_update_is_that_of_the_formulas(tmp_path: Path, shards: int):
    rows = make_rows(900, users=60)
    run = trained(tmp_path, automatic(shards=shards), rows)
    l2 = run.result(TRAIN)["l2"]
    assert l2["mode"] == "intercept_slopes"
    assert set(l2["used"]) == set(l2["next"]) == {"intercept", "slopes"}
    variance, leverage = variance_by_formula(rows, models(run), l2["used"])
    for name in ("intercept", "slopes"):
        assert 1 / l2["next"][name] == pytest.approx(variance[name], rel=1e-5)
        # What was used is the fixed point where all entities are the sample, and near it where one shard's are.
        assert l2["next"][name] == pytest.approx(l2["used"][name], rel=3e-3 if shards == 1 else 0.5)
        assert 1 / MAX_VARIANCE < l2["used"][name] < 1 / MIN_VARIANCE
    scores_of(run, "training")
    metrics = run.result("pass_01.per_user.evaluate")
    assert metrics["l2"] == l2
    stored = storage.read_array(run.scores(1, "per_user", "leverage"))
    np.testing.assert_allclose(stored, leverage, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("mode", ["intercept_slopes", "coordinate"])
def test_a_sample_of_the_entities_comes_near_and_all_of_them_correct_it(tmp_path: Path, monkeypatch, mode: str):
    rows = make_rows(900, users=60)
    everyone = trained(tmp_path / "all", automatic(mode), rows).result(TRAIN)["l2"]["used"]
    monkeypatch.setattr(automatic_l2, "PILOT_ENTITIES", 20)
    l2 = trained(tmp_path / "some", automatic(mode), rows).result(TRAIN)["l2"]
    for name in everyone:
        gaps = [abs(np.log(l2[key][name] / everyone[name])) for key in ("used", "next")]
        assert 1e-3 < gaps[1] < gaps[0] < 1.0


def test_the_l2_of_each_feature_is_at_its_end_where_all_entities_are_the_sample(tmp_path: Path):
    run = trained(tmp_path, automatic("feature"), make_rows(900, users=60))
    context = TrainingContext(run, run.plan[TRAIN])
    used = automatic_l2.prior_variance(context)
    assert used is not None
    assert len(set(used)) > 3  # not what they have in common
    np.testing.assert_allclose(storage.read_array(context.l2_file("next.npy")), used, rtol=0.02)


def test_scaled_features_have_the_prior_in_common(tmp_path: Path):
    """As if the rows had come scaled, and the coefficients been divided afterwards."""
    rows = make_rows(400, users=30)
    X = np.asarray(rows.bags["per_user"])
    size = X.std(axis=0, ddof=1)
    by_hand = Rows(rows.label, rows.weight, rows.offset, ids=rows.ids, bags={"per_user": X / size})
    run = make_run(tmp_path / "scaled", automatic(normalization="standard_deviation"), rows)
    execute(run, run.plan["summarize"])
    training.train(TrainingContext(run, run.plan[TRAIN]))
    other = trained(tmp_path / "by hand", automatic(), by_hand)
    for key in ("used", "next"):
        assert run.result(TRAIN)["l2"][key] == pytest.approx(other.result(TRAIN)["l2"][key], rel=1e-5)
    for user, model in models(other).items():
        expected = {j: c if j < 0 else c / size[j] for j, c in model.items()}
        assert models(run)[user] == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_models_are_those_of_the_l2_that_was_used(tmp_path: Path):
    from user_models import assert_same_model, optimum

    rows = make_rows(300)
    run = trained(tmp_path, automatic(shards=2, regularize_intercept=False), rows)
    used = run.result(TRAIN)["l2"]["used"]
    λ = {j: used["intercept" if j < 0 else "slopes"] for j in range(-1, 5)}  # the intercept is always penalised
    for user, model in models(run).items():
        assert_same_model(model, optimum(rows, rows_of(rows, user), λ))
    np.testing.assert_allclose(scores_of(run, "training"), expected_scores(rows, models(run)), atol=1e-5)


@pytest.mark.parametrize(
    ("mode", "names"),
    [
        ("coordinate", {"coefficients"}),
        ("intercept_slopes", {"intercept", "slopes"}),
        ("feature", {"intercept", "slopes_least", "slopes_median", "slopes_largest"}),
    ],
)
def test_every_mode_ends_to_end(tmp_path: Path, mode: str, names: set[str]):
    run = trained(tmp_path, automatic(mode, shards=2), make_rows(600, users=40))
    l2 = run.result(TRAIN)["l2"]
    assert l2["mode"] == mode
    for found in (l2["used"], l2["next"]):
        assert set(found) == names
        assert all(1 / MAX_VARIANCE <= value <= 1 / MIN_VARIANCE for value in found.values())
    if mode == "feature":
        assert l2["next"]["slopes_least"] < l2["next"]["slopes_median"] < l2["next"]["slopes_largest"]


@pytest.mark.slow
def test_processes_and_groups_change_no_byte(tmp_path: Path):
    rows, validation = make_rows(900, users=60), make_rows(60, seed=8, users=70)
    written = []
    for number, processes in enumerate((1, 2, 3)):
        run = trained(tmp_path / str(number), automatic(shards=3, processes=processes), rows, validation)
        scores_of(run, "training")
        written.append(files_of(run))
    grouped = make_run(tmp_path / "groups", automatic(shards=3, groups=3), rows, validation, rows_per_block=70)
    for group in (2, 0, 1):
        training.train(TrainingContext(grouped, grouped.plan[TRAIN]), group=group)
    scores_of(grouped, "training")
    written.append(files_of(grouped))
    for other in written[1:]:
        assert other.keys() == written[0].keys()
        assert [name for name in other if other[name] != written[0][name]] == []


def test_a_shard_trained_again_gives_the_same_bytes(tmp_path: Path):
    rows = make_rows(400, users=30)
    run = trained(tmp_path, automatic(shards=3), rows)
    before = files_of(run)
    Path(shard_markers.shard_marker(TrainingContext(run, run.plan[TRAIN]), 1)).unlink()
    again = Run.open(run.root)
    training.train(TrainingContext(again, again.plan[TRAIN]))
    assert files_of(again) == before


def test_other_rows_are_another_l2(tmp_path: Path):
    """What is left of an earlier run in the same directory is not taken for current."""
    first = trained(tmp_path, automatic(), make_rows(400, users=30)).result(TRAIN)["l2"]
    other = make_rows(400, users=30, seed=3)
    again = trained(tmp_path, automatic(), other).result(TRAIN)["l2"]
    fresh = trained(tmp_path / "fresh", automatic(), other).result(TRAIN)["l2"]
    assert again == fresh != first


def test_a_coordinate_without_signal_shrinks_towards_0(tmp_path: Path):
    rng = np.random.default_rng(1)
    rows = make_rows(2000, users=100)
    # Every user has as many of either label as any other, so that chance leaves no signal either.
    rows.label = np.zeros(len(rows))
    for user in range(100):
        own = rows_of(rows, user)
        rows.label[rng.permutation(own)[: len(own) // 2]] = 1.0
    rows.weight, rows.offset = np.ones(len(rows)), np.zeros(len(rows))
    run = trained(tmp_path, automatic(shards=2), rows)
    l2 = run.result(TRAIN)["l2"]
    assert l2["used"]["intercept"] > 100
    assert l2["used"]["intercept"] <= 1 / MIN_VARIANCE * 1.0001
    for model in models(run).values():
        assert np.isfinite(list(model.values())).all()
        assert abs(model[-1]) < 0.01
    assert np.isfinite(scores_of(run, "training")).all()


def test_one_class_everywhere_stays_finite(tmp_path: Path):
    rows = make_rows(300)
    rows.label = np.ones(len(rows))
    run = trained(tmp_path, automatic(shards=2), rows)
    assert run.result(TRAIN)["l2"]["used"]["intercept"] >= 1 / MAX_VARIANCE * 0.9999
    assert all(np.isfinite(list(model.values())).all() for model in models(run).values())


def test_rows_beyond_the_cap_have_no_leverage(tmp_path: Path):
    rows = make_rows(300)
    run = trained(tmp_path, automatic(samples={"max": 10}), rows)
    scores_of(run, "training")
    leverage = np.asarray(storage.read_array(run.scores(1, "per_user", "leverage")))
    users = np.array(rows.ids["user_id"])
    for user in range(12):
        assert np.count_nonzero(leverage[users == user]) == min(10, np.sum(users == user))


def test_coefficients_with_a_prior_take_no_part(tmp_path: Path):
    rows = make_rows(300)
    known = {u: {-1: (0.3, 0.5)} for u in range(12)}
    config = automatic(initial_model={"path": "earlier", "prior_weight": 1.0})
    l2 = trained(tmp_path, config, rows, initial=known).result(TRAIN)["l2"]
    assert set(l2["used"]) == set(l2["next"]) == {"slopes"}


# Two coordinates, two passes


def two_coordinates(shards: int = 1) -> dict[str, Any]:
    config = automatic(shards=shards)
    effect = {"entity": "item_id", "shards": shards, "tolerance": 1e-9}
    config["coordinates"]["per_item"] = {"random_effect": effect, "bag": "per_user", "l2": "auto"}
    return config | {"passes": {"max": 2}}


def crossed(count: int = 900) -> Rows:
    rows = make_rows(count, users=40)
    items = np.random.default_rng(4).integers(0, 30, count)
    return Rows(rows.label, rows.weight, rows.offset, ids={**rows.ids, "item_id": items}, bags=rows.bags)


def carried_out(root: Path, config: dict[str, Any], rows: Rows) -> Run:
    run = make_run(root, config, rows, rows_per_block=200)
    for step in build_plan(run.config).steps:
        if step.kind == "train_random":
            training.train(TrainingContext(run, step))
        elif step.kind == "evaluate":
            evaluate(run, step)
    return run


def test_the_other_coordinates_leverage_is_part_of_the_correction(tmp_path: Path):
    rows = crossed()
    run = carried_out(tmp_path, two_coordinates(), rows)
    items = Rows(rows.label, rows.weight, rows.offset, ids={"user_id": rows.ids["item_id"]}, bags=rows.bags)
    from gdmix_core.models.native import read_model

    table = read_model(run.model(1, "per_item", 0))
    found = {
        entity: dict(
            zip(table.features[a:b].tolist(), table.means[a:b].tolist(), strict=True)
        )
        for entity, a, b in zip(table.entities.to_pylist(), table.offsets, table.offsets[1:], strict=False)
    }  # fmt: skip
    offset = np.asarray(rows.offset) + storage.read_array(run.scores(1, "per_user", "training"))
    others = np.asarray(storage.read_array(run.scores(1, "per_user", "leverage")), np.float64)
    l2 = run.result("pass_01.per_item.train")["l2"]
    variance, _ = variance_by_formula(items, found, l2["used"], offset=offset, other_leverage=others)
    without, _ = variance_by_formula(items, found, l2["used"], offset=offset)
    for name in ("intercept", "slopes"):
        assert 1 / l2["next"][name] == pytest.approx(variance[name], rel=1e-5)
        assert abs(np.log(without[name] / variance[name])) > 1e-3


def test_the_second_pass_starts_from_the_first(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, "gdmix_core.effects.random"):
        run = carried_out(tmp_path, two_coordinates(shards=2), crossed())
    rounds = dict(re.findall(r"(pass_\d+\.per_user)\.train: l2 .* after (\d+) rounds", caplog.text))
    assert int(rounds["pass_02.per_user"]) < int(rounds["pass_01.per_user"])
    for coordinate in ("per_user", "per_item"):
        first, second = (run.result(f"pass_0{n}.{coordinate}.train")["l2"] for n in (1, 2))
        assert first["used"] != second["used"]
        for name in ("intercept", "slopes"):
            # What all entities say differs from what is used by less than before.
            gaps = [abs(np.log(l2["next"][name] / l2["used"][name])) for l2 in (first, second)]
            assert gaps[1] < max(gaps[0], 0.02)
