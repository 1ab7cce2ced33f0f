"""Entities of random shape, their objective in plain NumPy, and the best optimum SciPy finds: the solver's oracle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from gdmix_core.solvers.entity import posterior
from gdmix_core.solvers.entity.local_index import build_local_index
from gdmix_core.solvers.entity.newton import CONVERGED, NO_DATA, SEPARATED
from gdmix_core.solvers.entity.problem import Constraints, Entities, Features, Limits, Measures, Outcome, Penalty, Rows
from gdmix_core.solvers.entity.solve import solve_entities
from tests.solvers.losses import loss_formulas
from tests.solvers.losses.loss_formulas import LOSSES

# Looks at rows whose margins lie beyond this as the solver's bound for models without a finite optimum.
LARGEST_SANE_MARGIN = 200.0


@dataclass
class Entity:
    """Rows of one entity. X: float64 [n, d], zeros are features a row does not have."""

    X: NDArray[np.float64]
    label: NDArray[np.float64]
    weight: NDArray[np.float64]
    offset: NDArray[np.float64]


@dataclass
class Solution:
    """theta, variances: by entity, intercept first; features: by entity, global index of each coefficient, −1 the
    intercept; sums: [4, groups] as posterior.measure adds them; leverage: by entity, of each row."""

    theta: list[NDArray[np.float64]]
    features: list[NDArray[np.int32]]
    status: NDArray[np.uint8]
    iterations: NDArray[np.int32]
    objective: NDArray[np.float64]
    variances: list[NDArray[np.float64]]
    sums: NDArray[np.float64]
    leverage: list[NDArray[np.float32]]


@dataclass
class Model:
    """prior, lower, upper: float64 [features + 1], the intercept's first, or None for 0 and no bound.

    proximal: through entity_proximal. groups: how many priors l2: auto would estimate; group: of each coefficient, from
    its feature. Penalties leave the intercept alone unless regularize_intercept.
    """

    loss: str = "logistic"
    intercept: bool = True
    l2: float = 1.0
    regularize_intercept: bool = False
    tolerance: float = 1e-6
    max_iterations: int = 100
    dense_limit: int = 128
    value_dtype: type = np.float64
    l1: float = 0.0
    prior: NDArray[np.float64] | None = None
    lower: NDArray[np.float64] | None = None
    upper: NDArray[np.float64] | None = None
    proximal: bool = False
    variance_mode: int = posterior.NO_VARIANCES
    groups: int = 0

    def of(
        self, features: NDArray[np.int32], values: NDArray[np.float64] | None, default: float
    ) -> NDArray[np.float64]:
        return np.full(len(features), default) if values is None else values[features + 1]

    def penalised(self, features: NDArray[np.int32], weight: float) -> NDArray[np.float64]:
        return np.where((features == -1) & (not self.regularize_intercept), 0.0, weight)

    def group(self, features: NDArray[np.int32]) -> NDArray[np.int32]:
        """The intercept's group is 0, features take turns in the others; with one group all are in it."""
        if self.groups <= 1:
            return np.zeros(len(features), np.int32)
        return np.where(features == -1, 0, 1 + features % (self.groups - 1)).astype(np.int32)


def solve(
    entities: list[Entity],
    model: Model,
    start: list[NDArray[np.float64]] | None = None,
    other_margin_variance: Sequence[float] | None = None,
) -> Solution:
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
    status = np.empty(len(entities), np.uint8)
    iterations = np.empty(len(entities), np.int32)
    objective = np.empty(len(entities))
    columns = [np.concatenate([np.empty(0), *(getattr(e, c) for e in entities)]) for c in ("label", "weight", "offset")]
    variances = np.full(used if model.variance_mode else 0, np.nan)
    sums = np.zeros((4, model.groups))
    measured = len(rows) if model.groups else 0
    leverage = np.zeros(measured, np.float32)
    others = np.zeros(measured) if other_margin_variance is None else np.asarray(other_margin_variance, np.float64)
    loss, by_entity = LOSSES[model.loss], Entities(begin, end, coefficient_begin)
    data = Rows(Features(model.intercept, offsets, local, values), *columns)
    penalty = Penalty(model.penalised(features, model.l2), model.of(features, model.prior, 0.0))
    limits = Limits(model.tolerance, model.max_iterations, model.dense_limit)
    outcome = Outcome(status, iterations, objective)
    group = model.group(features) if model.groups else np.empty(0, np.int32)
    measures = Measures(model.variance_mode, variances, group, sums, others, leverage)
    constraints = None
    if model.proximal:
        constraints = Constraints(
            model.penalised(features, model.l1), model.of(features, model.lower, -np.inf),
            model.of(features, model.upper, np.inf),
        )  # fmt: skip
    solve_entities(loss, by_entity, data, theta, penalty, constraints, limits, outcome, measures)
    cuts = coefficient_begin[1:-1]
    return Solution(
        np.split(theta, cuts),
        np.split(features, cuts),
        status,
        iterations,
        objective,
        np.split(variances, cuts) if model.variance_mode else [],
        sums,
        np.split(leverage, end[:-1]) if measured else [],
    )


