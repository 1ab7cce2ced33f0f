"""Third derivatives of a sum over rows, for the Laplace correction of `l2: auto` (fixed_point.py): compiled kernels.

With d_i = weight_i · loss'''(z_i). Each goes over the rows begin … end−1 once and overwrites `out`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gdmix_core.jit import njit
from gdmix_core.solvers.losses import third_derivative


@njit(cache=True, nogil=True)
def product(
    loss: int,
    intercept: bool,
    offsets: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.floating],
    weight: NDArray[np.float64],
    offset: NDArray[np.float64],
    begin: int,
    end: int,
    w: NDArray[np.float64],
    q: NDArray[np.float64],
    v: NDArray[np.float64],
    out: NDArray[np.float64],
) -> float:
    """out [k]: Σ d_i (x_i·q) (x_i·v) x_i; w, q and v float64 [k]."""
    out[:] = 0.0
    for i in range(begin, end):
        first, last = np.uint64(offsets[i]), np.uint64(offsets[i + 1])
        z = offset[i]
        along_q = 0.0
        along_v = 0.0
        if intercept:
            z += w[0]
            along_q += q[0]
            along_v += v[0]
        for s in range(first, last):
            j = np.uint64(indices[s]) + np.uint64(1)
            z += values[s] * w[j]
            along_q += values[s] * q[j]
            along_v += values[s] * v[j]
        share = weight[i] * third_derivative(loss, z) * along_q * along_v
        if intercept:
            out[0] += share
        for s in range(first, last):
            out[np.uint64(indices[s]) + np.uint64(1)] += share * values[s]
    return 0.0


@njit(cache=True, nogil=True)
def margin_variance_gradient(
    loss: int,
    intercept: bool,
    offsets: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.floating],
    weight: NDArray[np.float64],
    offset: NDArray[np.float64],
    begin: int,
    end: int,
    w: NDArray[np.float64],
    V: NDArray[np.float64],
    out: NDArray[np.float64],
) -> float:
    """out [k]: Σ d_i (x_i·V x_i) x_i; V float64 [k, k], symmetric."""
    out[:] = 0.0
    for i in range(begin, end):
        first, last = np.uint64(offsets[i]), np.uint64(offsets[i + 1])
        z = offset[i]
        margin_variance = 0.0
        if intercept:
            z += w[0]
            margin_variance += V[0, 0]
        for s in range(first, last):
            j = np.uint64(indices[s]) + np.uint64(1)
            z += values[s] * w[j]
            row = V[j]
            half = 0.5 * row[j] * values[s]
            if intercept:
                half += row[0]
            for t in range(first, s):
                half += row[np.uint64(indices[t]) + np.uint64(1)] * values[t]
            margin_variance += 2.0 * half * values[s]
        share = weight[i] * third_derivative(loss, z) * margin_variance
        if intercept:
            out[0] += share
        for s in range(first, last):
            out[np.uint64(indices[s]) + np.uint64(1)] += share * values[s]
    return 0.0
