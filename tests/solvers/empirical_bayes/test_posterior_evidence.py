"""Where the fixed point of l2: auto ends: at the maximum of the Laplace approximation's evidence.

The evidence is computed in NumPy, for each entity −F(θ̂) − ½ log|H(θ̂)| + ½ Σ log λ, with θ̂ found anew for every σ².
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from gdmix_core.solvers.empirical_bayes.fixed_point import Mode, Sums, updated_variance
from tests.solvers.entity.entity_problem import Entity, Model, Objective, random_entity, solve

STEP = 0.01  # in log σ²


class Grouped(Model):
    """λ of each coefficient from its group's σ²."""

    variance: NDArray[np.float64] = np.ones(1)

    def penalised(self, features: NDArray[np.int32], weight: float) -> NDArray[np.float64]:
        return weight / self.variance[self.group(features)]


def model_under(model: Grouped, variance: NDArray[np.float64]) -> Grouped:
    changed = replace(model)
    changed.variance = variance
    return changed


def optimum(objective: Objective) -> NDArray[np.float64]:
    """By Newton's method in NumPy, halving steps that do not descend."""
    w = np.zeros(objective.X.shape[1])
    for _ in range(60):
        step = np.linalg.solve(objective.hessian(w), -objective.gradient(w))
        while objective.value(w + step) > objective.value(w) + 1e-14:
            step = step / 2
        w = w + step
        if np.abs(step).max() < 1e-13:
            break
    return w


def evidence(entities: list[Entity], features: list[NDArray[np.int32]], model: Grouped, log_variance: NDArray) -> float:
    total = 0.0
    for entity, index in zip(entities, features, strict=True):
        objective = Objective(entity, index, model_under(model, np.exp(log_variance)))
        w = optimum(objective)
        total += -objective.value(w) - 0.5 * np.linalg.slogdet(objective.hessian(w))[1]
        total += 0.5 * np.sum(np.log(objective.penalty))
    return total


def distance_to_maximum(
    entities: list[Entity], features: list[NDArray[np.int32]], model: Grouped, variance: NDArray
) -> NDArray[np.float64]:
    """Newton's step of the evidence in log σ²: how far its stationary point is, for points close to it."""
    at, size = np.log(variance), len(variance)
    shifts = STEP * np.eye(size)

    def value(shift: NDArray[np.float64]) -> float:
        return evidence(entities, features, model, at + shift)

    slope = np.array([(value(s) - value(-s)) / (2 * STEP) for s in shifts])
    bend = np.array(
        [[(value(a + b) - value(a - b) - value(b - a) + value(-a - b)) / (4 * STEP**2) for b in shifts] for a in shifts]
    )
    assert (np.linalg.eigvalsh(bend) < 0).all(), "no maximum nearby"
    return np.linalg.solve(bend, -slope)


def fixed_point(entities: list[Entity], model: Grouped, mode: Mode, *, corrected: bool) -> NDArray[np.float64]:
    variance = np.ones(model.groups)
    for _ in range(400):
        found = solve(entities, model_under(model, variance))
        rows = found.sums.copy()
        rows[:2] *= variance  # θ² and c from the kernel's λθ² and λc
        if not corrected:
            rows[1] = 0.0
        updated = updated_variance(Sums.from_rows(rows), variance, mode)
        change = np.abs(np.log(updated / variance)).max()
        variance = updated
        if change < 1e-7:
            break
    return variance


def population(loss: str, mode: Mode) -> list[Entity]:
    """Entities whose coefficients are drawn from the prior, so that there is something to find."""
    rng = np.random.default_rng(3)
    columns = 2 if mode == "intercept_slopes" else 0
    entities = []
    for _ in range(60):
        entity = random_entity(rng, loss, int(rng.integers(3, 12)), columns, density=1.0, weights=0.2, offsets=0.5)
        z = entity.offset + rng.normal() + entity.X @ rng.normal(0, 0.8, columns)
        if loss == "logistic":
            entity.label = (rng.random(len(z)) < 1 / (1 + np.exp(-z))).astype(float)
        elif loss == "poisson":
            entity.label = rng.poisson(np.exp(np.minimum(z, 3))).astype(float)
        else:
            entity.label = z + rng.normal(size=len(z))
        entities.append(entity)
    return entities


@pytest.mark.parametrize("mode", ["coordinate", "intercept_slopes"])
@pytest.mark.parametrize("loss", ["logistic", "poisson", "linear"])
def test_the_fixed_point_is_the_maximum_of_the_evidence(loss: str, mode: Mode):
    entities = population(loss, mode)
    groups = 2 if mode == "intercept_slopes" else 1
    model = Grouped(loss, l2=1.0, tolerance=1e-10, groups=groups)
    features = solve(entities, model_under(model, np.ones(groups))).features
    corrected = fixed_point(entities, model, mode, corrected=True)
    assert np.abs(distance_to_maximum(entities, features, model, corrected)).max() < 1e-3
    plain = fixed_point(entities, model, mode, corrected=False)
    if loss == "linear":  # its Hessian does not move
        assert plain == pytest.approx(corrected, rel=1e-6)
    else:
        assert np.abs(np.log(plain / corrected)).max() > 0.01
        assert np.abs(distance_to_maximum(entities, features, model, plain)).max() > 0.01
