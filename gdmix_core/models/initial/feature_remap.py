"""Models over one feature list as models over another: features are the same when name and term are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gdmix_core.data.feature_list import Feature, FeatureList
from gdmix_core.models.table import INTERCEPT_INDEX, CoefficientTable

_DROPPED = -2


class FeatureRemap:
    """Gives tables of earlier models the feature indices of a coordinate, and counts what that changes.

    features: the coordinate's list; keep: whether features that it lacks are appended to it, or else dropped
    intercept: whether the coordinate's models have one. An earlier model without one gets the intercept 0 (writers
        leave out small coefficients); the intercepts of a coordinate without one are dropped.
    """

    def __init__(self, features: FeatureList, *, keep: bool, intercept: bool) -> None:
        self._names = list(features.names)
        self._index_of = {feature: index for index, feature in enumerate(self._names)}
        self._listed = len(self._names)
        self._keep = keep
        self._intercept = intercept
        self.matched: set[Feature] = set()
        self.dropped: dict[Feature, None] = {}
        self.dropped_coefficients = 0
        self.dropped_intercepts = 0
        self.added_intercepts = 0

    @property
    def features(self) -> FeatureList:
        """The coordinate's list, then the features appended so far."""
        return FeatureList(self._names)

    @property
    def appended(self) -> list[Feature]:
        return self._names[self._listed :]

    def apply(self, table: CoefficientTable, features: FeatureList) -> CoefficientTable:
        """Return the table with feature indices of `self.features`, sorted.

        features: the list that the table's indices refer to.
        """
        new = self._indices(table.features, features)[table.features]  # INTERCEPT_INDEX, -1, is the last one
        kept = new != _DROPPED
        intercepts = table.features == INTERCEPT_INDEX
        self.dropped_intercepts += int(np.count_nonzero(~kept & intercepts))
        self.dropped_coefficients += int(np.count_nonzero(~kept & ~intercepts))
        rows = np.repeat(np.arange(len(table)), np.diff(table.offsets))
        width = len(self._names) + 1
        keys = (rows * width + new - INTERCEPT_INDEX)[kept]
        means = table.means[kept]
        variances = None if table.variances is None else table.variances[kept]
        if self._intercept:
            lacking = np.setdiff1d(np.arange(len(table)), rows[intercepts]) * width
            self.added_intercepts += len(lacking)
            keys = np.concatenate([keys, lacking])
            means = np.concatenate([means, np.zeros(len(lacking))])
            variances = None if variances is None else np.concatenate([variances, np.full(len(lacking), np.nan)])
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        return CoefficientTable(
            table.entities,
            np.searchsorted(keys, np.arange(len(table) + 1) * width),
            (keys % width + INTERCEPT_INDEX).astype(np.int32),
            means[order],
            None if variances is None else variances[order],
        )

    def _indices(self, used: NDArray[np.int32], features: FeatureList) -> NDArray[np.int64]:
        """New index of each feature of the list that is used, and, last, of the intercept; int64 [features + 1]."""
        new = np.full(len(features) + 1, _DROPPED, np.int64)
        new[INTERCEPT_INDEX] = INTERCEPT_INDEX if self._intercept else _DROPPED
        for index in np.unique(used[used != INTERCEPT_INDEX]).tolist():
            feature = features.names[index]
            at = self._index_of.get(feature)
            if at is None and self._keep:
                at = self._index_of[feature] = len(self._names)
                self._names.append(feature)
            if at is None:
                self.dropped[feature] = None
                continue
            if at < self._listed:
                self.matched.add(feature)
            new[index] = at
        return new
