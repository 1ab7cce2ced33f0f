"""Fixed effect: one loss and gradient, beside SciPy's CSR products.

python benchmarks/fixed_effect.py [--rows 1000000] [--features 100000] [--nonzeros 30]
"""

from __future__ import annotations

import argparse

import machine
import numpy as np
from fixed_effect_problem import sparse
from scipy.sparse import csr_matrix

from gdmix_core.solvers.large.objective import GlobalObjective
from gdmix_core.solvers.losses import LOGISTIC


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


if __name__ == "__main__":
    main()
