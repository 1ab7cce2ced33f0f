"""Speed on 1 … N threads: a whole fixed-effect fit and its parts, random effects, l2: auto; and the serial share.

    python benchmarks/scaling.py [--threads 1,2,4,8,16] [--rows 2000000] [--features 100000] [--nonzeros 10]

The fit is of data that is in memory, from its checks to the optimum. Its serial part is what the fit takes beside the
sums over rows, which are spread over threads: with it, a machine of few cores tells what many would bring (Amdahl's
law, memory permitting). On more threads than cores the results are still the same to the bit, which is checked.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import machine
import numpy as np
from fixed_effect_problem import sparse
from numpy.typing import NDArray
from random_effect import problem, solve, solve_automatic
from threadpoolctl import threadpool_limits

from gdmix_core.data.ragged import Bag
from gdmix_core.solvers.large.blocked_sum import BlockedSum
from gdmix_core.solvers.large.newton_cg import minimize
from gdmix_core.solvers.large.objective import GlobalObjective, score_bag
from gdmix_core.solvers.large.scaling import Penalty, ScaledObjective
from gdmix_core.solvers.losses import LOGISTIC
from gdmix_core.workers.all_reduce import SharedObjective, SingleWorker


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", default="", help="such as 1,2,4; default: powers of two up to the cores")
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--features", type=int, default=100_000)
    parser.add_argument("--nonzeros", type=int, default=10)
    parser.add_argument("--entities", type=int, default=40_000)
    arguments = parser.parse_args()
    cores = machine.cores()
    threads = [int(n) for n in arguments.threads.split(",") if n] or [
        n for n in (1, 2, 4, 8, 16, 32, 64) if n < 2 * cores
    ]
    print(machine.describe())
    print(
        f"fixed effect: {arguments.rows} rows x {arguments.nonzeros} non-zeros, {arguments.features} features; "
        f"random effect: {arguments.entities} entities, {20 * arguments.entities} rows"
    )
    bag, label = sparse(arguments.rows, arguments.features, arguments.nonzeros)
    entities = problem(arguments.entities, 20 * arguments.entities)
    measured: dict[str, list[float]] = {}
    found: list[NDArray[np.float64]] = []
    # As in a run: BLAS would round by its number of threads.
    with threadpool_limits(1, "blas"):
        for count in threads:
            for name, work in fixed_effect(bag, label, arguments.features, count, found).items():
                measured.setdefault(name, []).append(machine.median_seconds(work, 3))
            for name, work in {
                "random effect": lambda n=count: solve(entities, n),
                "random effect, l2: auto": lambda n=count: solve_automatic(entities, n),
            }.items():
                measured.setdefault(name, []).append(machine.median_seconds(work, 3))
        assert all(np.array_equal(w, found[0]) for w in found), "the number of threads has changed the result"
        whole, serial = serial_part(bag, label, arguments.features)
    print(f"\n{'seconds (and x of the first)':32s}" + "".join(f"{n:>10d} thr.  " for n in threads))
    for name, seconds in measured.items():
        print(f"{name:32s}" + "".join(f"{s:9.4f} ({seconds[0] / s:4.1f})" for s in seconds))
    share = serial / whole
    print(f"\nserial part of the whole fit: {1e3 * serial:.1f} of {1e3 * whole:.1f} ms on one thread, {share:.2%}")
    print("at best, by Amdahl: " + ", ".join(f"{1 / (share + (1 - share) / n):.1f} x on {n}" for n in (4, 8, 16, 32)))


def fixed_effect(
    bag: Bag, label: NDArray[np.float64], features: int, threads: int, found: list[NDArray[np.float64]]
) -> dict[str, Callable[[], object]]:
    """Return what is timed, by its name; found gets the coefficients of every fit."""
    ours = objective_of(bag, label, features, threads)
    w = np.random.default_rng(1).standard_normal(features + 1) * 0.1
    return {
        "checks and set-up": lambda: objective_of(bag, label, features, threads),
        "loss and gradient": lambda: ours.value_and_gradient(w),
        "Hessian times vector": lambda: ours.product(w),
        "Hessian's diagonal": ours.diagonal,
        "scores": lambda: score_bag(bag, w, True, threads),
        "whole fit": lambda: found.append(fit(bag, label, features, threads)),
    }


def objective_of(bag: Bag, label: NDArray[np.float64], features: int, threads: int) -> GlobalObjective:
    ones, zeros = np.ones(len(label)), np.zeros(len(label))
    return GlobalObjective(LOGISTIC, bag, features, label, ones, zeros, intercept=True, threads=threads)


def fit(bag: Bag, label: NDArray[np.float64], features: int, threads: int) -> NDArray[np.float64]:
    slopes = np.ones(features + 1)
    slopes[0] = 0.0
    data = SharedObjective(objective_of(bag, label, features, threads), SingleWorker())
    start = np.zeros(features + 1)
    objective = ScaledObjective(data, Penalty.ridge(slopes))
    return minimize(objective, start, gtol=1e-7 * len(label), max_iterations=200).w


def serial_part(bag: Bag, label: NDArray[np.float64], features: int) -> tuple[float, float]:
    """(seconds of a fit on one thread, those outside of the checks of the bag and the sums over rows)."""
    shared = 0.0

    def counted(method: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            nonlocal shared
            began = time.perf_counter()
            try:
                return method(*arguments, **named)
            finally:
                shared += time.perf_counter() - began

        return call

    methods = [(BlockedSum, "sum"), (Bag, "checked")]
    originals = [getattr(owner, name) for owner, name in methods]
    for (owner, name), original in zip(methods, originals, strict=True):
        setattr(owner, name, counted(original))
    try:
        whole = machine.once(lambda: fit(bag, label, features, 1))
    finally:
        for (owner, name), original in zip(methods, originals, strict=True):
            setattr(owner, name, original)
    return whole, whole - shared


if __name__ == "__main__":
    main()
