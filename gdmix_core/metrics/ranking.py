"""Metrics of the order within each group that look at more than hits: NDCG and the mean reciprocal rank.

As the other metrics per group: values depend neither on the order of the rows nor on how groups are numbered, rows of
equal score are taken in every order at once (the expectation over random orders of them), each row counts once
whatever its weight, rows of weight 0 are absent, and each group counts once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from gdmix_core.errors import DataError
from gdmix_core.jit import njit
from gdmix_core.metrics.all_rows import Floats, MetricValue, Rows
from gdmix_core.metrics.grouped import Codes, check_depth, mean_per_group

# 2^label as a gain stays far from float64's end, whatever the size of a group.
_LARGEST_GRADE = 500.0


def ndcg_per_group(
    label: ArrayLike, score: ArrayLike, weight: ArrayLike | None, groups: ArrayLike, k: int
) -> MetricValue:
    """Mean over groups of DCG@k / ideal DCG@k: how good the first k are, the first places counting most.

    label: float64 [n], >= 0, 0/1 or graded; score, weight: float64 [n]; groups: int64 [n], equal numbers mean the same
    group (0 … G-1 is fastest).

    - A row at place i = 1, 2, … of its group by descending score adds gain / log2(i + 1), for i <= k. The gain is
      2^label - 1 (Burges et al. 2005), which for labels 0 and 1 is the label itself.
    - The ideal is the DCG@k of the group's own rows by descending label.
    - Tied rows each get the mean of the discounts of the places they share (McSherry and Najork 2008), so a constant
      score gains nothing by luck.
    - Groups without a row of label > 0 have no ideal: they are left out, and counted as such.

    Raises ConfigError for k < 1, DataError for unusable columns and for labels that are no grades.
    """
    check_depth("ndcg", k)
    rows = Rows.checked(label, score, weight)
    if len(rows.label) and not (rows.label.min() >= 0.0 and rows.label.max() <= _LARGEST_GRADE):
        worst = rows.label.min() if rows.label.min() < 0.0 else rows.label.max()
        raise DataError(
            f"ndcg needs labels that are grades, 0 or more, with gain 2^label - 1; a row has label {worst:g}. "
            "Use another metric, or grade the label"
        )

    def ndcgs(offsets: Codes, score: Floats, gain: Floats) -> Floats:
        return _group_ndcgs(offsets, score, gain, _discounts(offsets, k), k)

    return mean_per_group(rows, groups, np.exp2(rows.label) - 1.0, ndcgs)


def mrr_per_group(
    label: ArrayLike, score: ArrayLike, weight: ArrayLike | None, groups: ArrayLike, k: int
) -> MetricValue:
    """Mean over groups of 1 / the place of the first positive (label > 0.5), 0 where it comes after place k.

    label, score, weight: float64 [n]; groups: int64 [n], equal numbers mean the same group (0 … G-1 is fastest).

    - Among tied rows the place of the first positive is taken over every order of them: with h positives of t rows
      it is the j-th with the (negative hypergeometric) probability C(t - j, h - 1) / C(t, h).
    - Groups without a positive have no such place: they are left out, and counted as such.

    Raises ConfigError for k < 1, DataError for unusable columns.
    """
    check_depth("mrr", k)
    rows = Rows.checked(label, score, weight)
    positive = (rows.label > 0.5).astype(np.float64)
    return mean_per_group(rows, groups, positive, lambda *by_group: _group_reciprocal_ranks(*by_group, k))


def _discounts(offsets: Codes, k: int) -> Floats:
    """Compute 1 / log2(i + 1), float64, of the places i = 1 … that any group can fill."""
    places = min(k, int(np.diff(offsets).max(initial=0)))
    return 1.0 / np.log2(np.arange(2, places + 2, dtype=np.float64))


@njit(cache=True, nogil=True)
def _group_ndcgs(offsets: Codes, score: Floats, gain: Floats, discounts: Floats, k: int) -> Floats:
    """Compute NDCG@k of each group, float64 [G]; nan for groups without gain."""
    values = np.full(len(offsets) - 1, np.nan)
    for group in range(len(values)):
        first, last = offsets[group], offsets[group + 1]
        rows = last - first
        shown = min(k, rows)
        best = np.sort(gain[first:last])[::-1]
        ideal = 0.0
        for place in range(shown):
            ideal += best[place] * discounts[place]
        if ideal == 0.0:
            continue
        order = np.argsort(-score[first:last])
        by_score, gains = score[first:last][order], gain[first:last][order]
        total = 0.0
        place = 0
        while place < shown:
            end = place + 1
            while end < rows and by_score[end] == by_score[place]:
                end += 1
            tied_gain, discount = 0.0, 0.0
            # In order of gain, so that the order in which rows came cannot move the last bit.
            for one in np.sort(gains[place:end]):
                tied_gain += one
            for shared in range(place, min(end, shown)):
                discount += discounts[shared]
            total += tied_gain / (end - place) * discount
            place = end
        # A perfect order may exceed 1 by a rounding error of the two sums.
        values[group] = min(total / ideal, 1.0)
    return values


@njit(cache=True, nogil=True)
def _group_reciprocal_ranks(offsets: Codes, score: Floats, positive: Floats, k: int) -> Floats:
    """Compute the expected 1 / place of each group's first positive, float64 [G]; nan for groups without one."""
    values = np.full(len(offsets) - 1, np.nan)
    for group in range(len(values)):
        first, last = offsets[group], offsets[group + 1]
        top, found = -np.inf, False
        for row in range(first, last):
            if positive[row] > 0.0 and (not found or score[row] > top):
                top, found = score[row], True
        if not found:
            continue
        above, tied, hits = 0, 0, 0
        for row in range(first, last):
            if score[row] > top:
                above += 1
            elif score[row] == top:
                tied += 1
                if positive[row] > 0.0:
                    hits += 1
        expected = 0.0
        probability = hits / tied
        for j in range(1, min(tied - hits + 1, k - above) + 1):
            expected += probability / (above + j)
            if j < tied:
                probability *= (tied - j - hits + 1) / (tied - j)
        values[group] = expected
    return values
