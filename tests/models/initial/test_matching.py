"""Tables over one feature list as tables over another, against plain dictionaries by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from gdmix_core.data.feature_list import INTERCEPT, Feature, FeatureList
from gdmix_core.models.initial.feature_remap import FeatureRemap
from gdmix_core.models.table import INTERCEPT_INDEX, CoefficientTable
from tests.models.model_files import table_of

NAMES = [(name, term) for name in ("a", "b,c", "") for term in ("", "t", '"')]
lists = st.lists(st.sampled_from(NAMES), unique=True)
values = st.floats(-5, 5)


def named(table: CoefficientTable, features: FeatureList) -> dict[Any, dict[Feature, float]]:
    names = [*features.names, INTERCEPT]
    spans = zip(table.offsets, table.offsets[1:], strict=False)
    found = {}
    for entity, (begin, end) in zip(table.entities.to_pylist(), spans, strict=True):
        indices = table.features[begin:end].tolist()
        assert indices == sorted(set(indices))
        found[entity] = dict(zip((names[i] for i in indices), table.means[begin:end].tolist(), strict=True))
    return found


@st.composite
def models(draw: st.DrawFn) -> tuple[FeatureList, dict[str, dict[int, tuple[float, float]]]]:
    names = FeatureList(draw(lists))
    model = st.dictionaries(st.integers(INTERCEPT_INDEX, len(names) - 1), st.tuples(values, st.floats(0.1, 2)))
    return names, draw(st.dictionaries(st.sampled_from(["u", "v", "w"]), model))


@given(st.lists(models(), min_size=1, max_size=3), lists, st.booleans(), st.booleans())
def test_coefficients_keep_their_names(earlier, names, keep, intercept):
    matching = FeatureRemap(FeatureList(names), keep=keep, intercept=intercept)
    lost = 0
    results = []
    for features, content in earlier:
        table = table_of(content)
        results.append((named(table, features), matching.apply(table, features)))
    for before, after in results:
        expected = {}
        for entity, model in before.items():
            kept = {f: v for f, v in model.items() if f != INTERCEPT and (keep or f in names)}
            lost += len(model) - len(kept) - (INTERCEPT in model)
            expected[entity] = kept | ({INTERCEPT: model.get(INTERCEPT, 0.0)} if intercept else {})
        assert named(after, matching.features) == expected
        assert after.variances is not None
        assert len(after.variances) == len(after.means)
    assert matching.dropped_coefficients == lost
    assert matching.features.names[: len(names)] == names
    everything = {f for before, _ in results for model in before.values() for f in model} - {INTERCEPT}
    assert set(matching.appended) == (everything - set(names) if keep else set())
    assert set(matching.dropped) == (set() if keep else everything - set(names))
    assert matching.matched == everything & set(names)
    with_one = sum(INTERCEPT in model for before, _ in results for model in before.values())
    without = sum(INTERCEPT not in model for before, _ in results for model in before.values())
    assert matching.added_intercepts == (without if intercept else 0)
    assert matching.dropped_intercepts == (0 if intercept else with_one)


def test_variances_move_with_their_means_and_added_intercepts_have_none():
    table = table_of({"u": {0: (1.0, 0.1), 1: (2.0, 0.2)}})
    matching = FeatureRemap(FeatureList([("b", ""), ("a", "")]), keep=False, intercept=True)
    after = matching.apply(table, FeatureList([("a", ""), ("b", "")]))
    np.testing.assert_array_equal(after.features, [-1, 0, 1])
    np.testing.assert_array_equal(after.means, [0.0, 2.0, 1.0])
    np.testing.assert_array_equal(after.variances, [np.nan, 0.2, 0.1])


@given(st.lists(st.integers(0, 2), max_size=6))
def test_take(rows):
    table = table_of({"u": {-1: (1.0, 0.1), 1: (2.0, 0.2)}, "v": {}, "w": {0: (3.0, 0.3)}})
    taken = table.take(np.array(rows, np.int64))
    assert taken.entities.equals(pa.array([["u", "v", "w"][r] for r in rows], pa.string()))
    for position, row in enumerate(rows):
        one, expected = taken.between(position, position + 1), table.between(row, row + 1)
        np.testing.assert_array_equal(one.features, expected.features)
        np.testing.assert_array_equal(one.means, expected.means)
        np.testing.assert_array_equal(one.variances, expected.variances)
