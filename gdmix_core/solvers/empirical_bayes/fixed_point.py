"""λ from the data, by empirical Bayes: the prior variance σ² = 1/λ under which the models found are most likely.

Coefficients are put into groups that share a prior N(0, σ²). At the models' optimum, with V their posterior variances
(diagonal of the inverse Hessian), MacKay's fixed point ("Bayesian interpolation", 1992) is

    σ² ← Σ w² / Σ (1 − V/σ²)

It takes the Hessian's weights for constant. They move with w, and so with σ²; the Laplace approximation's own
derivative subtracts Σ c from the numerator, with, for each model,

    c_j = (H⁻¹ r)_j w_j,   r = Σ_i h_i d_i x_i,   h_i = x_i·H⁻¹x_i,   d_i = weight_i · loss'''(z_i)

where h_i, the posterior variance of the row's margin, also has the part that other coordinates contribute.

A linear model's loss ½ (z − y)² is a likelihood only up to the noise's variance φ, which is estimated along:
λ is then φ / σ², and "σ²" below means σ² / φ = 1/λ everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Mode = Literal["coordinate", "intercept_slopes", "feature"]

# A group without signal goes to the least variance (its coefficients to zero), one without limit to the largest.
MIN_VARIANCE = 1e-6
MAX_VARIANCE = 1e4
START_VARIANCE = 1.0
# In feature mode each feature's own evidence is joined by that of so many coefficients of the average feature.
AVERAGE_COEFFICIENTS = 1.0


@dataclass(frozen=True)
class Sums:
    """The sums for a group's update, float64 [G] each: Σ w², Σ c, Σ 1, Σ V/σ². Sums of disjoint models add up."""

    squares: NDArray[np.float64]
    corrections: NDArray[np.float64]
    count: NDArray[np.float64]
    shrunk: NDArray[np.float64]

    @classmethod
    def zero(cls, groups: int) -> Sums:
        return cls(*np.zeros((4, groups)))

    @classmethod
    def from_rows(cls, rows: NDArray[np.float64]) -> Sums:
        """rows: float64 [4, G], in the order above."""
        return cls(*rows)

    def rows(self) -> NDArray[np.float64]:
        return np.stack([self.squares, self.corrections, self.count, self.shrunk])

    def __add__(self, other: Sums) -> Sums:
        return Sums.from_rows(self.rows() + other.rows())


def group_count(mode: Mode, features: int) -> int:
    return {"coordinate": 1, "intercept_slopes": 2, "feature": features + 1}[mode]


def group_of(mode: Mode, features: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return int32: the group of each coefficient, from its feature index (−1: the intercept)."""
    if mode == "coordinate":
        return np.zeros(len(features), np.int32)
    if mode == "intercept_slopes":
        return (features >= 0).astype(np.int32)
    return features + np.int32(1)


def updated_variance(sums: Sums, variance: NDArray[np.float64], mode: Mode, noise: float = 1.0) -> NDArray[np.float64]:
    """Return σ², float64 [G], one fixed-point step from `variance`; a group without coefficients keeps its own.

    noise: φ of a linear model.
    """
    signal = np.maximum(sums.squares - sums.corrections, 0.0)
    effective_parameters = np.maximum(sums.count - sums.shrunk, 0.0)
    if mode == "feature" and len(signal) > 1:
        slopes = slice(1, None)
        total = effective_parameters[slopes].sum()
        average = signal[slopes].sum() / total if total > 0.0 else MIN_VARIANCE
        signal[slopes] += AVERAGE_COEFFICIENTS * average * (sums.count[slopes] > 0)
        effective_parameters[slopes] += AVERAGE_COEFFICIENTS * (sums.count[slopes] > 0)
    found = np.divide(
        signal, effective_parameters, out=np.full(len(signal), MIN_VARIANCE), where=effective_parameters > 1e-12
    )
    found = np.where(sums.count > 0, found / noise, variance)
    return np.clip(found, MIN_VARIANCE, MAX_VARIANCE)


def noise_variance(residual_squares: float, residual_dof: float) -> float:
    """φ of a linear model: Σ weight (y − z)² over rows − effective coefficients. Bounded away from 0."""
    return max(residual_squares / max(residual_dof, 1.0), 1e-12)


def named_l2(mode: Mode, variance: NDArray[np.float64], count: NDArray[np.float64]) -> dict[str, float]:
    """λ = 1/σ² of the groups that have coefficients, by name; of many features' the least, median and largest."""
    l2 = 1.0 / variance
    if mode == "coordinate":
        return {"coefficients": float(l2[0])} if count[0] else {}
    result = {"intercept": float(l2[0])} if count[0] else {}
    slopes = l2[1:][count[1:] > 0]
    if mode == "intercept_slopes":
        return result | ({"slopes": float(slopes[0])} if len(slopes) else {})
    quantiles = {"slopes_least": 0.0, "slopes_median": 0.5, "slopes_largest": 1.0}
    return result | ({name: float(np.quantile(slopes, q)) for name, q in quantiles.items()} if len(slopes) else {})


class FixedPoint:
    """Iterates log σ² → log updated σ², each group by the secant of its last two steps.

    The plain iteration nears its limit by a constant factor a step, which is close to 1 where the data say little.
    """

    _MAX_GAIN = 8.0  # a step goes at most so many times as far as the plain one
    _MAX_STEP = 3.0  # in log σ²

    def __init__(self, variance: NDArray[np.float64], tolerance: float = 1e-3) -> None:
        self.variance = variance
        self.change = np.inf
        self._tolerance = tolerance
        self._previous: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None

    @property
    def converged(self) -> bool:
        """True if the last update changed no σ² by more than the relative tolerance."""
        return self.change <= self._tolerance

    def advance(self, updated: NDArray[np.float64]) -> None:
        """updated: the fixed point's answer to `self.variance`, which is replaced by the next one to try."""
        at = np.log(self.variance)
        move = np.log(updated) - at
        self.change = float(np.max(np.abs(move), initial=0.0))
        gain = np.ones(len(at))
        if self._previous is not None:
            moved = at - self._previous[0]
            slowing = self._previous[1] - move  # of a linear map: (1 − slope) · moved
            usable = (np.abs(moved) > 1e-12) & (slowing * moved > 0.0)
            gain = np.divide(moved, slowing, out=gain, where=usable)
        self._previous = (at, move)
        step = np.clip(np.clip(gain, 0.5, self._MAX_GAIN) * move, -self._MAX_STEP, self._MAX_STEP)
        self.variance = np.clip(np.exp(at + step), MIN_VARIANCE, MAX_VARIANCE)
