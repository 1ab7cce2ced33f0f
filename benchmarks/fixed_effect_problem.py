"""Logistic problems of the benchmarks of the fixed effect."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

from gdmix_core.data.ragged import Bag


def sparse(rows: int, features: int, nonzeros: int, seed: int = 0) -> tuple[Bag, np.ndarray]:
    """Rows of up to so many features: one that is drawn twice for a row is there once, with the sum of its values."""
    rng = np.random.default_rng(seed)
    # Some features are frequent and most are rare, as in practice.
    indices = np.minimum(features - 1, (features * rng.random((rows, nonzeros)) ** 3)).astype(np.int32)
    indices.sort(axis=1)
    values = rng.standard_normal(rows * nonzeros).astype(np.float32)
    matrix = csr_matrix((values, indices.ravel(), np.arange(rows + 1) * nonzeros), shape=(rows, features))
    matrix.sum_duplicates()
    bag = Bag(matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), matrix.data)
    margin = matrix @ (rng.standard_normal(features) * 0.2)
    return bag, (rng.random(rows) < 1 / (1 + np.exp(-margin))).astype(np.float64)


def ill_conditioned(rows: int, features: int, group: int = 10, seed: int = 1) -> tuple[Bag, np.ndarray]:
    """Every row has every feature; features of a group are all but the same, and scales go from 1e-3 to 1e3."""
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((rows, -(-features // group)))
    values = np.repeat(common, group, axis=1)[:, :features] + 0.1 * rng.standard_normal((rows, features))
    margin = values @ (rng.standard_normal(features) * 0.3)
    label = (rng.random(rows) < 1 / (1 + np.exp(-margin))).astype(np.float64)
    values *= rng.permutation(np.logspace(-3, 3, features))
    indices = np.tile(np.arange(features, dtype=np.int32), rows)
    return Bag(np.arange(rows + 1) * features, indices, values.astype(np.float32).ravel()), label
