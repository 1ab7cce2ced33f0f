"""The parts of a fixed effect's problem beside its data term: penalties, priors, bounds, and feature scaling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gdmix_core.effects.bounds import limits_of
from gdmix_core.effects.linear.initial_model import InitialCoefficients
from gdmix_core.effects.normalization import scaling
from gdmix_core.solvers.large.lbfgs import minimize as lbfgs
from gdmix_core.solvers.large.newton_cg import minimize as newton_cg
from gdmix_core.solvers.large.nonsmooth import Constraints
from gdmix_core.solvers.large.optimize_result import OptimizeResult
from gdmix_core.solvers.large.projected_newton import minimize as projected_newton
from gdmix_core.solvers.large.scaling import Penalty, ScaledObjective, Scaling
from gdmix_core.training_context import TrainingContext
from gdmix_core.workers.all_reduce import DataTerm

OnIteration = Callable[[int, float, NDArray[np.float64]], None]


@dataclass(frozen=True)
class FixedProblem:
    """All arrays [features + 1], the intercept first.

    relative_precision: what multiplies λ for each coefficient: 1; the weight of a prior without variance; 0 where no λ
        acts; scaled_prior_mean: of that penalty, in scaled variables
    precision, prior_mean: of a prior with variance, in the features' units
    lower, upper: bounds in the features' units; constraints: they and L1, in scaled variables
    newton: which solver; history: of L-BFGS
    """

    scaling: Scaling
    relative_precision: NDArray[np.float64]
    scaled_prior_mean: NDArray[np.float64]
    precision: NDArray[np.float64]
    prior_mean: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    constraints: Constraints
    newton: bool
    history: int

    @classmethod
    def from_context(cls, context: TrainingContext, coefficients: InitialCoefficients) -> FixedProblem:
        """coefficients: without what the configuration drops.

        Raises ConfigError for wrong bounds, StepError where the statistics that a normalization needs are missing.
        """
        settings, initial = context.settings, context.config.initial_model
        scale = Scaling.of_features(*scaling(context))
        weight = initial.prior_weight if initial else 0.0
        penalised = np.ones(len(scale.factor))
        if not (settings.intercept and settings.regularize_intercept):
            penalised[0] = 0.0
        has_prior = coefficients.known & (weight > 0.0)
        certain = coefficients.usable_variance & has_prior
        lower, upper = _bounds(context, len(penalised))
        # Only the intercept is ever shifted, and it is then not bounded.
        l1 = settings.l1_weight * penalised
        constraints = Constraints(l1, lower / scale.factor, upper / scale.factor)
        return cls(
            scale,
            relative_precision=np.where(certain, 0.0, np.where(has_prior, weight, 1.0) * penalised),
            scaled_prior_mean=np.where(has_prior & ~certain, scale.to_scaled(coefficients.means), 0.0),
            precision=np.divide(weight, coefficients.variances, out=np.zeros(len(penalised)), where=certain),
            prior_mean=np.where(certain, coefficients.means, 0.0),
            lower=lower,
            upper=upper,
            constraints=constraints,
            newton=settings.linear.solver != "lbfgs",
            history=settings.linear.history,
        )

    def to_original(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the coefficients in the features' units, which keep the bounds to the last bit."""
        w = self.scaling.to_original(u)
        at_lower, at_upper = u <= self.constraints.lower, u >= self.constraints.upper
        w[at_lower], w[at_upper] = self.lower[at_lower], self.upper[at_upper]
        return w

    def objective(self, data: DataTerm, l2: NDArray[np.float64] | float) -> ScaledObjective:
        """l2: λ, of all or of each coefficient."""
        penalty = Penalty(l2 * self.relative_precision, self.scaled_prior_mean, self.precision, self.prior_mean)
        return ScaledObjective(data, penalty, self.scaling)

    def solve(
        self,
        objective: ScaledObjective,
        start: NDArray[np.float64],
        gtol: float,
        max_iterations: int,
        on_iteration: OnIteration,
    ) -> OptimizeResult:
        """OptimizeResult.w is in scaled variables, as is start."""
        if self.newton and self.constraints.any:
            return projected_newton(
                objective, start, gtol=gtol, max_iterations=max_iterations, constraints=self.constraints,
                on_iteration=on_iteration,
            )  # fmt: skip
        if self.newton:
            return newton_cg(objective, start, gtol=gtol, max_iterations=max_iterations, on_iteration=on_iteration)
        return lbfgs(
            objective.value_and_gradient, start, gtol=gtol,
            # One more even after the checkpoint of the last: SciPy knows no other way to tell whether it converged.
            max_iterations=max(1, max_iterations), history=self.history,
            constraints=self.constraints, on_iteration=on_iteration,
        )  # fmt: skip


def _bounds(context: TrainingContext, size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if not context.settings.bounds:
        return np.full(size, -np.inf), np.full(size, np.inf)
    return limits_of(context.name, context.settings, context.frame.feature_list_of(context.name))
