"""Metrics per group (per user, per query): computed within each group, then averaged over groups.

They answer what a global metric cannot: whether the order is right for each user, rather than whether the
model knows which users click a lot. Values do not depend on the order of the rows, nor on how groups are
numbered.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gdmix_core.errors import ConfigError, DataError
from gdmix_core.jit import njit
from gdmix_core.metrics.all_rows import Floats, MetricValue, Rows, exact_sum
from gdmix_core.metrics.roc import area_under_roc

Codes = NDArray[np.int64]


def auc_per_group(label: ArrayLike, score: ArrayLike, weight: ArrayLike | None, groups: ArrayLike) -> MetricValue:
    """Mean over groups of the group's weighted AUC; groups with one class only are left out, and counted.

    label, score, weight: float64 [n]; groups: int64 [n], equal numbers mean the same group (0 … G-1 is
    fastest). The mean is not weighted: each group counts once. Value None when no group has both classes.
    Raises DataError for unusable columns.
    """
    rows = Rows.checked(label, score, weight)
    return mean_per_group(rows, groups, rows.signed_weight, _group_aucs)


def precision_per_group(
    label: ArrayLike, score: ArrayLike, weight: ArrayLike | None, groups: ArrayLike, k: int
) -> MetricValue:
    """Mean over groups of the share of positives (label > 0.5) among the group's min(k, size) highest scores.

    label, score, weight: float64 [n]; groups: int64 [n], equal numbers mean the same group (0 … G-1 is
    fastest).

    - A group smaller than k is divided by its own size: no more can be shown than there is, and a group of
      positives only scores 1. (Photon ML divides by k, so its figure falls with the size of groups, whatever
      the model does.)
    - Rows tied at the cut count by the expected number of hits over a random order of them: the order of rows
      has no say, and a model that gives every row the same score gains nothing by luck.
    - Groups without positives count, as 0. Each row counts once whatever its weight; rows of weight 0 are
      absent.

    Raises ConfigError for k < 1, DataError for unusable columns.
    """
    check_depth("precision", k)
    rows = Rows.checked(label, score, weight)
    return mean_per_group(rows, groups, rows.signed_weight, lambda *by_group: _group_precisions(*by_group, k))


def check_depth(kind: str, k: int) -> None:
    if k < 1:
        raise ConfigError(f"{kind}@{k}: K must be at least 1")


def mean_per_group(
    rows: Rows, groups: ArrayLike, value: Floats, metric: Callable[[Codes, Floats, Floats], Floats]
) -> MetricValue:
    """Mean over groups of a metric of the rows of weight > 0, moved together by group.

    value: float64 [n], what the metric looks at beside the score, such as the signed weight or a gain
    metric: gets offsets, score and value; group g of G owns the rows offsets[g] : offsets[g + 1] and may be empty.
        Gives float64 [G], nan for the groups that it leaves out

    Raises DataError for codes that are no integers.
    """
    codes, score = np.asarray(groups), rows.score
    if codes.shape != rows.label.shape or (len(codes) and codes.dtype.kind not in "iu"):
        raise DataError(
            f"metrics per group need one integer group code a row ({len(rows.label)} rows); "
            f"got {codes.dtype} of shape {codes.shape}"
        )
    if not rows.weight.all():
        present = rows.weight > 0.0
        codes, score, value = codes[present], score[present], value[present]
    if len(codes) and (codes.min() < 0 or codes.max() >= 2 * len(codes)):
        codes = np.unique(codes, return_inverse=True)[1]  # raw ids: number the groups that there are
    codes = codes.astype(np.int64, copy=False)
    offsets, score, value = _move_together(codes, score, value, int(codes.max(initial=-1)) + 1)
    values = metric(offsets, score, value)
    kept = values[~np.isnan(values)]
    counted = len(kept)
    left_out = int(np.count_nonzero(np.diff(offsets))) - counted
    return MetricValue(exact_sum(kept) / counted if counted else None, counted, left_out)


@njit(cache=True, nogil=True)
def _move_together(codes: Codes, score: Floats, value: Floats, groups: int) -> tuple[Codes, Floats, Floats]:
    """Sort by group, by counting; rows keep their order within a group."""
    offsets = np.zeros(groups + 1, dtype=np.int64)
    for code in codes:
        offsets[code + 1] += 1
    for group in range(groups):
        offsets[group + 1] += offsets[group]
    next_row = offsets[:-1].copy()
    grouped_score = np.empty_like(score)
    grouped_value = np.empty_like(value)
    for row in range(len(codes)):
        place = next_row[codes[row]]
        next_row[codes[row]] += 1
        grouped_score[place] = score[row]
        grouped_value[place] = value[row]
    return offsets, grouped_score, grouped_value


@njit(cache=True, nogil=True)
def _group_aucs(offsets: Codes, score: Floats, signed_weight: Floats) -> Floats:
    """Compute the AUC of each group, float64 [G]; nan for groups that are empty or have one class only."""
    values = np.empty(len(offsets) - 1)
    for group in range(len(values)):
        first, last = offsets[group], offsets[group + 1]
        order = np.argsort(score[first:last])
        values[group] = area_under_roc(score[first:last][order], signed_weight[first:last][order])
    return values


@njit(cache=True, nogil=True)
def _group_precisions(offsets: Codes, score: Floats, signed_weight: Floats, k: int) -> Floats:
    """Compute the expected precision of the top k of each group, float64 [G]; nan for empty groups."""
    values = np.full(len(offsets) - 1, np.nan)
    for group in range(len(values)):
        first, last = offsets[group], offsets[group + 1]
        if first == last:
            continue
        shown = min(k, last - first)
        cut = np.sort(score[first:last])[last - first - shown]
        above, hits_above, tied, hits_tied = 0, 0, 0, 0
        for row in range(first, last):
            hit = 1 if signed_weight[row] > 0.0 else 0
            if score[row] > cut:
                above += 1
                hits_above += hit
            elif score[row] == cut:
                tied += 1
                hits_tied += hit
        values[group] = (hits_above + hits_tied * (shown - above) / tied) / shown
    return values
