"""The Newton step of a larger model by preconditioned conjugate gradients: the Hessian is only ever multiplied with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gdmix_core.jit import njit
from gdmix_core.solvers.entity.problem import Features

# Relative residual at which a step is good enough; with the full Newton step's quadratic convergence lost anyway,
# a looser value costs outer iterations and a tighter one inner iterations. Measured: benchmarks/random_effect.py.
FORCING = 1e-3
MAX_ITERATIONS = 500
# A direction whose curvature is below this share of what its entries' own curvatures add up to is one the data and the
# penalty say nothing about, up to rounding: a step along it would have any length.
SINGULAR = 1e-12


@njit(cache=True, nogil=True)
def multiply(
    out: NDArray[np.float64],
    v: NDArray[np.float64],
    size: int,
    features: Features,
    begin: int,
    end: int,
    curvature: NDArray[np.float64],
    precision: NDArray[np.float64],
) -> None:
    """out = (Xᵀ diag(curvature) X + diag(precision)) v for the rows begin … end−1."""
    intercept, offsets, local, values = features
    for j in range(size):
        out[j] = precision[j] * v[j]
    for i in range(begin, end):
        z = v[0] if intercept else 0.0
        for s in range(offsets[i], offsets[i + 1]):
            z += values[s] * v[local[s]]
        z *= curvature[i - begin]
        if intercept:
            out[0] += z
        for s in range(offsets[i], offsets[i + 1]):
            out[local[s]] += values[s] * z


@njit(cache=True, nogil=True)
def hessian_diagonal(
    diagonal: NDArray[np.float64],
    size: int,
    features: Features,
    begin: int,
    end: int,
    curvature: NDArray[np.float64],
    precision: NDArray[np.float64],
) -> None:
    intercept, offsets, local, values = features
    for j in range(size):
        diagonal[j] = precision[j]
    for i in range(begin, end):
        c = curvature[i - begin]
        if intercept:
            diagonal[0] += c
        for s in range(np.uint64(offsets[i]), np.uint64(offsets[i + 1])):
            diagonal[np.uint64(local[s])] += c * values[s] * values[s]


@njit(cache=True, nogil=True)
def newton_step(
    step: NDArray[np.float64],
    gradient: NDArray[np.float64],
    work: NDArray[np.float64],
    size: int,
    features: Features,
    begin: int,
    end: int,
    curvature: NDArray[np.float64],
    precision: NDArray[np.float64],
) -> None:
    """step ≈ −H⁻¹ gradient. work: float64 [4, ≥ size] scratch space."""
    diagonal, residual, direction, product = work[0], work[1], work[2], work[3]
    hessian_diagonal(diagonal, size, features, begin, end, curvature, precision)
    rho = 0.0
    for j in range(size):
        if diagonal[j] <= 0.0:
            diagonal[j] = 1.0
        step[j] = 0.0
        residual[j] = -gradient[j]
        direction[j] = residual[j] / diagonal[j]
        rho += residual[j] * direction[j]
    target = FORCING * FORCING * rho
    for _ in range(min(2 * size, MAX_ITERATIONS)):
        if rho <= target or rho == 0.0:
            break
        multiply(product, direction, size, features, begin, end, curvature, precision)
        curvature_along = 0.0
        separate = 0.0
        for j in range(size):
            curvature_along += direction[j] * product[j]
            separate += diagonal[j] * direction[j] * direction[j]
        if curvature_along <= SINGULAR * separate:
            break
        alpha = rho / curvature_along
        rho_next = 0.0
        for j in range(size):
            step[j] += alpha * direction[j]
            residual[j] -= alpha * product[j]
            rho_next += residual[j] * residual[j] / diagonal[j]
        beta = rho_next / rho
        for j in range(size):
            direction[j] = residual[j] / diagonal[j] + beta * direction[j]
        rho = rho_next
