"""Coordinate descent on one entity's quadratic model, with an L1 penalty and bounds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gdmix_core.jit import njit

_LARGEST_SWEEPS = 200


@njit(cache=True, nogil=True)
def min_norm_subgradient(gradient: float, w: float, l1: float, lower: float, upper: float) -> float:
    """The smallest element of the subdifferential in one coefficient; 0 where a bound holds against it."""
    if w > 0.0:
        g = gradient + l1
    elif w < 0.0 or gradient > l1:
        g = gradient - l1
    elif gradient < -l1:
        g = gradient + l1
    else:
        g = 0.0
    if (w <= lower and g > 0.0) or (w >= upper and g < 0.0):
        return 0.0
    return g


@njit(cache=True, nogil=True)
def by_column(
    column_begin: NDArray[np.int64],
    column_row: NDArray[np.int64],
    column_value: NDArray[np.float64],
    size: int,
    intercept: bool,
    begin: int,
    end: int,
    offsets: NDArray[np.int64],
    local: NDArray[np.int32],
    values: NDArray[np.floating],
) -> None:
    """The entity's entries coefficient by coefficient, the intercept's ones among them; rows count from 0."""
    for j in range(size + 1):
        column_begin[j] = 0
    if intercept:
        column_begin[1] = end - begin
    for s in range(offsets[begin], offsets[end]):
        column_begin[local[s] + 1] += 1
    for j in range(size):
        column_begin[j + 1] += column_begin[j]
    at = column_begin[:size].copy()
    for i in range(begin, end):
        if intercept:
            column_row[at[0]] = i - begin
            column_value[at[0]] = 1.0
            at[0] += 1
        for s in range(offsets[i], offsets[i + 1]):
            j = local[s]
            column_row[at[j]] = i - begin
            column_value[at[j]] = values[s]
            at[j] += 1


@njit(cache=True, nogil=True)
def descend(
    step: NDArray[np.float64],
    dz: NDArray[np.float64],
    gradient: NDArray[np.float64],
    hessian_diagonal: NDArray[np.float64],
    curvature: NDArray[np.float64],
    w: NDArray[np.float64],
    penalty: NDArray[np.float64],
    l1: NDArray[np.float64],
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
    column_begin: NDArray[np.int64],
    column_row: NDArray[np.int64],
    column_value: NDArray[np.float64],
    rows: int,
    gtol: float,
) -> None:
    """step, dz: the move that minimises gradient·d + ½ d·H d + Σ l1 |w + d| within the bounds, and what it does to the
    margins, until no coefficient's own subgradient is above gtol. hessian_diagonal: diagonal of H."""
    step[: len(w)] = 0.0
    dz[:rows] = 0.0
    for _ in range(_LARGEST_SWEEPS):
        violation = 0.0
        for j in range(len(w)):
            g = gradient[j] + penalty[j] * step[j]
            for s in range(column_begin[j], column_begin[j + 1]):
                g += curvature[column_row[s]] * dz[column_row[s]] * column_value[s]
            at = w[j] + step[j]
            violation = max(violation, abs(min_norm_subgradient(g, at, l1[j], lower[j], upper[j])))
            free = at - g / hessian_diagonal[j]
            shrink = l1[j] / hessian_diagonal[j]
            to = max(free - shrink, 0.0) if free > 0.0 else min(free + shrink, 0.0)
            to = min(max(to, lower[j]), upper[j])
            if to == at:
                continue
            move = to - at
            step[j] = to - w[j]
            for s in range(column_begin[j], column_begin[j + 1]):
                dz[column_row[s]] += move * column_value[s]
        if violation <= gtol:
            break
