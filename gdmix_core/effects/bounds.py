"""Limits of coefficients, from the patterns of the configuration to one interval for each coefficient."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from gdmix_core.config.coordinate import Bound, Coordinate
from gdmix_core.data.feature_list import INTERCEPT, Feature, FeatureList
from gdmix_core.errors import ConfigError

_COMPARED = 20_000  # features looked at for one that is spelled almost as a bound that matches none


def limits(settings: Coordinate, features: FeatureList) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (lower, upper), each float64 [features + 1], the intercept first; ∓inf where there is no bound.

    In a bound's name and term, * matches any text, also none; other characters match themselves. The intercept is
    bounded by its literal name only. Raises ConfigError when two bounds match the same coefficient, or one matches
    none.
    """
    lower = np.full(len(features) + 1, -np.inf)
    upper = np.full(len(features) + 1, np.inf)
    owner = np.full(len(features) + 1, -1)
    for number, bound in enumerate(settings.bounds):
        matched = _matches(bound, number, features)
        taken = matched[owner[matched] >= 0]
        if len(taken):
            first = int(taken[0])
            raise ConfigError(
                f"bounds {owner[first] + 1} ({_named(settings.bounds[owner[first]])}) and {number + 1} "
                f"({_named(bound)}) both match {_feature(features, first)}; make them disjoint"
            )
        owner[matched] = number
        if bound.lower is not None:
            lower[matched] = bound.lower
        if bound.upper is not None:
            upper[matched] = bound.upper
    return lower, upper


def limits_of(
    coordinate: str, settings: Coordinate, features: FeatureList
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what `limits` returns, with the coordinate's name in its errors."""
    try:
        return limits(settings, features)
    except ConfigError as error:
        raise ConfigError(f"coordinate {coordinate}: {error}") from None


def _matches(bound: Bound, number: int, features: FeatureList) -> NDArray[np.int64]:
    """Return positions of the coefficients that the bound limits, ascending. Raises ConfigError when there are none."""
    if bound.name == INTERCEPT[0]:
        return np.zeros(1, np.int64)
    if "*" not in bound.name + bound.term:
        index = features.index(bound.name, bound.term)
        found = [] if index is None else [index]
    else:
        name, term = _pattern(bound.name), _pattern(bound.term)
        found = [i for i, (n, t) in enumerate(features.names) if name.fullmatch(n) and term.fullmatch(t)]
    if not found:
        raise ConfigError(
            f"bound {number + 1} ({_named(bound)}) matches none of the {len(features)} features"
            f"{_suggestion(bound, features)}; correct it or remove it"
        )
    return np.array(found, np.int64) + 1


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in text.split("*")), re.DOTALL)


def _named(bound: Bound) -> str:
    return f"name {bound.name!r}, term {bound.term!r}"


def _feature(features: FeatureList, position: int) -> str:
    if position == 0:
        return "the intercept"
    name, term = features.names[position - 1]
    return f"the feature {name!r}" + (f", term {term!r}" if term else "")


def _suggestion(bound: Bound, features: FeatureList) -> str:
    """Return the name that is nearest, or, where the name occurs, the term that is."""
    if name := _nearest(bound.name, (n for n, _ in features.names[:_COMPARED])):
        if name != bound.name:
            return f"; did you mean name {name!r}?"
        terms = _nearest(bound.term, (t for n, t in features.names[:_COMPARED] if n == name))
        return f"; did you mean term {terms!r}?" if terms is not None else f" (terms of {name!r} are others)"
    example: Feature | None = features.names[0] if len(features) else None
    return f"; they are named like {example[0]!r}, term {example[1]!r}" if example else ""


def _nearest(text: str, candidates: Iterable[str]) -> str | None:
    found = difflib.get_close_matches(text, dict.fromkeys(candidates), n=1)
    return found[0] if found else None
