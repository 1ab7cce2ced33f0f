"""The Newton step of a small model by its dense Hessian: accumulate H, factor it in place (Cholesky), solve."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gdmix_core.jit import njit
from gdmix_core.solvers.entity.problem import Features

# A pivot below this share of its diagonal entry is a direction the data and the penalty say nothing about
# (a constant feature beside an unpenalised intercept): it is given a little curvature, so the step there is small.
SINGULAR = 1e-12


@njit(cache=True, nogil=True)
def hessian(
    H: NDArray[np.float64],
    size: int,
    features: Features,
    begin: int,
    end: int,
    curvature: NDArray[np.float64],
    precision: NDArray[np.float64],
) -> None:
    """Lower triangle of H = Xᵀ diag(curvature) X + diag(precision) for the rows begin … end−1.

    local: ascending coefficient positions within a row; values: the features there; curvature[i − begin] of row i.
    """
    intercept, offsets, local, values = features
    for j in range(size):
        for k in range(j):
            H[j, k] = 0.0
        H[j, j] = precision[j]
    for i in range(begin, end):
        c = curvature[i - begin]
        if intercept:
            H[0, 0] += c
        # Unsigned positions: signed ones may be negative, and asking each time takes as long as the sum itself.
        first, last = np.uint64(offsets[i]), np.uint64(offsets[i + 1])
        for s in range(first, last):
            a = np.uint64(local[s])
            scaled = c * values[s]
            if intercept:
                H[a, 0] += scaled
            for t in range(first, s + np.uint64(1)):
                H[a, np.uint64(local[t])] += scaled * values[t]


# Sums may be taken in another order (reassoc): otherwise each addition waits for the one before.
@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def cholesky(H: NDArray[np.float64], size: int) -> None:
    """H = L Lᵀ in place (lower triangle), the inverse of each diagonal entry stored in its place."""
    for j in range(size):
        diagonal = H[j, j]
        pivot = diagonal
        for k in range(j):
            pivot -= H[j, k] * H[j, k]
        if pivot <= SINGULAR * diagonal:
            pivot = max(diagonal, 1e-300)
        inverse = 1.0 / np.sqrt(pivot)
        H[j, j] = inverse
        for i in range(j + 1, size):
            value = H[i, j]
            for k in range(j):
                value -= H[i, k] * H[j, k]
            H[i, j] = value * inverse


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def solve(L: NDArray[np.float64], size: int, gradient: NDArray[np.float64], step: NDArray[np.float64]) -> None:
    """step = −(L Lᵀ)⁻¹ gradient."""
    for i in range(size):
        value = -gradient[i]
        for k in range(i):
            value -= L[i, k] * step[k]
        step[i] = value * L[i, i]
    for i in range(size - 1, -1, -1):
        value = step[i]
        for k in range(i + 1, size):
            value -= L[k, i] * step[k]
        step[i] = value * L[i, i]
