"""Features put together from attributes, against plain Python dictionaries."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdmix_core.samples.features import Features, categories, category_sets, flags, number, side_by_side


def as_dictionaries(features: Features) -> list[dict[tuple[str, str], float]]:
    bag = features.bag()
    rows = zip(bag.offsets[:-1], bag.offsets[1:], strict=True)
    return [
        {features.names[j]: float(v) for j, v in zip(bag.indices[a:b], bag.values[a:b], strict=True)} for a, b in rows
    ]


def test_number_leaves_out_what_is_missing_or_negligible() -> None:
    features = number("age", np.array([0.5, np.nan, 0.0, 1e-6, -1e-6, 2e-6, -3.0]))
    assert features.names == (("age", ""),)
    values = [row.get(("age", "")) for row in as_dictionaries(features)]
    assert values == [0.5, None, None, None, None, pytest.approx(2e-6), -3.0]


def test_categories_are_sorted_and_null_has_none() -> None:
    features = categories(pa.array(["writer", None, "artist", "writer"]), name="occupation")
    assert features.names == (("occupation", "artist"), ("occupation", "writer"))
    assert as_dictionaries(features) == [
        {("occupation", "writer"): 1.0},
        {},
        {("occupation", "artist"): 1.0},
        {("occupation", "writer"): 1.0},
    ]


def test_without_a_name_the_string_is_the_name() -> None:
    assert categories(pa.array(["F", "M"]), terms=("M", "F")).names == (("M", ""), ("F", ""))


def test_categories_of_several_chunks() -> None:
    features = categories(pa.chunked_array([["b"], ["a", "b"]]), name="x")
    assert [next(iter(row)) for row in as_dictionaries(features)] == [("x", "b"), ("x", "a"), ("x", "b")]


@given(
    rows=st.lists(st.lists(st.sampled_from("abcdef"), max_size=5), min_size=1, max_size=20),
    terms=st.one_of(st.none(), st.lists(st.sampled_from("abcdef"), unique=True, max_size=6)),
)
def test_category_sets(rows: list[list[str]], terms: list[str] | None) -> None:
    features = category_sets(pa.array(rows, pa.list_(pa.string())), name="g", terms=terms)
    known = terms if terms is not None else sorted({term for row in rows for term in row})
    assert features.names == tuple(("g", term) for term in known)
    assert as_dictionaries(features) == [{("g", t): 1.0 for t in row if t in known} for row in rows]
    bag = features.bag()
    assert (bag.offsets.dtype, bag.indices.dtype, bag.values.dtype) == (np.int64, np.int32, np.float32)
    for a, b in zip(bag.offsets[:-1], bag.offsets[1:], strict=True):
        assert (np.diff(bag.indices[a:b]) > 0).all()


def test_side_by_side_and_rows() -> None:
    year = number("year", np.array([1.5, np.nan, 2.5]))
    genres = flags(("action", "drama"), [np.array([1, 0, 1]), np.array([0, 0, 1])])
    both = side_by_side([year, genres]).rows(np.array([2, 2, 1]))
    full = {("year", ""): 2.5, ("action", ""): 1.0, ("drama", ""): 1.0}
    assert as_dictionaries(both) == [full, full, {}]


def test_a_feature_in_two_parts_is_refused() -> None:
    year = number("year", np.array([1.5]))
    with pytest.raises(AssertionError, match="stands twice"):
        side_by_side([year, year])
