"""Earlier and new models brought together, against dictionaries of dictionaries."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_files import Model, assert_same, table_of

from gdmix_core.models.alignment import look_up, merge_models, positions, slice_entities
from gdmix_core.models.table import CoefficientTable

Models = dict[Any, Model]

model = st.dictionaries(
    st.integers(-1, 6), st.tuples(st.floats(-9, 9), st.one_of(st.floats(0.1, 9), st.just(float("nan")))), max_size=6
)
integers, texts = st.integers(-(2**40), 2**40), st.text("abé☃ ", max_size=3)


@st.composite
def two_tables(draw: st.DrawFn) -> tuple[Models, Models, pa.DataType]:
    """Tables of the same kind of entity, with some entities in common."""
    ids = draw(st.lists(draw(st.sampled_from([integers, texts])), unique=True, max_size=8))
    both = [{i: draw(model) for i in ids if draw(st.booleans())} for _ in range(2)]
    kind = pa.string() if any(isinstance(i, str) for i in ids) else pa.int64()
    return both[0], both[1], kind


def table(models: Models, kind: pa.DataType, variances: bool = True) -> CoefficientTable:
    made = table_of(models, variances)
    return CoefficientTable(made.entities.cast(kind), made.offsets, made.features, made.means, made.variances)


def ordered(ids: Any) -> list[Any]:
    return sorted(ids, key=lambda i: i.encode() if isinstance(i, str) else i)


@given(two_tables(), st.booleans())
def test_look_up(tables: tuple[Models, Models, pa.DataType], variances: bool):
    wanted, known, kind = tables
    asked = table(wanted, kind)
    means, spread = look_up(table(known, kind, variances), asked.entities, asked.offsets, asked.features)
    at = 0
    for entity in ordered(wanted):
        for feature in sorted(wanted[entity]):
            mean, variance = known.get(entity, {}).get(feature, (np.nan, np.nan))
            np.testing.assert_equal(means[at], mean)
            np.testing.assert_equal(spread[at], variance if variances else np.nan)
            at += 1
    assert at == len(means) == len(spread)


@given(two_tables())
def test_covering_holds_every_entity_asked_for_and_nothing_outside(tables: tuple[Models, Models, pa.DataType]):
    models, asked, kind = tables
    ids = ordered(asked)
    found = slice_entities(table(models, kind), pa.array(ids, kind))
    if not ids:
        assert len(found) == 0
        return
    inside = {i: m for i, m in models.items() if ordered([ids[0], i, ids[-1]])[1] == i}
    assert_same(found, table(inside, kind))


@given(two_tables(), st.booleans(), st.booleans(), st.tuples(st.booleans(), st.booleans()))
def test_completed(tables, entities: bool, features: bool, variances: tuple[bool, bool]):
    mine, earlier, kind = tables
    found, models, coefficients = merge_models(
        table(mine, kind, variances[0]), table(earlier, kind, variances[1]), entities=entities, features=features
    )

    def told(models: Models, known: bool) -> Models:
        return {i: {j: (m, v if known else np.nan) for j, (m, v) in c.items()} for i, c in models.items()}

    new, old = told(mine, variances[0]), told(earlier, variances[1])
    both = [i for i in new if new[i] and old.get(i)]
    expected = {}
    for i in [*new, *(j for j in old if j not in new and entities)]:
        kept = old.get(i, {}) if (features if i in both else entities) else {}
        expected[i] = {**kept, **new.get(i, {})}
    assert_same(found, table(expected, kind, any(variances)))
    assert models == len(both)
    assert coefficients == sum(len(set(old[i]) - set(new[i])) for i in both)


def test_what_both_have_is_the_new_models():
    new, old = {5: {-1: (1.0, 0.1), 2: (2.0, 0.2)}}, {5: {-1: (9.0, 0.9), 1: (8.0, 0.8), 2: (7.0, 0.7)}}
    found, models, coefficients = merge_models(table_of(new), table_of(old), entities=True, features=True)
    assert_same(found, table_of({5: {-1: (1.0, 0.1), 1: (8.0, 0.8), 2: (2.0, 0.2)}}))
    assert (models, coefficients) == (1, 1)


def test_an_entity_whose_new_model_is_empty_counts_as_one_without_data():
    """Below samples.min it has a row in the table, and no coefficient."""
    old = {5: {-1: (9.0, 0.9)}}
    kept, models, _ = merge_models(table_of({5: {}}), table_of(old), entities=True, features=False)
    assert_same(kept, table_of(old))
    assert models == 0
    dropped, _, _ = merge_models(table_of({5: {}}), table_of(old), entities=False, features=True)
    assert_same(dropped, table_of({5: {}}))


@pytest.mark.parametrize("kind", [pa.int64(), pa.string()])
def test_empty_tables(kind: pa.DataType):
    empty = table({}, kind)
    found, models, coefficients = merge_models(empty, empty, entities=True, features=True)
    assert_same(found, empty)
    assert found.entities.type == kind
    assert (models, coefficients) == (0, 0)
    assert len(slice_entities(empty, empty.entities)) == 0
    means, variances = look_up(empty, empty.entities, empty.offsets, empty.features)
    assert len(means) == len(variances) == 0


def test_variances_in_one_table_only():
    new, old = {1: {-1: (1.0, 0.1)}}, {2: {-1: (2.0, 0.2)}}
    nan = float("nan")
    found, _, _ = merge_models(table_of(new, False), table_of(old), entities=True, features=False)
    assert_same(found, table_of({1: {-1: (1.0, nan)}, 2: {-1: (2.0, 0.2)}}))
    found, _, _ = merge_models(table_of(new), table_of(old, False), entities=True, features=False)
    assert_same(found, table_of({1: {-1: (1.0, 0.1)}, 2: {-1: (2.0, nan)}}))
    found, _, _ = merge_models(table_of(new, False), table_of(old, False), entities=True, features=False)
    assert found.variances is None


def test_positions():
    found = positions(pa.array(["a", "c", "d"]), pa.array(["d", "b", "a"]))
    assert found.dtype == np.int64
    assert found.tolist() == [2, -1, 0]
