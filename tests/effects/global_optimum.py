"""What a fixed effect must find, by other means: the objective over scipy.sparse, minimised with its Hessian."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from gdmix_core.models.native import read_model
from gdmix_core.pipeline.run import Run
from tests.run_directory import Rows


@dataclass
class Problem:
    """A: [n, k], first the intercept's column of ones where there is one; penalty: λ [k]."""

    task: str
    A: sp.csr_matrix
    label: NDArray[np.float64]
    weight: NDArray[np.float64]
    offset: NDArray[np.float64]
    penalty: NDArray[np.float64]

    def value(self, w: NDArray[np.float64]) -> float:
        z = self.A @ w + self.offset
        if self.task == "logistic_regression":
            losses = np.logaddexp(0.0, z) - self.label * z
        elif self.task == "linear_regression":
            losses = 0.5 * (z - self.label) ** 2
        else:
            losses = np.exp(z) - self.label * z
        return float(self.weight @ losses + 0.5 * self.penalty @ w**2)

    def gradient(self, w: NDArray[np.float64]) -> NDArray[np.float64]:
        gradient: NDArray[np.float64] = self.A.T @ (self.weight * (self._mean(w) - self.label)) + self.penalty * w
        return gradient

    def hessian(self, w: NDArray[np.float64]) -> NDArray[np.float64]:
        mean = self._mean(w)
        variance = {"logistic_regression": mean * (1 - mean), "poisson_regression": mean}.get(self.task, 1 + 0 * mean)
        product: NDArray[np.float64] = (self.A.T @ self.A.multiply((self.weight * variance)[:, None])).toarray()
        return product + np.diag(self.penalty)

    def _mean(self, w: NDArray[np.float64]) -> NDArray[np.float64]:
        z = self.A @ w + self.offset
        if self.task == "logistic_regression":
            return np.asarray(expit(z))
        return np.asarray(np.exp(z)) if self.task == "poisson_regression" else z

    def optimum(self) -> NDArray[np.float64]:
        found = minimize(
            self.value, np.zeros(self.A.shape[1]), jac=self.gradient, hess=self.hessian, method="trust-exact",
            options={"gtol": 1e-9 * max(1.0, self.weight.sum())},
        )  # fmt: skip
        w: NDArray[np.float64] = found.x
        for _ in range(3):  # from there Newton's steps go on to the last bits
            w = w - np.linalg.solve(self.hessian(w), self.gradient(w))
        return w


def problem_of(run: Run, coordinate: str, rows: Rows, offset: NDArray[np.float64] | None = None) -> Problem:
    """offset: what other coordinates add to the rows' own."""
    settings = run.config.coordinates[coordinate]
    A = design_matrix(run, coordinate, rows)
    penalty = np.full(A.shape[1], settings.l2)
    if settings.intercept and not settings.regularize_intercept:
        penalty[0] = 0.0
    n = len(rows)
    own = np.zeros(n) if rows.offset is None else np.asarray(rows.offset, np.float64)
    return Problem(
        run.config.task,
        A,
        np.asarray(rows.label, np.float64),
        np.ones(n) if rows.weight is None else np.asarray(rows.weight, np.float64),
        own if offset is None else own + offset,
        penalty,
    )


def design_matrix(run: Run, coordinate: str, rows: Rows) -> sp.csr_matrix:
    settings = run.config.coordinates[coordinate]
    parts: list[Any] = [sp.csr_matrix(np.ones((len(rows), 1)))] if settings.intercept else []
    if settings.bag is not None:
        parts.append(rows.matrix(settings.bag).astype(np.float64))
    return sp.csr_matrix(sp.hstack(parts))


def coefficients(run: Run, coordinate: str, pass_number: int = 1) -> NDArray[np.float64]:
    """The model on disk, in the order of the design matrix."""
    model = read_model(run.model(pass_number, coordinate, 0))
    settings = run.config.coordinates[coordinate]
    assert model.entities.to_pylist() == ["global"]
    first = -1 if settings.intercept else 0
    np.testing.assert_array_equal(model.features, np.arange(first, first + len(model.features)))
    return model.means
