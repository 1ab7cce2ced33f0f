"""Per-entity feature selection: an entity with few rows keeps the features that say most about its label."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from gdmix_core.jit import njit

# A constant deviates from its mean by so much of it, as the mean is rounded.
_ROUNDING = 1e-12


@njit(cache=True, nogil=True)
def select_features(
    ratio: float,
    intercept: bool,
    row_begin: NDArray[np.int64],
    row_end: NDArray[np.int64],
    scored_end: NDArray[np.int64],
    offsets: NDArray[np.int64],
    local: NDArray[np.int32],
    values: NDArray[np.floating],
    label: NDArray[np.float64],
    coefficient_begin: NDArray[np.int64],
    features: NDArray[np.int32],
) -> int:
    """Keep, of each entity's features, the ceil(ratio · n) with the largest |Pearson correlation| with the label over
    its n training rows (absent entries count as 0; weights and offsets do not count; of equals the first features).

    In and out, as local_index.build_local_index fills them: local, −1 where a feature is not kept; coefficient_begin;
    features. The intercept is always kept and not counted. Returns the number of coefficients.
    """
    used = 0
    for e in range(len(row_begin)):
        begin, end = row_begin[e], row_end[e]
        first, last = coefficient_begin[e], coefficient_begin[e + 1]
        coefficient_begin[e] = used
        size = last - first
        slopes = size - 1 if intercept and size > 0 else size
        wanted = math.ceil(ratio * (end - begin))
        if wanted >= slopes:
            for k in range(first, last):
                features[used] = features[k]
                used += 1
            continue
        base = size - slopes
        correlation = np.abs(correlations(size, begin, end, offsets, local, values, label))[base:]
        # mergesort: equals stay in their order, so that which features are kept is the same everywhere.
        order = np.argsort(-correlation, kind="mergesort")
        position = np.full(size, -1, np.int32)
        for k in range(base):
            position[k] = k
        chosen = np.sort(order[:wanted])
        for k in range(wanted):
            position[chosen[k] + base] = k + base
        for k in range(size):
            if position[k] >= 0:
                features[used] = features[first + k]
                used += 1
        for s in range(offsets[begin], offsets[scored_end[e]]):
            if local[s] >= 0:
                local[s] = position[local[s]]
    coefficient_begin[len(row_begin)] = used
    return used


@njit(cache=True, nogil=True)
def correlations(
    size: int,
    begin: int,
    end: int,
    offsets: NDArray[np.int64],
    local: NDArray[np.int32],
    values: NDArray[np.floating],
    label: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return float64 [size]: Pearson's correlation of each feature with the label; 0 where either is constant."""
    n = end - begin
    mean_label = 0.0
    for i in range(begin, end):
        mean_label += label[i] / n
    label_squares = 0.0
    for i in range(begin, end):
        label_squares += (label[i] - mean_label) ** 2
    mean, absent = np.zeros(size), np.full(size, n)
    for s in range(offsets[begin], offsets[end]):
        mean[local[s]] += values[s] / n
        absent[local[s]] -= 1
    # Around the means, so that nothing cancels: a row without an entry deviates by −mean.
    squares = absent * mean * mean
    products = np.zeros(size)
    for i in range(begin, end):
        for s in range(offsets[i], offsets[i + 1]):
            j = local[s]
            deviation = values[s] - mean[j]
            squares[j] += deviation * deviation
            products[j] += values[s] * (label[i] - mean_label)
    found = np.zeros(size)
    for j in range(size):
        if squares[j] > n * (_ROUNDING * mean[j]) ** 2 and label_squares > n * (_ROUNDING * mean_label) ** 2:
            found[j] = products[j] / math.sqrt(squares[j] * label_squares)
    return found


@njit(cache=True, nogil=True)
def without_unused(
    offsets: NDArray[np.int64], local: NDArray[np.int32], values: NDArray[np.floating]
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.floating]]:
    """Return the rows (offsets, local, values) without the entries whose local position is −1."""
    kept = 0
    for s in range(len(local)):
        if local[s] >= 0:
            kept += 1
    new_offsets, new_local, new_values = np.zeros_like(offsets), np.empty(kept, np.int32), np.empty(kept, values.dtype)
    at = 0
    for i in range(len(offsets) - 1):
        for s in range(offsets[i], offsets[i + 1]):
            if local[s] >= 0:
                new_local[at] = local[s]
                new_values[at] = values[s]
                at += 1
        new_offsets[i + 1] = at
    return new_offsets, new_local, new_values
