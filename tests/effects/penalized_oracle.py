"""The penalised objective of a fixed effect over dense matrices, written down a second time: value and optimality.

Everything is in the features' own units; the penalty is on u, with w_j = factor_j u_j and b = u_0 − Σ w_j shift_j.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Vector = NDArray[np.float64]


def losses(task: str, z: Vector, y: Vector) -> tuple[Vector, Vector, Vector]:
    """(value, first, second derivative) of each row."""
    if task == "logistic_regression":
        p = expit(z)
        return np.logaddexp(0, z) - y * z, p - y, p * (1 - p)
    if task == "linear_regression":
        return 0.5 * (z - y) ** 2, z - y, np.ones(len(z))
    if task == "poisson_regression":
        rate = np.exp(np.minimum(z, 300.0))  # other packages' line searches go anywhere
        return rate - y * z, rate - y, rate
    sign = 2 * y - 1
    t = sign * z
    value = np.where(t >= 1, 0.0, np.where(t <= 0, 0.5 - t, 0.5 * (1 - t) ** 2))
    first = np.where(t >= 1, 0.0, np.where(t <= 0, -sign, sign * (t - 1)))
    return value, first, ((t > 0) & (t < 1)).astype(float)


def scale_of(X: Vector, kind: str) -> tuple[Vector, Vector]:
    """(factor, shift) [d]."""
    size = {
        "none": np.ones(X.shape[1]),
        "max_magnitude": np.abs(X).max(axis=0),
    }.get(kind)
    if size is None:
        size = X.std(axis=0, ddof=1)
    factor = 1 / np.where(size > 0, size, 1.0)
    return factor, X.mean(axis=0) if kind == "standardization" else np.zeros(X.shape[1])


@dataclass
class Oracle:
    """X [n, d]; label, weight, offset [n]; all else [d + 1], the intercept first.

    l2, centre, l1: on the scaled coefficients; precision, mean, lower, upper: in the features' units
    """

    task: str
    X: Vector
    label: Vector
    weight: Vector
    offset: Vector
    l2: Vector
    normalization: str = "none"
    l1: Vector = field(default_factory=lambda: np.zeros(0))
    centre: Vector = field(default_factory=lambda: np.zeros(0))
    precision: Vector = field(default_factory=lambda: np.zeros(0))
    mean: Vector = field(default_factory=lambda: np.zeros(0))
    lower: Vector = field(default_factory=lambda: np.zeros(0))
    upper: Vector = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        size = self.X.shape[1] + 1
        for name, default in {
            "l1": 0,
            "centre": 0,
            "precision": 0,
            "mean": 0,
            "lower": -np.inf,
            "upper": np.inf,
        }.items():
            if len(getattr(self, name)) == 0:
                setattr(self, name, np.full(size, float(default)))
        factor, shift = scale_of(self.X, self.normalization)
        # w = T u
        self.T = np.diag(np.concatenate([[1.0], factor]))
        self.T[0, 1:] = -shift * factor
        self.A = np.hstack([np.ones((len(self.X), 1)), self.X])

    def smooth(self, w: Vector) -> tuple[float, Vector]:
        """Value and gradient in w of all but the L1 part."""
        u = np.linalg.solve(self.T, w)
        value, first, _ = losses(self.task, self.A @ w + self.offset, self.label)
        total = self.weight @ value + 0.5 * self.l2 @ (u - self.centre) ** 2
        total += 0.5 * self.precision @ (w - self.mean) ** 2
        gradient = self.A.T @ (self.weight * first) + self.precision * (w - self.mean)
        return float(total), gradient + np.linalg.solve(self.T.T, self.l2 * (u - self.centre))

    def value(self, w: Vector) -> float:
        return self.smooth(w)[0] + float(self.l1 @ np.abs(np.linalg.solve(self.T, w)))

    def hessian(self, w: Vector) -> Vector:
        _, _, second = losses(self.task, self.A @ w + self.offset, self.label)
        inverse = np.linalg.inv(self.T)
        H = self.A.T @ (self.A * (self.weight * second)[:, None]) + np.diag(self.precision)
        return np.asarray(H + inverse.T @ np.diag(self.l2) @ inverse)

    def violation(self, w: Vector) -> float:
        """How far, in a scaled coefficient's gradient, w is from the conditions of an optimum."""
        g = self.T.T @ self.smooth(w)[1]
        worst = 0.0
        for j in range(len(w)):
            low, high = g[j] - self.l1[j], g[j] + self.l1[j]  # derivatives to the left and to the right, at 0
            if w[j] > 0:
                low = high
            elif w[j] < 0:
                high = low
            if w[j] > self.lower[j]:  # going down must not pay
                worst = max(worst, low)
            if w[j] < self.upper[j]:  # nor going up
                worst = max(worst, -high)
        return worst