class Objective:
    """F of one entity over the coefficients of its model, in plain NumPy. X: [n, k], the intercept's ones first."""

    def __init__(self, entity: Entity, features: NDArray[np.int32], model: Model) -> None:
        ones = np.ones((len(entity.label), 1))
        self.X = np.hstack([ones, entity.X[:, features[1:]]]) if model.intercept else entity.X[:, features]
        if model.value_dtype is np.float32:
            self.X = self.X.astype(np.float32).astype(np.float64)
        self.penalty = model.penalised(features, model.l2)
        self.l1 = model.penalised(features, model.l1)
        self.prior = model.of(features, model.prior, 0.0)
        self.lower = model.of(features, model.lower, -np.inf)
        self.upper = model.of(features, model.upper, np.inf)
        self.entity, self.loss = entity, model.loss

    def margins(self, w: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(self.X @ w + self.entity.offset)

    def value(self, w: NDArray[np.float64]) -> float:
        return self.smooth(w) + float(self.l1 @ np.abs(w))

    def smooth(self, w: NDArray[np.float64]) -> float:
        losses = loss_formulas.value(self.loss, self.margins(w), self.entity.label)
        return float(self.entity.weight @ losses + 0.5 * self.penalty @ (w - self.prior) ** 2)

    def gradient(self, w: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of the smooth part."""
        slope = self.entity.weight * loss_formulas.first(self.loss, self.margins(w), self.entity.label)
        return np.asarray(self.X.T @ slope + self.penalty * (w - self.prior))

    def hessian(self, w: NDArray[np.float64]) -> NDArray[np.float64]:
        bend = self.entity.weight * loss_formulas.second(self.loss, self.margins(w), self.entity.label)
        return np.asarray(self.X.T @ (self.X * bend[:, None]) + np.diag(self.penalty))

    def best(self) -> float:
        """The lowest F that SciPy's L-BFGS-B, and Newton steps from there, come to; without L1 and bounds."""
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
    if loss in ("logistic", "smoothed_hinge"):
        label = (rng.random(rows) < special.expit(z)).astype(np.float64)
    elif loss == "linear":
        label = z + rng.normal(size=rows)
    else:
        label = rng.poisson(np.exp(z)).astype(np.float64)
    return Entity(X, label, np.exp(rng.normal(0, weights, rows)), offset)


def assert_optimal(entities: list[Entity], found: Solution, model: Model) -> None:
    """Every entity's F is within 1e-9 of SciPy's best, and everything is finite."""
    for e, entity in enumerate(entities):
        objective = Objective(entity, found.features[e], model)
        theta = found.theta[e]
        assert np.isfinite(theta).all()
        value, best = objective.value(theta), objective.best()
        slack = 1e-9 * objective.scale(theta)
        if found.status[e] == SEPARATED:
            # No finite optimum: stopped where there is all but nothing left to gain.
            assert not model.regularize_intercept or model.l2 == 0
            assert value <= best + 1e-5 * entity.weight.sum()
            assert np.abs(objective.X @ theta).max() < LARGEST_SANE_MARGIN + np.abs(entity.offset).max()
            continue
        if len(theta) == 0:
            assert found.status[e] == NO_DATA
            continue
        assert found.status[e] == CONVERGED, (found.status[e], value, best)
        assert value <= best + slack, (value, best, value - best)
        assert abs(found.objective[e] - value) <= 1e-8 * objective.scale(theta)
