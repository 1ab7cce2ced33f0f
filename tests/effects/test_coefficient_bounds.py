"""Bounds by name and term: which coefficients they limit, and what is told when they are wrong."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdmix_core.config.coordinate import Coordinate
from gdmix_core.data.feature_list import FeatureList
from gdmix_core.effects.bounds import limits
from gdmix_core.errors import ConfigError

FEATURES = FeatureList([("age", ""), ("genre", "Comedy"), ("genre", "Drama"), ("price", "a*b"), ("price", "[x]?")])


def coordinate(*bounds: dict[str, Any], **others: Any) -> Coordinate:
    return Coordinate.model_validate({"fixed_effect": {}, "bag": "b", "bounds": list(bounds), **others})


def test_by_name_term_and_wildcards() -> None:
    lower, upper = limits(
        coordinate(
            {"name": "genre", "lower": 0},
            {"name": "age", "term": "", "upper": 2.5},
            {"name": "pr*", "term": "[*]?", "lower": -1, "upper": 1},
            {"name": "(INTERCEPT)", "term": "", "upper": 9},
        ),
        FEATURES,
    )
    inf = np.inf
    np.testing.assert_array_equal(lower, [-inf, -inf, 0, 0, -inf, -1])
    np.testing.assert_array_equal(upper, [9, 2.5, inf, inf, inf, 1])


def test_without_bounds_nothing_is_limited() -> None:
    lower, upper = limits(coordinate(), FEATURES)
    assert np.all(lower == -np.inf)
    assert np.all(upper == np.inf)
    assert len(lower) == len(upper) == 6


def test_a_wildcard_leaves_the_intercept_alone() -> None:
    lower, _ = limits(coordinate({"lower": 0}), FEATURES)
    np.testing.assert_array_equal(lower, [-np.inf, 0, 0, 0, 0, 0])


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        (
            [{"name": "genre", "lower": 0}, {"term": "Dr*", "upper": 1}],
            r"bounds 1 \(name 'genre', term '\*'\) and 2 \(name '\*', term 'Dr\*'\) both match the feature 'genre', "
            "term 'Drama'",
        ),
        ([{"name": "genres", "lower": 0}], r"bound 1 .* none of the 5 features; did you mean name 'genre'\?"),
        ([{"name": "genre", "term": "drama", "lower": 0}], r"did you mean term 'Drama'\?"),
        ([{"name": "xyz", "lower": 0}], r"none of the 5 features; they are named like 'age', term ''"),
        ([{"name": "(INTERCEPT)", "lower": 0}, {"name": "(INTERCEPT)", "upper": 5}], "both match the intercept"),
    ],
)
def test_mistakes_are_told(bounds: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        limits(coordinate(*bounds), FEATURES)


text = st.text("ab*", max_size=4)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.text("ab", max_size=4), st.text("ab", max_size=4)), unique=True), text, text)
def test_matches_as_fnmatch_does(names: list[tuple[str, str]], name: str, term: str) -> None:
    expected = [fnmatchcase(n, name) and fnmatchcase(t, term) for n, t in names]
    bounded = coordinate({"name": name, "term": term, "lower": 1})
    if not any(expected):
        with pytest.raises(ConfigError, match="matches none"):
            limits(bounded, FeatureList(names))
    else:
        lower, _ = limits(bounded, FeatureList(names))
        np.testing.assert_array_equal(lower[1:] == 1, expected)
