"""Fixed effect: passes over the rows and time of the solvers, on an easy sparse problem and on an ill-conditioned one.

python benchmarks/fixed_effect_solvers.py [--rows 200000] [--dense]
"""

from __future__ import annotations

import argparse

import machine
import numpy as np
from fixed_effect_problem import ill_conditioned, sparse
from threadpoolctl import threadpool_limits

from gdmix_core.data.ragged import Bag
from gdmix_core.solvers.large import lbfgs, newton_cg, projected_newton
from gdmix_core.solvers.large.nonsmooth import Constraints
from gdmix_core.solvers.large.objective import GlobalObjective
from gdmix_core.solvers.large.optimize_result import OptimizeResult
from gdmix_core.solvers.large.scaling import Penalty, ScaledObjective
from gdmix_core.solvers.losses import LOGISTIC
from gdmix_core.workers.all_reduce import SharedObjective, SingleWorker

_MOST = 1000  # iterations


def solve(
    name: str, solver: str, bag: Bag, label: np.ndarray, features: int, l2: float = 1.0, l1: float = 0.0
) -> OptimizeResult:
    rows = len(label)
    own = GlobalObjective(
        LOGISTIC, bag, features, label, np.ones(rows), np.zeros(rows), intercept=True, threads=machine.cores()
    )
    data = SharedObjective(own, SingleWorker())
    slopes = np.ones(features + 1)
    slopes[0] = 0.0
    objective = ScaledObjective(data, Penalty.ridge(l2 * slopes))
    unbounded = np.full(features + 1, np.inf)
    constraints = Constraints(l1 * slopes, -unbounded, unbounded)
    start, gtol, found = np.zeros(features + 1), 1e-6 * rows, []

    def work() -> None:
        if solver == "lbfgs":
            minimum = lbfgs.minimize(
                objective.value_and_gradient, start, gtol=gtol, max_iterations=_MOST, constraints=constraints
            )
        elif l1:
            minimum = projected_newton.minimize(
                objective, start, gtol=gtol, max_iterations=_MOST, constraints=constraints
            )
        else:
            limit = features + 1 if solver == "dense" else 0
            minimum = newton_cg.minimize(objective, start, gtol=gtol, max_iterations=_MOST, dense_limit=limit)
        found.append(minimum)

    seconds = machine.once(work)
    minimum: OptimizeResult = found[0]
    print(
        f"{name:38s} {solver:10s} {data.evaluations + data.hessian_products:6d} passes "
        f"({data.evaluations} + {data.hessian_products}) {seconds:8.2f} s   "
        f"{'converged' if minimum.converged else f'gradient {minimum.gradient / gtol:.0e} x tolerance'}"
    )
    return minimum


def compare(rows: int) -> None:
    """Passes: evaluations of loss and gradient + products with the Hessian."""
    features = rows // 2
    bag, label = sparse(rows, features, 30)
    few, few_labels = ill_conditioned(rows // 10, 100)
    solve("(compiling)", "newton_cg", bag.between(0, 100), label[:100], features)
    solve("(compiling)", "newton_cg", bag.between(0, 100), label[:100], features, l1=1.0)
    for solver in ("lbfgs", "newton_cg"):
        solve(f"{rows} x {features} sparse, l2 1", solver, bag, label, features)
        solve(f"{rows} x {features} sparse, l1 3", solver, bag, label, features, 0.0, 3.0)
        solve(f"{rows // 10} x 100 ill-conditioned, l2 1", solver, few, few_labels, 100)
        solve(f"{rows // 10} x 100 ill-conditioned, l1 1", solver, few, few_labels, 100, 0.0, 1.0)


def dense_limit(rows: int) -> None:
    """Where making the Hessian takes as long as multiplying with it, on rows that have every feature."""
    for group, kind in ((4, "ill-conditioned"), (1, "independent")):
        for features in (16, 32, 64, 128):
            bag, label = ill_conditioned(rows // 2, features, group)
            solve("(compiling)", "dense", bag.between(0, 100), label[:100], features)
            for solver in ("newton_cg", "dense"):
                solve(f"{rows // 2} x {features} {kind}", solver, bag, label, features)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dense", action="store_true", help="instead, where the dense Hessian pays")
    arguments = parser.parse_args()
    print(machine.describe())
    with threadpool_limits(1, "blas"):
        (dense_limit if arguments.dense else compare)(arguments.rows)


if __name__ == "__main__":
    main()
