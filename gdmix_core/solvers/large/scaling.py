"""The penalised objective of a fixed effect, in the variables it is optimised in.

A coefficient w_j of the features' own units is factor_j u_j, and the intercept is b = u_0 − Σ_j w_j shift_j, so that

    x·w + b = u_0 + Σ_j u_j (x_j − shift_j) factor_j

and the scaled features never have to be made: w = T u, and derivatives in u follow from those in w by the chain rule.

    F(u) = D(Tu) + ½ Σ_j precision_j ((Tu)_j − prior_mean_j)² + ½ Σ_j scaled_precision_j (u_j − scaled_prior_mean_j)²
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gdmix_core.jit import njit
from gdmix_core.workers.all_reduce import DataTerm

# Shifting a nearly constant feature leaves only the rounding of what was subtracted.
_ROUNDING = 1e-13


@dataclass(frozen=True)
class Scaling:
    """T and its transpose; factor > 0 and shift, float64 [k] with 1 and 0 for the intercept, which comes first."""

    factor: NDArray[np.float64]
    shift: NDArray[np.float64]

    @classmethod
    def of_features(cls, factor: NDArray[np.float64], shift: NDArray[np.float64]) -> Scaling:
        return cls(np.concatenate([[1.0], factor]), np.concatenate([[0.0], shift]))

    def to_original(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """T u."""
        w = self.factor * u
        w[0] -= w @ self.shift
        return w

    def to_scaled(self, w: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the u with T u = w."""
        u = w / self.factor
        u[0] += w @ self.shift
        return u

    def pull_back(self, gradient: NDArray[np.float64]) -> NDArray[np.float64]:
        """Tᵀ gradient: the derivative in u of what has this one in w."""
        return self.factor * (gradient - self.shift * gradient[0])

    def pull_back_matrix(self, H: NDArray[np.float64]) -> NDArray[np.float64]:
        """Tᵀ H T."""
        moved = H - np.outer(self.shift, H[0])
        moved -= np.outer(moved[:, 0], self.shift)
        moved *= self.factor
        moved *= self.factor[:, None]
        return moved

    def covariance_to_original(self, V: NDArray[np.float64]) -> NDArray[np.float64]:
        """T V Tᵀ."""
        scaled = V * self.factor * self.factor[:, None]
        scaled[0] -= self.shift @ scaled
        scaled[:, 0] -= scaled @ self.shift
        return scaled


@dataclass(frozen=True)
class Penalty:
    """Two Gaussian priors; all float64 [k], the intercept first.

    scaled_precision, scaled_prior_mean: of the scaled coefficients u
    precision, prior_mean: of the coefficients w, in the features' units
    """

    scaled_precision: NDArray[np.float64]
    scaled_prior_mean: NDArray[np.float64]
    precision: NDArray[np.float64]
    prior_mean: NDArray[np.float64]

    @classmethod
    def ridge(cls, scaled_precision: NDArray[np.float64]) -> Penalty:
        zero = np.zeros(len(scaled_precision))
        return cls(scaled_precision, zero, zero, zero)


class ScaledObjective:
    """F without its L1 part, its gradient, and the Hessian at the u of the latest `move_to`."""

    def __init__(self, data: DataTerm, penalty: Penalty, scaling: Scaling | None = None) -> None:
        size = len(penalty.scaled_precision)
        self.data, self.penalty = data, penalty
        self.scaling = scaling or Scaling(np.ones(size), np.zeros(size))

    def value_and_gradient(self, u: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        p = self.penalty
        w = self.scaling.to_original(u)
        value, gradient = self.data.value_and_gradient(w)
        dw, du = w - p.prior_mean, u - p.scaled_prior_mean
        value += 0.5 * float(p.precision @ (dw * dw)) + 0.5 * float(p.scaled_precision @ (du * du))
        return value, self._with_penalty(gradient, dw, du)

    def move_to(self, u: NDArray[np.float64]) -> None:
        self.data.move_to(self.scaling.to_original(u))

    def product(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        w = self.scaling.to_original(v)
        return self._with_penalty(self.data.product(w), w, v)

    def _with_penalty(
        self, own: NDArray[np.float64], dw: NDArray[np.float64], du: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Tᵀ (own + precision · dw) + scaled_precision · du."""
        scale, p = self.scaling, self.penalty
        return _with_penalty(own, p.precision, dw, scale.factor, scale.shift, p.scaled_precision, du)

    def diagonal(self) -> NDArray[np.float64]:
        own, first_row = self.data.diagonal()
        own, shift = own + self.penalty.precision, self.scaling.shift
        spread = own - shift * (2.0 * first_row - shift * own[0])
        return np.where(spread > _ROUNDING * own, spread, 0.0) * self.scaling.factor**2 + self.penalty.scaled_precision

    def hessian(self) -> NDArray[np.float64]:
        H = self.data.hessian()
        H[np.diag_indices_from(H)] += self.penalty.precision
        own = np.diag(H) * self.scaling.factor**2
        H = self.scaling.pull_back_matrix(H)
        constant = np.diag(H) <= _ROUNDING * own
        H[constant], H[:, constant] = 0.0, 0.0
        H[np.diag_indices_from(H)] += self.penalty.scaled_precision
        return H


# One loop: with millions of features, temporary arrays would take as long as the threads that sum over the rows.
@njit(cache=True, nogil=True)
def _with_penalty(
    own: NDArray[np.float64],
    precision: NDArray[np.float64],
    dw: NDArray[np.float64],
    factor: NDArray[np.float64],
    shift: NDArray[np.float64],
    scaled_precision: NDArray[np.float64],
    du: NDArray[np.float64],
) -> NDArray[np.float64]:
    out = np.empty(len(own))
    first = own[0] + precision[0] * dw[0]
    for j in range(len(own)):
        out[j] = factor[j] * (own[j] + precision[j] * dw[j] - shift[j] * first) + scaled_precision[j] * du[j]
    return out
