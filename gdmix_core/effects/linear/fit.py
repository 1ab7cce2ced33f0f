"""The fit of a fixed effect on one worker's rows, in step with the workers that hold the others."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from gdmix_core import storage
from gdmix_core.config.coordinate import Coordinate
from gdmix_core.effects.linear.automatic_l2 import ROUNDS, sums_at
from gdmix_core.effects.linear.initial_model import InitialCoefficients
from gdmix_core.effects.linear.model import first_coefficients, write_result
from gdmix_core.effects.linear.posterior_variances import coefficient_variances
from gdmix_core.effects.linear.problem import FixedProblem
from gdmix_core.effects.linear.training_rows import TrainingRows
from gdmix_core.solvers.empirical_bayes.fixed_point import (
    START_VARIANCE,
    FixedPoint,
    Sums,
    group_count,
    group_of,
    named_l2,
    noise_variance,
    updated_variance,
)
from gdmix_core.solvers.large.objective import score_bag
from gdmix_core.solvers.large.optimize_result import OptimizeResult
from gdmix_core.training_context import TrainingContext
from gdmix_core.workers.all_reduce import AllReduce, SharedObjective
from gdmix_core.workers.checkpoint import Iterate, IterateCheckpoint

log = logging.getLogger(__name__)


def fit(
    context: TrainingContext,
    rows: TrainingRows,
    group: AllReduce,
    *,
    on_iteration: Callable[[int, float], None],
) -> dict[str, Any]:
    """Train together with the others of the group, each on its own share of the rows, which it then scores.

    The first of the group keeps the checkpoint and writes the model. Returns the outcome, the same for all.
    """
    # BLAS rounds by its number of threads: with one, a result does not depend on the machine's cores.
    with threadpool_limits(1, "blas"):
        return _Fit(context, rows, group, on_iteration).go()


class _Fit:
    def __init__(
        self,
        context: TrainingContext,
        rows: TrainingRows,
        group: AllReduce,
        on_iteration: Callable[[int, float], None],
    ) -> None:
        self._context, self._rows, self._group = context, rows, group
        self._settings = context.settings
        self._report = on_iteration
        self._checkpoint = IterateCheckpoint(context.folder("checkpoint"), context.key)
        initial = InitialCoefficients.read(context)
        self._unseen = self._without_rows(initial)
        self._keeps = context.config.initial_model is not None and context.config.initial_model.keeps_features
        self._initial = initial if self._keeps else initial.without(self._unseen)
        self._dropped = initial.size - self._initial.size
        self._problem = FixedProblem.from_context(context, self._initial)
        self._data = SharedObjective(rows.objective(), group)
        self._variance = _first_variance(context, self._settings, rows.features)
        self._start, self._total_weight = self._agree_on_start()
        effect = self._settings.linear
        self._max_iterations = effect.max_iterations
        self._gtol = effect.tolerance * max(1.0, self._total_weight)
        self._iterations = self._start.iterations

    def go(self) -> dict[str, Any]:
        if self._group.rank == 0:
            self._context.remove_score_parts()
        l2: NDArray[np.float64] | float
        about_l2: dict[str, Any] = {}
        if self._settings.automatic is None:
            l2 = self._settings.l2_weight
            minimum = self._solve(l2, self._start.w, self._max_iterations - self._iterations)
        else:
            minimum, l2, about_l2 = self._solve_for_l2()
        w, variances = self._model(minimum, l2)
        write_result(self._context, self._rows, w, variances, self._initial.beyond)
        return {
            "objective": minimum.objective,
            "gradient": minimum.gradient,
            "goal": self._gtol,
            "iterations": self._iterations,
            "evaluations": self._start.evaluations + self._data.evaluations,
            "hessian_products": self._start.hessian_products + self._data.hessian_products,
            "solver": "newton_cg" if self._problem.newton else "lbfgs",
            "converged": minimum.converged,
            "unbounded": self._separates(l2, w),
            "message": minimum.message,
            "coefficients": len(w),
            **about_l2,
            **self._about_initial(),
        }

    def _solve(
        self, l2: NDArray[np.float64] | float, start: NDArray[np.float64], max_iterations: int
    ) -> OptimizeResult:
        before = self._iterations

        def iterated(number: int, value: float, u: NDArray[np.float64]) -> None:
            self._iterations = before + number
            if self._group.rank == 0:
                evaluations = self._start.evaluations + self._data.evaluations
                products = self._start.hessian_products + self._data.hessian_products
                self._checkpoint.offer(Iterate(u, self._iterations, evaluations, products, self._variance))
            self._report(self._iterations, value)

        objective = self._problem.objective(self._data, l2)
        minimum = self._problem.solve(objective, start, self._gtol, max_iterations, iterated)
        self._iterations = before + minimum.iterations
        return minimum

    def _solve_for_l2(self) -> tuple[OptimizeResult, NDArray[np.float64], dict[str, Any]]:
        """Return the optimum under the λ that it itself asks for; λ of each coefficient; and what to tell of it."""
        assert self._settings.automatic is not None
        mode = self._settings.automatic.auto
        groups = group_of(mode, np.arange(-1, self._rows.features, dtype=np.int32))
        relative_precision = self._problem.relative_precision
        point = FixedPoint(self._variance)
        start = self._start.w
        for round_number in range(1, ROUNDS + 1):
            self._variance = point.variance
            l2 = 1.0 / point.variance[groups]
            minimum = self._solve(l2, start, self._max_iterations)
            start = minimum.w
            objective = self._problem.objective(self._data, l2)
            sums = sums_at(objective, minimum.w, relative_precision, groups, point.variance, mode)
            updated = updated_variance(sums, point.variance, mode, self._noise(minimum, sums))
            point.advance(updated)
            log.info("%s: round %d of l2: auto, λ changes by %.2g", self._context.id, round_number, point.change)
            if point.converged:
                break
        else:
            log.warning("%s: after %d rounds λ still changes by %.2g", self._context.id, ROUNDS, point.change)
        if self._group.rank == 0:
            storage.write_array(self._context.l2_file("next.npy"), updated)
        told = {
            "mode": mode,
            "used": named_l2(mode, self._variance, sums.count),
            "next": named_l2(mode, updated, sums.count),
            "rounds": round_number,
            "converged": point.converged,
        }
        return minimum, l2, {"l2": told}

    def _noise(self, minimum: OptimizeResult, sums: Sums) -> float:
        """φ of a linear model, 1 of any other."""
        if self._context.config.task != "linear_regression":
            return 1.0
        squares = 2.0 * self._data.value_and_gradient(self._problem.to_original(minimum.w))[0]
        rows = float(self._group.sum(np.array([self._rows.residual_dof()]))[0])
        # Coefficients without a penalty are determined only by the data.
        free = np.count_nonzero(self._problem.relative_precision == 0) - (0 if self._settings.intercept else 1)
        return noise_variance(squares, rows - free - float(np.sum(sums.count - sums.shrunk)))

    def _separates(self, l2: NDArray[np.float64] | float, w: NDArray[np.float64]) -> bool:
        """Check for a missing finite optimum: along w, no row's loss ever grows, and some rows' losses fall for ever.

        This happens if each row is on its label's side of the plane, and neither penalties nor bounds hold w. The loss
        of a linear model and the smoothed hinge have an optimum even then. A Poisson loss may have any value: labels
        that are all 0 are found before training.
        """
        if self._context.config.task != "logistic_regression":
            return False
        problem = self._problem
        held = (problem.relative_precision * l2 > 0) | (problem.precision > 0) | (problem.constraints.l1 > 0)
        held |= np.isfinite(np.where(w > 0, problem.upper, problem.lower))
        if np.any(held & (w != 0)):
            return False
        scores = score_bag(self._rows.bag, w, self._settings.intercept, self._rows.threads)
        towards = np.where(self._rows.label == 1.0, scores, -scores)
        # A label between the classes has its own optimum.
        against = (towards < 0) | ((scores != 0) & (self._rows.label != 0.0) & (self._rows.label != 1.0))
        counts = self._group.sum(np.array([np.count_nonzero(against), np.count_nonzero(towards > 0)], np.float64))
        return bool(counts[0] == 0 and counts[1] > 0)

    def _model(
        self, minimum: OptimizeResult, l2: NDArray[np.float64] | float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Return (means, variances), float64 [features + 1], in the features' units."""
        w = self._problem.to_original(minimum.w)
        kind = self._settings.variances
        variances = None
        if kind != "none":
            variances = coefficient_variances(self._problem.objective(self._data, l2), minimum.w, kind)
        kept = self._unseen & self._initial.known
        if np.any(kept):
            # No row has them, so the margins of those that trained stay as they are.
            w[kept] = np.clip(self._initial.means, self._problem.lower, self._problem.upper)[kept]
        stored = self._initial.variances
        if variances is not None or np.any(np.isfinite(stored[kept])):
            variances = np.full(len(w), np.nan) if variances is None else variances
            variances[kept] = np.where(np.isfinite(stored[kept]), stored[kept], variances[kept])
        return w, variances

    def _agree_on_start(self) -> tuple[Iterate, float]:
        """(where all begin, Σ weight over all rows). The first worker knows where, the others add zeros to it."""
        size, groups = self._rows.features + 1, len(self._variance)
        own = Iterate(np.zeros(size), variance=np.zeros(groups))
        if self._group.rank == 0:
            found = self._checkpoint.read()
            if found is not None:
                log.info("%s goes on from its checkpoint, after %d iterations", self._context.id, found.iterations)
            w = first_coefficients(self._context, self._rows.features, self._initial)
            own = found or Iterate(self._problem.scaling.to_scaled(w), variance=self._variance)
        counts = [self._rows.total_weight, own.iterations, own.evaluations, own.hessian_products]
        total = self._group.sum(np.concatenate([counts, own.variance, own.w]))
        self._variance = total[4 : 4 + groups]
        iterations, evaluations, products = (int(n) for n in total[1:4])
        return Iterate(total[4 + groups :], iterations, evaluations, products, self._variance), float(total[0])

    def _without_rows(self, initial: InitialCoefficients) -> NDArray[np.bool_]:
        """Return bool [features + 1]: features of the initial model that no training row of any worker has."""
        if not np.any(initial.known):
            return np.zeros(len(initial.known), bool)
        seen = self._group.sum(self._rows.seen())
        return np.concatenate([[False], seen == 0]) & initial.known

    def _about_initial(self) -> dict[str, Any]:
        if self._context.config.initial_model is None:
            return {}
        return {
            "initial": {
                "coefficients": int(np.sum(self._initial.known)),
                "kept_without_rows": int(np.sum(self._unseen & self._initial.known)),
                "kept_of_other_features": len(self._initial.beyond[0]),
                "dropped": self._dropped,
            }
        }


def _first_variance(context: TrainingContext, settings: Coordinate, features: int) -> NDArray[np.float64]:
    """1/λ of each group to start from: what the pass before ended with. Empty where λ is given."""
    if settings.automatic is None:
        return np.empty(0)
    variance = np.full(group_count(settings.automatic.auto, features), START_VARIANCE)
    if (before := context.previous) is not None:
        variance = storage.read_array(before.whole(before.l2_file("next.npy"))).astype(np.float64)
    return variance
