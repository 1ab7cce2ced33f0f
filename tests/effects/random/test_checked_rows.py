"""The notebook's functions: arrays of any type that can be meant are taken, all others are one clear error.

Kernels check no bounds, so a fault that is not found would end the interpreter or give numbers that mean nothing.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdmix_core import Bag, CoefficientTable, Coordinate, EntityRows, GlobalObjective
from gdmix_core.effects.random.entity_models import Prior, fit_entity_models, score_entity_rows
from gdmix_core.effects.random.penalties import penalties_of
from gdmix_core.errors import ConfigError, DataError
from gdmix_core.solvers.entity.newton import STATUS_NAMES
from gdmix_core.solvers.large.objective import score_bag

FEATURES = 3
SETTINGS = Coordinate(random_effect={"entity": "e"}, bag="f")
LASSO = Coordinate(random_effect={"entity": "e"}, bag="f", l1=0.1)
TASK = "logistic_regression"


def rows_of(entities: int = 4, per: int = 5, *, seed: int = 0) -> EntityRows:
    rng = np.random.default_rng(seed)
    n = entities * per
    end = (np.arange(entities) + 1) * per
    bag = Bag(np.arange(n + 1) * 2, np.tile(np.array([0, 2], np.int32), n), rng.normal(size=2 * n).astype(np.float32))
    label = (rng.random(n) < 0.5).astype(float)
    ids = pa.array([f"e{k}" for k in range(entities)])
    return EntityRows(ids, end - per, end, np.arange(n), label, rng.random(n) + 0.5, rng.normal(size=n), bag)


def changed(rows: EntityRows, name: str, at: int, value: Any, kind: Any = None) -> EntityRows:
    """Rows with one element of one array (a bag's is bag.indices, …) set to another value."""
    of_bag = name.startswith("bag.")
    name = name.removeprefix("bag.")
    array = np.array(getattr(rows.bag if of_bag else rows, name), kind)
    array[at] = value
    return replace(rows, bag=replace(rows.bag, **{name: array})) if of_bag else replace(rows, **{name: array})


ROWS = rows_of()
N, E, ENTRIES = len(ROWS.row), len(ROWS), len(ROWS.bag.indices)
LARGE = st.sampled_from([1, 2, 1000, 2**20, 2**31 - 1, 2**40, 2**62])
REALS = ("label", "weight", "offset", "bag.values")


@st.composite
def corruptions(draw: st.DrawFn) -> tuple[EntityRows, str]:
    """The good rows with one fault, and whether scoring has to find it, too."""
    kind = draw(
        st.sampled_from(["index", "offsets", "begin", "end", "length", "not finite", "weight", "type", "twice"])
    )
    if kind == "index":
        at = draw(st.integers(0, ENTRIES - 1))
        wrong = draw(LARGE) if draw(st.booleans()) else None
        value = -draw(st.integers(1, 2**40)) if wrong is None else FEATURES - 1 + wrong
        return changed(ROWS, "bag.indices", at, value, np.int64), "fit" if 0 <= value < 2**31 - 1 else "both"
    if kind == "offsets":
        at, by = draw(st.integers(0, N)), draw(LARGE) * draw(st.sampled_from([-1, 1]))
        value = max(-(2**62), min(2**62, ROWS.bag.offsets[at].item() + 3 * by))
        return changed(ROWS, "bag.offsets", at, value), "both"
    if kind in ("begin", "end"):
        at, by = draw(st.integers(0, E - 1)), draw(LARGE) * draw(st.sampled_from([-1, 1]))
        value = max(-(2**62), min(2**62, getattr(ROWS, kind)[at].item() + 6 * by))
        return changed(ROWS, kind, at, value), "both"
    if kind == "length":
        name = draw(st.sampled_from(["begin", "end", "row", "label", "weight", "offset", "bag.indices", "bag.values"]))
        holder = ROWS.bag if name.startswith("bag.") else ROWS
        array = getattr(holder, name.removeprefix("bag."))
        cut = draw(st.integers(0, len(array) - 1))
        array = array[:cut] if draw(st.booleans()) else np.concatenate([array, array[: cut + 1]])
        both = "fit" if name in ("label", "weight", "offset") else "both"
        part = {name.removeprefix("bag."): array}
        return (replace(ROWS, bag=replace(ROWS.bag, **part)) if holder is ROWS.bag else replace(ROWS, **part)), both
    if kind == "not finite":
        name = draw(st.sampled_from(REALS))
        at = draw(st.integers(0, (ENTRIES if name == "bag.values" else N) - 1))
        value = draw(st.sampled_from([np.nan, np.inf, -np.inf]))
        return changed(ROWS, name, at, value), "both" if name == "bag.values" else "fit"
    if kind == "weight":
        return changed(ROWS, "weight", draw(st.integers(0, N - 1)), draw(st.sampled_from([0.0, -1.0, -1e300]))), "fit"
    if kind == "type":
        name = draw(st.sampled_from(["begin", "end", "bag.indices", "bag.offsets", "label"]))
        of = ROWS.bag if name.startswith("bag.") else ROWS
        array = getattr(of, name.removeprefix("bag."))
        array = array.astype(str) if name == "label" or draw(st.booleans()) else array + 0.5
        part = {name.removeprefix("bag."): array}
        rows = replace(ROWS, bag=replace(ROWS.bag, **part)) if of is ROWS.bag else replace(ROWS, **part)
        return rows, "fit" if name == "label" else "both"
    ids = ROWS.ids.to_pylist()
    ids[draw(st.integers(1, E - 1))] = ids[0]
    return replace(ROWS, ids=pa.array(ids)), "both"


@pytest.mark.slow
@given(corruptions(), st.booleans())
def test_one_fault_anywhere_is_an_error(corruption: tuple[EntityRows, str], lasso: bool):
    rows, found_by = corruption
    settings = LASSO if lasso else SETTINGS
    with pytest.raises(DataError):
        fit_entity_models(rows, settings, TASK, FEATURES)
    models = fit_entity_models(ROWS, settings, TASK, FEATURES).table
    if found_by == "both":
        with pytest.raises(DataError):
            score_entity_rows(rows, models, settings)
    else:
        np.testing.assert_array_equal(
            score_entity_rows(rows, models, settings)[:0], np.empty(0, np.float32)
        )  # of no moment to scores


def test_no_fault_ends_the_interpreter():
    """In a process of its own: the same corruptions, by the hundred, drawn with another generator."""
    program = f"""
import sys, random
sys.path.insert(0, {str(__file__).rsplit("/", 1)[0]!r})
from test_checked_rows import *
draw = random.Random(7)
done = 0
for _ in range(400):
    name = draw.choice(["begin", "end", "bag.indices", "bag.offsets"])
    holder = ROWS.bag if name.startswith("bag.") else ROWS
    size = len(getattr(holder, name.removeprefix("bag.")))
    value = draw.choice([-1, 1]) * draw.randrange(4, 2 ** draw.randrange(3, 62))
    rows = changed(ROWS, name, draw.randrange(size), value, np.int64)
    own = rows.label, rows.weight, rows.offset
    for work in (
        lambda: fit_entity_models(rows, SETTINGS, TASK, FEATURES),
        lambda: fit_entity_models(rows, LASSO, TASK, FEATURES),
        lambda: GlobalObjective(0, rows.bag, FEATURES, *own, intercept=True, threads=1),
    ):
        try:
            work()
        except DataError:
            done += 1
print(done)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    # begin and end do not reach the global objective.
    assert 800 < int(done.stdout) < 1200


def same(found: Any, expected: Any) -> None:
    np.testing.assert_array_equal(found.table.means, expected.table.means)
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert found.table.entities.to_pylist() == expected.table.entities.to_pylist()


@pytest.mark.parametrize(
    "change",
    [
        lambda r: replace(r, label=r.label.astype(np.int64)),
        lambda r: replace(r, label=r.label.astype(bool)),
        lambda r: replace(r, label=r.label.tolist()),
        lambda r: replace(r, ids=r.ids.dictionary_encode()),
        lambda r: replace(r, ids=r.ids.to_pylist()),
        lambda r: replace(r, begin=r.begin.astype(np.uint8), end=r.end.astype(np.int16)),
        lambda r: replace(r, bag=replace(r.bag, indices=r.bag.indices.astype(np.int64))),
        lambda r: replace(r, bag=replace(r.bag, indices=r.bag.indices.astype(np.uint8))),
        lambda r: replace(r, bag=replace(r.bag, offsets=r.bag.offsets.astype(np.int32))),
        lambda r: replace(r, bag=replace(r.bag, values=np.repeat(r.bag.values, 2)[::2])),  # with gaps in memory
    ],
)
def test_other_types_mean_the_same(change: Callable[[EntityRows], EntityRows]):
    same(fit_entity_models(change(ROWS), SETTINGS, TASK, FEATURES), fit_entity_models(ROWS, SETTINGS, TASK, FEATURES))


def test_entities_in_any_order_and_rows_of_nobody():
    """Entity 2's rows come first and entity 1's nowhere: the others' models are the same, and nobody's rows score 0."""
    whole = fit_entity_models(ROWS, SETTINGS, TASK, FEATURES)
    order = np.array([2, 0, 3])
    some = replace(ROWS, ids=ROWS.ids.take(pa.array(order)), begin=ROWS.begin[order], end=ROWS.end[order])
    for settings in (SETTINGS, Coordinate(random_effect={"entity": "e", "samples": {"max": 3}}, bag="f")):
        found, all_of = (fit_entity_models(r, settings, TASK, FEATURES) for r in (some, ROWS))
        for k, e in enumerate(order):
            own = slice(*found.table.offsets[k : k + 2])
            np.testing.assert_array_equal(found.table.means[own], all_of.table.between(e, e + 1).means)
    found = fit_entity_models(some, SETTINGS, TASK, FEATURES)
    expected = whole.scores.copy()
    expected[ROWS.begin[1] : ROWS.end[1]] = 0.0
    np.testing.assert_array_equal(found.scores, expected)
    np.testing.assert_array_equal(score_entity_rows(some, whole.table, SETTINGS), expected)


def test_no_rows_and_no_entities():
    nothing = EntityRows(
        pa.array([], pa.string()), *np.zeros((2, 0), np.int64), np.zeros(0, np.int64), *np.zeros((3, 0)), Bag.empty(0)
    )
    found = fit_entity_models(nothing, SETTINGS, TASK, FEATURES)
    assert len(found.table) == len(found.scores) == 0
    assert len(score_entity_rows(nothing, found.table, SETTINGS)) == 0
    empty = replace(ROWS, end=np.concatenate([ROWS.end[:1] - 5, ROWS.end[1:]]))
    status = fit_entity_models(empty, SETTINGS, TASK, FEATURES).status
    assert [STATUS_NAMES[s] for s in status] == ["no_data", *["converged"] * 3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda r: changed(r, "bag.indices", 7, 9),
            r"bag\.indices: must be a feature index 0 … 2, .* of row 3, stands 9",
        ),
        (lambda r: changed(r, "bag.indices", 1, 0), "row 0 lists feature index 0 after 0; .*sum_duplicates"),
        (lambda r: changed(r, "bag.values", 3, np.nan), "row 1 has nan as the value of feature index 2"),
        (lambda r: changed(r, "end", 2, 900_000), "end: must be at most 20, .* entity 'e2', stands 900000"),
        (lambda r: changed(r, "begin", 1, 3), "begin: must be after the rows of the entity before, .*'e1', stands 3"),
        (lambda r: replace(r, weight=np.ones(3)), "weight .of 20 rows of the bag.: 3 values, but 20 are needed"),
        (lambda r: changed(r, "label", 4, np.nan), "label .*: must be finite, but at position 4 stands nan"),
        (lambda r: replace(r, label=2 * r.label - 1), "label: must be 0 or 1 in logistic_regression, .* stands -1"),
        (
            lambda r: replace(r, bag=replace(r.bag, indices=r.bag.indices + 0.5)),
            "indices: must be integers, not float64",
        ),
    ],
)
def test_it_says_what_and_where(change: Callable[[EntityRows], EntityRows], message: str):
    with pytest.raises(DataError, match=message):
        fit_entity_models(change(ROWS), SETTINGS, TASK, FEATURES)


@pytest.mark.parametrize("settings", [SETTINGS, LASSO])
@pytest.mark.parametrize(
    ("name", "task"), [("offset", "poisson_regression"), ("bag.values", TASK), ("label", "linear_regression")]
)
def test_numbers_too_large_for_their_sums_never_converge(settings: Coordinate, name: str, task: str):
    rows = replace(ROWS, bag=replace(ROWS.bag, values=ROWS.bag.values.astype(np.float64)))
    large = changed(rows, name, 3, 1e300 if name != "offset" else 800.0)
    outcome = "an error"
    with contextlib.suppress(DataError):
        found = fit_entity_models(large, settings, task, FEATURES)
        outcome = STATUS_NAMES[found.status[0]]
        assert np.isfinite(found.table.means).all()
    assert outcome in ("an error", "iteration_limit")


def test_it_says_whose_numbers_are_too_large():
    rows = changed(ROWS, "label", 7, 1e300)
    with pytest.raises(DataError, match="entity 'e1': its loss is not a finite number"):
        fit_entity_models(rows, SETTINGS, "linear_regression", FEATURES)


def test_penalties_priors_and_tasks_that_do_not_fit():
    with pytest.raises(ConfigError, match=r"penalties\.l2 has 3 entries; 3 features .* need 4"):
        fit_entity_models(ROWS, SETTINGS, TASK, FEATURES, penalties=penalties_of(SETTINGS, 2))
    with pytest.raises(ConfigError, match="multiclass_classification"):
        fit_entity_models(ROWS, SETTINGS, "multiclass_classification", FEATURES)
    for features in (-1, 3.0, True):
        with pytest.raises(ConfigError, match="features must be their number"):
            fit_entity_models(ROWS, SETTINGS, TASK, features)
    table = fit_entity_models(ROWS, SETTINGS, TASK, FEATURES).table
    with pytest.raises(ConfigError, match=r"prior\.weight"):
        fit_entity_models(ROWS, SETTINGS, TASK, FEATURES, prior=Prior(table, np.nan))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"l2": [-1.0, 1, 1, 1]}, r"penalties\.l2: must be 0 or more"),
        ({"l1": [np.nan, 1, 1, 1]}, r"penalties\.l1: must be finite"),
        ({"lower": [0.0, 0, 2, 0], "upper": [1.0, 1, 1, 1]}, r"penalties\.lower: must be at most penalties\.upper"),
        ({"upper": [np.nan, 1, 1, 1]}, r"penalties\.upper: must be a number"),
        ({"variance": [1.0, 0.0], "group": [0, 0, 1, 1]}, r"penalties\.variance: must be above 0"),
        ({"variance": [1.0, 2.0], "group": [0, 0, 1, 2]}, r"penalties\.group: must be from 0 to 1"),
        ({"variance": [1.0]}, r"penalties\.group: 0 values, but 4 are needed"),
    ],
)
def test_penalties_that_no_model_can_have(change: dict[str, Any], message: str):
    with pytest.raises(DataError, match=message):
        replace(penalties_of(SETTINGS, FEATURES), **{name: np.array(values) for name, values in change.items()})


def test_a_bound_on_one_side_holds():
    free = fit_entity_models(ROWS, SETTINGS, TASK, FEATURES).table.means
    for name, bound in (("upper", -0.1), ("lower", 0.1)):
        penalties = replace(penalties_of(SETTINGS, FEATURES), **{name: np.full(FEATURES + 1, bound)})
        held = fit_entity_models(ROWS, SETTINGS, TASK, FEATURES, penalties=penalties).table.means
        assert not np.all(free <= bound if name == "upper" else free >= bound)
        assert np.all(held <= bound if name == "upper" else held >= bound)


def test_tables_of_other_types_mean_the_same():
    whole = fit_entity_models(ROWS, SETTINGS, TASK, FEATURES).table
    other = CoefficientTable(
        whole.entities, whole.offsets.astype(np.uint64), whole.features.astype(">i8"), whole.means.astype(">f8")
    )
    expected = score_entity_rows(ROWS, whole, SETTINGS)
    np.testing.assert_array_equal(score_entity_rows(ROWS, other, SETTINGS), expected)
    twice = replace(whole, entities=pa.array(["e0", "e1", "e1", "e3"]))
    with pytest.raises(DataError, match="entity 'e1' has 2 models"):
        score_entity_rows(ROWS, twice, SETTINGS)
    with pytest.raises(DataError, match="1 entities are null"):
        score_entity_rows(ROWS, replace(whole, entities=pa.array(["e0", None, "e2", "e3"])), SETTINGS)
    with pytest.raises(ValueError, match="features must be from -1 to"):
        replace(whole, features=whole.features.astype(np.int64) + 2**31)


@pytest.mark.parametrize("ids", [pa.array([b"\xff", b"b", b"c", b"d"]), ["\ud800", "b", "c", "d"]])
def test_ids_that_are_not_text(ids: Any):
    with pytest.raises(DataError, match="ids: "):
        fit_entity_models(replace(ROWS, ids=ids), SETTINGS, TASK, FEATURES)


def test_texts_are_not_looked_up_among_integers():
    models = fit_entity_models(replace(ROWS, ids=pa.array([1, 2, 3, 4])), SETTINGS, TASK, FEATURES).table
    with pytest.raises(DataError, match="ids are string, but the models' entities are int64"):
        score_entity_rows(ROWS, models, SETTINGS)


def test_the_global_objective_takes_points_of_its_size():
    data = GlobalObjective(0, ROWS.bag, 3, ROWS.label, ROWS.weight, ROWS.offset, intercept=True, threads=1)
    for call in (data.product, data.third_product, data.diagonal, data.hessian, data.margin_variance_gradient):
        with pytest.raises(DataError, match="call move_to"):
            call(*[np.zeros(4)] * {data.third_product: 2, data.diagonal: 0, data.hessian: 0}.get(call, 1))
    data.move_to(np.zeros(4))
    for call in (data.value_and_gradient, data.move_to, data.product, data.margin_variance_gradient):
        with pytest.raises(DataError, match="the intercept and 3 features, not"):
            call(np.zeros(3))
    expected = data.value_and_gradient(np.array([1.0, 2.0, 3.0, 4.0]))
    found = data.value_and_gradient(np.array([1, 2, 3, 4]))
    assert found[0] == expected[0]
    for loss in (99, "logistic_regression", True):
        with pytest.raises(ConfigError, match="loss must be one of"):
            GlobalObjective(loss, ROWS.bag, 3, ROWS.label, ROWS.weight, ROWS.offset, intercept=True, threads=1)


def test_models_of_another_kind_are_not_scored_with():
    whole = fit_entity_models(ROWS, SETTINGS, TASK, FEATURES).table
    with pytest.raises(DataError, match="the model of entity 'e0' has an intercept, and the coordinate has none"):
        score_entity_rows(ROWS, whole, Coordinate(random_effect={"entity": "e"}, bag="f", intercept=False))
    features = whole.features.copy()
    features[1:3] = features[2:0:-1]
    with pytest.raises(DataError, match="the feature indices of entity 'e0' do not ascend"):
        score_entity_rows(ROWS, replace(whole, features=features), SETTINGS)
    with pytest.raises(ValueError, match="offsets of entity 'e1' end before"):
        replace(whole, offsets=np.array([0, 9, 3, 9, len(features)]))
    with pytest.raises(ValueError, match="features cannot be float64"):
        CoefficientTable(whole.entities, whole.offsets, whole.features + 0.0, whole.means)


def test_the_global_objective_and_scores_check_alike():
    bag = ROWS.bag
    with pytest.raises(DataError, match="feature index 0 … 1"):
        GlobalObjective(0, bag, 2, ROWS.label, ROWS.weight, ROWS.offset, intercept=True, threads=1)
    with pytest.raises(DataError, match="label"):
        GlobalObjective(0, bag, 3, ROWS.label[:4], ROWS.weight, ROWS.offset, intercept=True, threads=1)
    with pytest.raises(DataError, match="feature index 0 … 1"):
        score_bag(bag, np.zeros(3), intercept=True)
    expected = np.array([ROWS.bag.values[2 * i : 2 * i + 2] @ [2.0, 4.0] + 1.0 for i in range(N)], np.float32)
    np.testing.assert_allclose(score_bag(bag, np.array([1.0, 2.0, 3.0, 4.0]), intercept=True), expected, rtol=1e-6)
