"""Second derivatives of a sum over rows, Σ_i c_i x_i x_iᵀ with the intercept's 1 in front of x_i: compiled kernels.

Each goes over the rows begin … end−1 once and overwrites `out`; row i owns the entries offsets[i] : offsets[i + 1].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dsyrk

from gdmix_core.jit import njit

_ROWS_AT_A_TIME = 256  # see objective.py


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def product(
    intercept: bool,
    offsets: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.floating],
    c: NDArray[np.float64],
    begin: int,
    end: int,
    v: NDArray[np.float64],
    out: NDArray[np.float64],
) -> float:
    """out [k]: Σ c_i (x_i·v) x_i; v float64 [k]."""
    out[:] = 0.0
    total = 0.0
    bias = v[0] if intercept else 0.0
    work = np.empty(_ROWS_AT_A_TIME)
    for first_row in range(begin, end, _ROWS_AT_A_TIME):
        last_row = min(first_row + _ROWS_AT_A_TIME, end)
        for i in range(first_row, last_row):
            z = bias
            for s in range(np.uint64(offsets[i]), np.uint64(offsets[i + 1])):
                z += values[s] * v[np.uint64(indices[s]) + np.uint64(1)]
            work[i - first_row] = c[i] * z
            total += c[i] * z
        for i in range(first_row, last_row):
            z = work[i - first_row]
            for s in range(np.uint64(offsets[i]), np.uint64(offsets[i + 1])):
                out[np.uint64(indices[s]) + np.uint64(1)] += z * values[s]
    if intercept:
        out[0] = total
    return 0.0


@njit(cache=True, nogil=True)
def diagonal(
    intercept: bool,
    offsets: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.floating],
    c: NDArray[np.float64],
    begin: int,
    end: int,
    out: NDArray[np.float64],
) -> float:
    """out [k, 2]: Σ c_i x_ij² and Σ c_i x_ij, side by side, so that the memory of both is fetched at once."""
    out[:] = 0.0
    total = 0.0
    for i in range(begin, end):
        own = c[i]
        total += own
        for s in range(np.uint64(offsets[i]), np.uint64(offsets[i + 1])):
            j = np.uint64(indices[s]) + np.uint64(1)
            share = own * values[s]
            out[j, 0] += share * values[s]
            out[j, 1] += share
    if intercept:
        out[0, :] = total
    else:
        out[:, 1] = 0.0
    return 0.0


@njit(cache=True, nogil=True)
def half_hessian(
    intercept: bool,
    offsets: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.floating],
    c: NDArray[np.float64],
    begin: int,
    end: int,
    out: NDArray[np.float64],
) -> float:
    """out [k, k]: each pair of entries once, the diagonal whole; the other half is zero."""
    out[:] = 0.0
    for i in range(begin, end):
        if intercept:
            out[0, 0] += c[i]
        first, last = np.uint64(offsets[i]), np.uint64(offsets[i + 1])
        for s in range(first, last):
            j = np.uint64(indices[s]) + np.uint64(1)
            share = c[i] * values[s]
            row = out[j]
            if intercept:
                row[0] += share
            for t in range(first, s + np.uint64(1)):
                row[np.uint64(indices[t]) + np.uint64(1)] += share * values[t]
    return 0.0


def half_hessian_of_dense_rows(
    intercept: bool,
    offsets: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.floating],
    c: NDArray[np.float64],
    begin: int,
    end: int,
    out: NDArray[np.float64],
) -> float:
    """Do what half_hessian does, for c ≥ 0, by products of dense matrices: faster if rows have many of the features."""
    out[:] = 0.0
    block = np.empty((_ROWS_AT_A_TIME, len(out)))
    for first_row in range(begin, end, _ROWS_AT_A_TIME):
        last_row = min(first_row + _ROWS_AT_A_TIME, end)
        rows = block[: last_row - first_row]
        _spread(intercept, offsets, indices, values, c, first_row, last_row, rows)
        # In Fortran's order both are transposed; one triangle of out is added to.
        dsyrk(1.0, rows.T, beta=1.0, c=out.T, overwrite_c=1)
    return 0.0


@njit(cache=True, nogil=True)
def _spread(
    intercept: bool,
    offsets: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.floating],
    c: NDArray[np.float64],
    begin: int,
    end: int,
    out: NDArray[np.float64],
) -> None:
    """out [rows, k]: √c_i x_i of each row."""
    out[:] = 0.0
    for i in range(begin, end):
        root = np.sqrt(c[i])
        if intercept:
            out[i - begin, 0] = root
        for s in range(np.uint64(offsets[i]), np.uint64(offsets[i + 1])):
            out[i - begin, np.uint64(indices[s]) + np.uint64(1)] += root * values[s]
