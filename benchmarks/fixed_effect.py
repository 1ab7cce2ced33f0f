"""Fixed effect: one loss and gradient, beside SciPy's CSR products; and a whole fit, beside scikit-learn's.

python benchmarks/fixed_effect.py [--rows 1000000] [--features 100000] [--nonzeros 30]
"""

from __future__ import annotations

import argparse

import machine
import numpy as np
from scipy.sparse import csr_matrix

from gdmix_core.data.ragged import Bag
from gdmix_core.solvers.global_objective import GlobalObjective
from gdmix_core.solvers.lbfgs import minimize
from gdmix_core.solvers.losses import LOGISTIC


def problem(rows: int, features: int, nonzeros: int, seed: int = 0) -> tuple[Bag, np.ndarray]:
    rng = np.random.default_rng(seed)
    # Some features are frequent and most are rare, as in practice.
    indices = np.minimum(features - 1, (features * rng.random((rows, nonzeros)) ** 3)).astype(np.int32)
    indices.sort(axis=1)
    values = rng.standard_normal(rows * nonzeros).astype(np.float32)
    bag = Bag(np.arange(rows + 1) * nonzeros, indices.ravel(), values)
    truth = rng.standard_normal(features) * 0.2
    margin = csr_matrix((values, bag.indices, bag.offsets), shape=(rows, features)) @ truth
    return bag, (rng.random(rows) < 1 / (1 + np.exp(-margin))).astype(np.float64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=100_000)
    parser.add_argument("--nonzeros", type=int, default=30)
    arguments = parser.parse_args()
    rows, features = arguments.rows, arguments.features
    bag, label = problem(rows, features, arguments.nonzeros)
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


def fit(ours: GlobalObjective, matrix: csr_matrix, label: np.ndarray, features: int) -> None:
    from sklearn.linear_model import LogisticRegression

    penalty = np.ones(features + 1)
    penalty[0] = 0.0
    rows = len(label)

    def objective(w: np.ndarray) -> float:
        value, _ = ours.value_and_gradient(w)
        return value + 0.5 * float(penalty @ (w * w))

    found = []
    mine = machine.once(
        lambda: found.append(
            minimize(
                ours.value_and_gradient,
                penalty,
                np.zeros(features + 1),
                goal=1e-6 * rows,
                max_iterations=500,
                history=10,
            )
        )
    )
    peer = LogisticRegression(C=1.0, solver="lbfgs", tol=1e-6, max_iter=500)
    theirs = machine.once(lambda: peer.fit(matrix, label))
    best = objective(np.concatenate([peer.intercept_, peer.coef_[0]]))
    minimum = found[0]
    print(
        f"whole fit, ours                   {mine:8.2f} s   {minimum.evaluations} evaluations, "
        f"objective {minimum.objective:.6f}, converged: {minimum.converged}"
    )
    print(f"scikit-learn LogisticRegression   {theirs:8.2f} s   objective {best:.6f}; ours takes {mine / theirs:.2f} x")
    print(f"objective, ours − scikit-learn's  {minimum.objective - best:+.3e}")


if __name__ == "__main__":
    main()
