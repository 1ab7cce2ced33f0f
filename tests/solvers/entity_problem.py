"""Entities of random shape, their objective in plain NumPy, and the best optimum SciPy finds: the solver's oracle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from gdmix_core.solvers.entity_newton import solve_entities
from gdmix_core.solvers.local_index import build_local_index
from gdmix_core.solvers.losses import LINEAR, LOGISTIC, POISSON

LOSSES = {"logistic": LOGISTIC, "linear": LINEAR, "poisson": POISSON}


@dataclass
class Entity:
    """Rows of one entity. X: float64 [n, d], zeros are features a row does not have."""

    X: NDArray[np.float64]
    label: NDArray[np.float64]
    weight: NDArray[np.float64]
    offset: NDArray[np.float64]


@dataclass
class Solution:
    """theta: by entity, intercept first; features: by entity, global index of each coefficient, −1 the intercept."""

    theta: list[NDArray[np.float64]]
    features: list[NDArray[np.int32]]
    status: NDArray[np.uint8]
    iterations: NDArray[np.int32]
    objective: NDArray[np.float64]


@dataclass
class Model:
    loss: str = "logistic"
    intercept: bool = True
    l2: float = 1.0
    regularize_intercept: bool = False
    tolerance: float = 1e-6
    max_iterations: int = 100
    dense_limit: int = 128
    value_dtype: type = np.float64


def solve(entities: list[Entity], model: Model, start: list[NDArray[np.float64]] | None = None) -> Solution:
    """Through the same calls that training makes."""
    counts = [len(entity.label) for entity in entities]
    end = np.cumsum(counts)
    begin = end - counts
    rows = [row for entity in entities for row in entity.X]
    listed = [np.flatnonzero(row) for row in rows]
    offsets = np.concatenate([[0], np.cumsum([len(i) for i in listed])]).astype(np.int64)
    indices = np.concatenate([np.empty(0), *listed]).astype(np.int32)
    values = np.concatenate([np.empty(0), *(row[i] for row, i in zip(rows, listed, strict=True))])
    values = values.astype(model.value_dtype)
    local = np.empty(len(indices), np.int32)
    coefficient_begin = np.empty(len(entities) + 1, np.int64)
    features = np.empty(len(indices) + len(entities), np.int32)
    size = max((entity.X.shape[1] for entity in entities), default=0)
    used = build_local_index(
        model.intercept, size, begin, end, end, offsets, indices, local, coefficient_begin, features
    )
    features = features[:used]
    theta = np.zeros(used) if start is None else np.concatenate([np.empty(0), *start])
    penalty = np.full(used, model.l2)
    if not model.regularize_intercept:
        penalty[features == -1] = 0.0
    status = np.empty(len(entities), np.uint8)
    iterations = np.empty(len(entities), np.int32)
    objective = np.empty(len(entities))
    columns = [np.concatenate([np.empty(0), *(getattr(e, c) for e in entities)]) for c in ("label", "weight", "offset")]
    solve_entities(
        LOSSES[model.loss], model.intercept, begin, end, offsets, local, values, *columns,
        coefficient_begin, theta, penalty, np.zeros(used),
        model.tolerance, model.max_iterations, model.dense_limit, status, iterations, objective,
        0, np.empty(0), np.empty(0, np.int32), np.empty((4, 0)),
        np.empty(0), np.empty(0, np.float32),
    )  # fmt: skip
    cuts = coefficient_begin[1:-1]
    return Solution(np.split(theta, cuts), np.split(features, cuts), status, iterations, objective)


class Objective:
    """F of one entity over the coefficients of its model, in plain NumPy."""

    def __init__(self, entity: Entity, features: NDArray[np.int32], model: Model) -> None:
        ones = np.ones((len(entity.label), 1))
        self.X = np.hstack([ones, entity.X[:, features[1:]]]) if model.intercept else entity.X[:, features]
        if model.value_dtype is np.float32:
            self.X = self.X.astype(np.float32).astype(np.float64)
        self.penalty = np.full(len(features), model.l2)
        if not model.regularize_intercept:
            self.penalty[features == -1] = 0.0
        self.entity, self.loss = entity, model.loss

    def value(self, w: NDArray[np.float64]) -> float:
        z, y = self.X @ w + self.entity.offset, self.entity.label
        if self.loss == "logistic":
            losses = np.logaddexp(0, z) - y * z
        elif self.loss == "linear":
            losses = 0.5 * (z - y) ** 2
        else:
            losses = np.exp(np.minimum(z, 700)) - y * z
        return float(self.entity.weight @ losses + 0.5 * self.penalty @ w**2)

    def gradient(self, w: NDArray[np.float64]) -> NDArray[np.float64]:
        z, y = self.X @ w + self.entity.offset, self.entity.label
        mean = {"logistic": special.expit, "linear": lambda m: m, "poisson": lambda m: np.exp(np.minimum(m, 700))}
        slopes: NDArray[np.float64] = self.X.T @ (self.entity.weight * (mean[self.loss](z) - y)) + self.penalty * w
        return slopes

    def hessian(self, w: NDArray[np.float64]) -> NDArray[np.float64]:
        z = self.X @ w + self.entity.offset
        if self.loss == "logistic":
            bend = special.expit(z) * special.expit(-z)
        else:
            bend = np.ones(len(z)) if self.loss == "linear" else np.exp(np.minimum(z, 700))
        H: NDArray[np.float64] = self.X.T @ (self.X * (self.entity.weight * bend)[:, None]) + np.diag(self.penalty)
        return H

    def best(self) -> float:
        """The lowest F that SciPy's L-BFGS-B, and its Newton method started there, come to."""
        size = self.X.shape[1]
        if size == 0:
            return self.value(np.zeros(0))
        options = {"maxiter": 20_000, "maxfun": 100_000, "ftol": 1e-16, "gtol": 1e-11}
        found = optimize.minimize(self.value, np.zeros(size), jac=self.gradient, method="L-BFGS-B", options=options).x
        polished = found
        for _ in range(3):
            step = np.linalg.lstsq(self.hessian(polished), -self.gradient(polished), rcond=None)[0]
            if self.value(polished + step) <= self.value(polished):
                polished = polished + step
        return min(self.value(found), self.value(polished))

    def scale(self, w: NDArray[np.float64]) -> float:
        """What a relative error of F is relative to: its terms, as a Poisson loss may cancel, or fit without a rest."""
        z, y = self.X @ w + self.entity.offset, self.entity.label
        terms = np.exp(np.minimum(z, 700)) + np.abs(y * z) if self.loss == "poisson" else np.zeros(len(z))
        rounding = 1e-6 * abs(self.value(np.zeros(len(w))))
        return abs(self.value(w)) + float(self.entity.weight @ terms) + rounding


def random_entity(
    rng: np.random.Generator,
    loss: str,
    rows: int,
    columns: int,
    *,
    density: float = 0.5,
    weights: float = 1.0,
    offsets: float = 1.0,
) -> Entity:
    """weights, offsets: spread of the log of the weights, and of the offsets (0: all 1, all 0)."""
    X = rng.normal(size=(rows, columns)) * (rng.random((rows, columns)) < density)
    offset = rng.normal(0, offsets, rows)
    z = np.clip(X @ rng.normal(0, 0.5, columns) + offset, -3, 3)
    if loss == "logistic":
        label = (rng.random(rows) < special.expit(z)).astype(np.float64)
    elif loss == "linear":
        label = z + rng.normal(size=rows)
    else:
        label = rng.poisson(np.exp(z)).astype(np.float64)
    return Entity(X, label, np.exp(rng.normal(0, weights, rows)), offset)
