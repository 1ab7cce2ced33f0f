"""Coordinate descent on one entity's quadratic model, with an L1 penalty and bounds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gdmix_core.jit import njit
from gdmix_core.solvers.entity.problem import Constraints, Features

_LARGEST_SWEEPS = 200


@njit(cache=True, nogil=True)
def min_norm_subgradient(gradient: float, w: float, l1: float, lower: float, upper: float) -> float:
    """Return the smallest element of the subdifferential in one coefficient; 0 where a bound holds against it."""
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


class Columns(NamedTuple):
    """An entity's entries coefficient by coefficient, the intercept's ones among them; rows count from 0.

    begin: int64 [coefficients + 1]; row int64, value float64 [entries]
    """

    begin: NDArray[np.int64]
    row: NDArray[np.int64]
    value: NDArray[np.float64]


@njit(cache=True, nogil=True)
def by_column(columns: Columns, size: int, features: Features, begin: int, end: int) -> None:
    """Fill the columns with the entries of the rows begin … end−1."""
    first, row, value = columns.begin, columns.row, columns.value
    for j in range(size + 1):
        first[j] = 0
    if features.intercept:
        first[1] = end - begin
    for s in range(features.offsets[begin], features.offsets[end]):
        first[features.local[s] + 1] += 1
    for j in range(size):
        first[j + 1] += first[j]
    at = first[:size].copy()
    for i in range(begin, end):
        if features.intercept:
            row[at[0]] = i - begin
            value[at[0]] = 1.0
            at[0] += 1
        for s in range(features.offsets[i], features.offsets[i + 1]):
            j = features.local[s]
            row[at[j]] = i - begin
            value[at[j]] = features.values[s]
            at[j] += 1


@njit(cache=True, nogil=True)
def descend(
    step: NDArray[np.float64],
    dz: NDArray[np.float64],
    gradient: NDArray[np.float64],
    curvature: NDArray[np.float64],
    w: NDArray[np.float64],
    precision: NDArray[np.float64],
    constraints: Constraints,
    columns: Columns,
    count: int,
    hessian_diagonal: NDArray[np.float64],
    gtol: float,
) -> None:
    """step, dz: the move that minimises gradient·d + ½ d·H d + Σ l1 |w + d| within the bounds, and what it does to the
    margins, until no coefficient's own subgradient is above gtol.

    count: of the rows; hessian_diagonal: scratch
    """
    l1, lower, upper = constraints.l1, constraints.lower, constraints.upper
    begin, row, value = columns.begin, columns.row, columns.value
    for j in range(len(w)):
        hessian_diagonal[j] = precision[j]
        for s in range(begin[j], begin[j + 1]):
            hessian_diagonal[j] += curvature[row[s]] * value[s] * value[s]
        hessian_diagonal[j] = max(hessian_diagonal[j], 1e-12)
    step[: len(w)] = 0.0
    dz[:count] = 0.0
    for _ in range(_LARGEST_SWEEPS):
        violation = 0.0
        for j in range(len(w)):
            g = gradient[j] + precision[j] * step[j]
            for s in range(begin[j], begin[j + 1]):
                g += curvature[row[s]] * dz[row[s]] * value[s]
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
            for s in range(begin[j], begin[j + 1]):
                dz[row[s]] += move * value[s]
        if violation <= gtol:
            break
