"""`l2: auto` of a fixed effect: its coefficients tell how large they are, in the scaled features' units.

The fixed point and its correction are those of solvers/empirical_bayes/fixed_point.py. Here a model is large and alone,
so the few sums they need are taken at the optimum of each λ: up to DENSE_LIMIT coefficients from the inverse Hessian V,
above by a few random probes z of ±1, the same ones every time. With p = Vz, E[z_j p_j] = V_jj. The correction of a
group is, with q = V w over the group,

    Σ c_j = w·V r = q·Σ_i h_i d_i x_i = trace(V B),   B = Σ_i d_i (x_i·q) x_i x_iᵀ,

as h_i = x_i·V x_i; and E[p·B z] = trace(V B) (Hutchinson 1990).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdmix_core.solvers.empirical_bayes.fixed_point import Mode, Sums, group_count
from gdmix_core.solvers.large.newton_cg import conjugate_gradients, factored, positive
from gdmix_core.solvers.large.scaling import ScaledObjective

DENSE_LIMIT = 1_000
ROUNDS = 12  # of fitting and updating λ, at most

_PROBES = 4
_PROBE_RESIDUAL = 1e-3  # of a probe's conjugate gradients: far below what chance leaves


def sums_at(
    objective: ScaledObjective,
    u: NDArray[np.float64],
    relative_precision: NDArray[np.float64],
    group: NDArray[np.int32],
    variance: NDArray[np.float64],
    mode: Mode,
) -> Sums:
    """Return the groups' sums at the optimum u under λ = 1/variance.

    relative_precision float64 [k]: what multiplies λ for a coefficient; one with 0 is of no group. group int32 [k];
    variance float64 [G].
    """
    objective.move_to(u)
    du = (u - objective.penalty.scaled_prior_mean) * (relative_precision > 0)
    size = group_count(mode, len(u) - 1)
    dense = len(u) <= DENSE_LIMIT + 1
    shrinkage, corrections = (_dense if dense else _probed)(objective, du, relative_precision, group, size)

    return Sums(
        squares=_by_group(relative_precision * du * du, group, size),
        corrections=corrections,
        count=_by_group(relative_precision > 0, group, size),
        shrunk=shrinkage / variance,
    )


def _by_group(values: NDArray[Any], group: NDArray[np.int32], size: int) -> NDArray[np.float64]:
    return np.bincount(group, values, size).astype(np.float64, copy=False)


Pair = tuple[NDArray[np.float64], NDArray[np.float64]]


def _dense(
    objective: ScaledObjective,
    du: NDArray[np.float64],
    relative_precision: NDArray[np.float64],
    group: NDArray[np.int32],
    size: int,
) -> Pair:
    """Return for each group Σ relative_precision V_jj, and Σ relative_precision c_j."""
    V = factored(objective.hessian())(np.eye(len(du)))
    margin_variance = objective.data.margin_variance_gradient(objective.scaling.covariance_to_original(V))
    c = (V @ objective.scaling.pull_back(margin_variance)) * du
    return _by_group(relative_precision * np.diag(V), group, size), _by_group(relative_precision * c, group, size)


def _probed(
    objective: ScaledObjective,
    du: NDArray[np.float64],
    relative_precision: NDArray[np.float64],
    group: NDArray[np.int32],
    size: int,
) -> Pair:
    scaling = objective.scaling
    own = objective.diagonal()
    diagonal = positive(own)

    def solve(v: NDArray[np.float64]) -> NDArray[np.float64]:
        return conjugate_gradients(-v, objective.product, lambda r: r / diagonal, _PROBE_RESIDUAL, 0.0).s

    directions = {g: scaling.to_original(solve(relative_precision * du * (group == g))) for g in range(size)}
    shrinkage, corrections = np.zeros(size), np.zeros(size)
    random = np.random.Generator(np.random.PCG64(0))
    for _ in range(_PROBES):
        z = np.where(own > 0.0, random.integers(0, 2, len(du)) * 2.0 - 1.0, 0.0)
        p = solve(z)
        shrinkage += _by_group(relative_precision * z * p, group, size) / _PROBES
        z_original, p_original = scaling.to_original(z), scaling.to_original(p)
        for g, q in directions.items():
            if np.any(q):
                corrections[g] += float(p_original @ objective.data.third_product(q, z_original)) / _PROBES
    return shrinkage, corrections
