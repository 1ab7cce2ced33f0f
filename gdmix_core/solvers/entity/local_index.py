"""Local indices: an entity's model holds only the features its own training rows have, numbered from its intercept."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gdmix_core.jit import njit

INTERCEPT_INDEX = -1


@njit(cache=True, nogil=True)
def build_local_index(
    intercept: bool,
    feature_count: int,
    row_begin: NDArray[np.int64],
    row_end: NDArray[np.int64],
    scored_end: NDArray[np.int64],
    offsets: NDArray[np.int64],
    indices: NDArray[np.int32],
    local: NDArray[np.int32],
    coefficient_begin: NDArray[np.int64],
    features: NDArray[np.int32],
) -> int:
    """Fill local, coefficient_begin and features; return the number of coefficients.

    row_begin, row_end: rows entity e trains on; scored_end[e] ≥ row_end[e]: its further rows are scored only.
    indices: int32 [entries] global feature of each entry; local: out, its position in the entity's model, or −1
    coefficient_begin: int64 [E + 1], out; features: int32, out, ascending within an entity after INTERCEPT_INDEX;
        it must have room for E + (training entries).
    """
    position = np.full(feature_count, -1, np.int32)
    used = 0
    for e in range(len(row_begin)):
        coefficient_begin[e] = used
        if row_begin[e] == row_end[e]:
            for s in range(offsets[row_begin[e]], offsets[scored_end[e]]):
                local[s] = -1
            continue
        if intercept:
            features[used] = INTERCEPT_INDEX
            used += 1
        first = used
        for s in range(offsets[row_begin[e]], offsets[row_end[e]]):
            j = indices[s]
            if position[j] < 0:
                position[j] = 0
                features[used] = j
                used += 1
        sort_in_place(features, first, used)
        for k in range(first, used):
            position[features[k]] = k - coefficient_begin[e]
        for s in range(offsets[row_begin[e]], offsets[scored_end[e]]):
            local[s] = position[indices[s]]
        for k in range(first, used):
            position[features[k]] = -1
    coefficient_begin[len(row_begin)] = used
    return used


@njit(cache=True, nogil=True)
def sort_in_place(a: NDArray[np.int32], begin: int, end: int) -> None:
    """Ascending; by insertion while that is cheaper than a call of the library's sort."""
    if end - begin > 64:
        a[begin:end] = np.sort(a[begin:end])
        return
    for i in range(begin + 1, end):
        value = a[i]
        k = i
        while k > begin and a[k - 1] > value:
            a[k] = a[k - 1]
            k -= 1
        a[k] = value


@njit(cache=True, nogil=True)
def look_up_local_index(
    intercept: bool,
    model_of: NDArray[np.int64],
    row_begin: NDArray[np.int64],
    row_end: NDArray[np.int64],
    offsets: NDArray[np.int64],
    indices: NDArray[np.int32],
    coefficient_begin: NDArray[np.int64],
    features: NDArray[np.int32],
    local: NDArray[np.int32],
) -> None:
    """Positions of other rows' features in models that exist already.

    model_of: int64 [E] model of each group of rows row_begin[e] … row_end[e]−1, or −1 for none
    local: int32 [entries], out: position in that model, −1 where it has no such feature
    """
    for e in range(len(row_begin)):
        m = model_of[e]
        for s in range(offsets[row_begin[e]], offsets[row_end[e]]):
            local[s] = -1
            if m < 0:
                continue
            low = coefficient_begin[m] + (1 if intercept else 0)
            high = coefficient_begin[m + 1]
            while low < high:
                middle = (low + high) // 2
                if features[middle] < indices[s]:
                    low = middle + 1
                else:
                    high = middle
            if low < coefficient_begin[m + 1] and features[low] == indices[s]:
                local[s] = low - coefficient_begin[m]


@njit(cache=True, nogil=True)
def score_rows(
    intercept: bool,
    model_of: NDArray[np.int64],
    row_begin: NDArray[np.int64],
    row_end: NDArray[np.int64],
    offsets: NDArray[np.int64],
    local: NDArray[np.int32],
    values: NDArray[np.floating],
    coefficient_begin: NDArray[np.int64],
    w: NDArray[np.float64],
    scores: NDArray[np.float32],
) -> None:
    """scores[i] = x_i · w of the row's entity, summed in float64; 0 for an entity without a model."""
    for e in range(len(row_begin)):
        m = model_of[e]
        has_model = m >= 0 and coefficient_begin[m + 1] > coefficient_begin[m]
        for i in range(row_begin[e], row_end[e]):
            total = 0.0
            if has_model:
                first = coefficient_begin[m]
                if intercept:
                    total = w[first]
                for s in range(offsets[i], offsets[i + 1]):
                    if local[s] >= 0:
                        total += values[s] * w[first + local[s]]
            scores[i] = total
