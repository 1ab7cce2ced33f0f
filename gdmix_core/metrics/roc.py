"""The area under the ROC curve of rows in score order; the global and the grouped metric share it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gdmix_core.jit import njit


@njit(cache=True, nogil=True)
def area_under_roc(score: NDArray[np.float64], signed_weight: NDArray[np.float64]) -> float:
    """Compute the weighted AUC of rows sorted by ascending score; nan when one class has no weight.

    score:         float64 [n], ascending
    signed_weight: float64 [n], +weight of a positive row, -weight of a negative one

    AUC = U / (P N): P and N are the weights of the two classes and U is the Mann-Whitney statistic, the
    summed product of weights over all (positive, negative) pairs in which the positive scores higher, pairs
    with equal scores counting half (Hanley and McNeil 1982). Rows of equal score are summed in order of
    weight, so the order in which they came cannot move the last bit.
    """
    statistic, positives, negatives = 0.0, 0.0, 0.0
    rows = len(score)
    first = 0
    while first < rows:
        last = first + 1
        equal_weights = True
        while last < rows and score[last] == score[first]:
            equal_weights &= abs(signed_weight[last]) == abs(signed_weight[first])
            last += 1
        tied = signed_weight[first:last]
        if not equal_weights:
            tied = np.sort(tied)
        tied_positives, tied_negatives = 0.0, 0.0
        for weight in tied:
            if weight > 0.0:
                tied_positives += weight
            else:
                tied_negatives -= weight
        statistic += tied_positives * (negatives + 0.5 * tied_negatives)
        positives += tied_positives
        negatives += tied_negatives
        first = last
    if positives == 0.0 or negatives == 0.0:
        return np.nan
    # A perfect order may exceed 1 by a rounding error of the three sums.
    return min(statistic / (positives * negatives), 1.0)


@njit(cache=True, nogil=True)
def area_under_unweighted_roc(positives: NDArray[np.float64], negatives: NDArray[np.float64]) -> float:
    """Compute the AUC of rows of weight 1 from the ascending scores of either class; float64 [P], [N].

    To sort numbers alone is several times faster than to order rows by them.
    """
    statistic = 0.0
    below, up_to = 0, 0  # how many negatives are below a positive's score, and how many are not above it
    for score in positives:
        while below < len(negatives) and negatives[below] < score:
            below += 1
        up_to = max(up_to, below)
        while up_to < len(negatives) and negatives[up_to] == score:
            up_to += 1
        statistic += 0.5 * (below + up_to)
    if len(positives) == 0 or len(negatives) == 0:
        return np.nan
    return min(statistic / (float(len(positives)) * len(negatives)), 1.0)
