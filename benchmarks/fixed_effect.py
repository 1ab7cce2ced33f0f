"""Fixed effect: one loss and gradient, beside SciPy's CSR products; a whole fit, beside scikit-learn's; solvers.

python benchmarks/fixed_effect.py [--rows 1000000] [--features 100000] [--nonzeros 30]
"""

from __future__ import annotations

import argparse

import fixed_effect_solvers
import machine
import numpy as np
from fixed_effect_problem import sparse
from scipy.sparse import csr_matrix

from gdmix_core.solvers.large.newton_cg import minimize
from gdmix_core.solvers.large.objective import GlobalObjective
from gdmix_core.solvers.large.scaling import Penalty, ScaledObjective
from gdmix_core.solvers.losses import LOGISTIC
from gdmix_core.workers.all_reduce import SharedObjective, SingleWorker


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=100_000)
    parser.add_argument("--nonzeros", type=int, default=30)
    arguments = parser.parse_args()
    rows, features = arguments.rows, arguments.features
    bag, label = sparse(rows, features, arguments.nonzeros)
    print(machine.describe())
    print(f"{rows} rows x {arguments.nonzeros} non-zeros, {features} features, logistic, l2 = 1")
    ones, zeros = np.ones(rows), np.zeros(rows)
    ours = GlobalObjective(LOGISTIC, bag, features, label, ones, zeros, intercept=True, threads=machine.cores())
    w = np.random.default_rng(1).standard_normal(features + 1) * 0.1
    matrix = csr_matrix((bag.values.astype(np.float64), bag.indices, bag.offsets), shape=(rows, features))

    def scipy_gradient() -> tuple[float, np.ndarray]:
        z = matrix @ w[1:] + w[0]
        slope = 1.0 / (1.0 + np.exp(-z)) - label
        return float(np.sum(np.logaddexp(0.0, z) - label * z)), matrix.T @ slope

    value, gradient = ours.value_and_gradient(w)
    peer_value, peer_gradient = scipy_gradient()
    assert abs(value - peer_value) < 1e-9 * abs(value)
    assert np.abs(gradient[1:] - peer_gradient).max() < 1e-8 * np.abs(peer_gradient).max()
    mine = machine.median_seconds(lambda: ours.value_and_gradient(w))
    products = machine.median_seconds(lambda: (matrix @ w[1:], matrix.T @ label))
    whole = machine.median_seconds(scipy_gradient)
    print(f"loss and gradient, ours           {mine:8.3f} s")
    print(f"SciPy CSR products alone          {products:8.3f} s   ours takes {mine / products:5.2f} x that")
    print(f"SciPy loss and gradient           {whole:8.3f} s   ours takes {mine / whole:5.2f} x that")
    # A whole fit takes scikit-learn minutes at this size; a part of the rows shows the same.
    part = rows // 5
    fewer = bag.between(0, part)
    subset = GlobalObjective(
        LOGISTIC, fewer, features, label[:part], ones[:part], zeros[:part], intercept=True, threads=machine.cores()
    )
    fit(subset, matrix[:part], label[:part], features)
    fixed_effect_solvers.compare(part)


def fit(ours: GlobalObjective, matrix: csr_matrix, label: np.ndarray, features: int) -> None:
    from sklearn.linear_model import LogisticRegression

    slopes = np.ones(features + 1)
    slopes[0] = 0.0
    data = SharedObjective(ours, SingleWorker())
    objective = ScaledObjective(data, Penalty.ridge(slopes))
    found = []
    mine = machine.once(
        lambda: found.append(minimize(objective, np.zeros(features + 1), gtol=1e-6 * len(label), max_iterations=500))
    )
    peer = LogisticRegression(C=1.0, solver="lbfgs", tol=1e-6, max_iter=500)
    theirs = machine.once(lambda: peer.fit(matrix, label))
    best, _ = objective.value_and_gradient(np.concatenate([peer.intercept_, peer.coef_[0]]))
    minimum = found[0]
    print(
        f"whole fit, ours                   {mine:8.2f} s   {data.evaluations + data.hessian_products} passes, "
        f"objective {minimum.objective:.6f}, converged: {minimum.converged}"
    )
    print(f"scikit-learn LogisticRegression   {theirs:8.2f} s   objective {best:.6f}; ours takes {mine / theirs:.2f} x")
    print(f"objective, ours − scikit-learn's  {minimum.objective - best:+.3e}")


if __name__ == "__main__":
    main()
