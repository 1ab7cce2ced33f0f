"""Posterior variances of a fixed effect's coefficients, from the Hessian at the optimum, in the features' units."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve, eigh

from gdmix_core.solvers.large.scaling import ScaledObjective

# variances: full holds matrices of so many coefficients squared, about eight of them: 1.6 GB at the limit.
FULL_LIMIT = 5_000

# Share of the largest, once the diagonal is 1: an eigenvalue below is one of a direction that nothing determines.
_SINGULAR = 1e-12


def coefficient_variances(
    objective: ScaledObjective, u: NDArray[np.float64], kind: Literal["simple", "full"]
) -> NDArray[np.float64]:
    """Return float64 [features + 1] at u; nan where neither data nor penalty determine a coefficient.

    simple: 1 / H_jj; full: (H⁻¹)_jj; H with the penalty's or the prior's precision. An L1 penalty and a bound have no
    curvature and count for nothing.
    """
    objective.move_to(u)
    return _simple(objective) if kind == "simple" else _full(objective)


def _simple(objective: ScaledObjective) -> NDArray[np.float64]:
    scaling, penalty = objective.scaling, objective.penalty
    own, _ = objective.data.diagonal()
    # A penalty on the scaled intercept u_0 = b + Σ w_j shift_j reaches every coefficient.
    l2 = penalty.scaled_precision
    diagonal = own + penalty.precision + l2 / scaling.factor**2 + l2[0] * scaling.shift**2
    return np.divide(1.0, diagonal, out=np.full(len(diagonal), np.nan), where=diagonal > 0.0)


def _full(objective: ScaledObjective) -> NDArray[np.float64]:
    H = objective.hessian()
    size = np.sqrt(np.diag(H))
    used = np.flatnonzero(size > 0.0)
    scaled = H[np.ix_(used, used)] / np.outer(size[used], size[used])
    inverse, undetermined = _inverse(scaled)
    V = np.zeros(H.shape)
    V[np.ix_(used, used)] = inverse / np.outer(size[used], size[used])
    variances = np.diag(objective.scaling.covariance_to_original(V)).copy()
    variances[used[undetermined]] = np.nan
    variances[size == 0.0] = np.nan
    return variances


def _inverse(H: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return (H⁻¹, which coefficients have a part in a direction without curvature); the diagonal of H is 1."""
    determined = np.zeros(len(H), bool)
    try:
        factors = cho_factor(H, lower=True, check_finite=False)
        if np.min(np.diag(factors[0]), initial=1.0) ** 2 > _SINGULAR:
            return cho_solve(factors, np.eye(len(H)), check_finite=False), determined
    except LinAlgError:
        pass
    values, vectors = eigh(H)
    null = values <= _SINGULAR * values[-1]
    kept = vectors[:, ~null]
    return (kept / values[~null]) @ kept.T, np.any(np.abs(vectors[:, null]) > 1e-6, axis=1)
