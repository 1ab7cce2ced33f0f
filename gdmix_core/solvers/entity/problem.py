"""The data of the kernels of many small models: arrays that belong together, as tuples that cost Numba nothing."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Entities(NamedTuple):
    """The ranges of rows and of coefficients of each of E entities, among all.

    row_begin, row_end: int64 [E]; coefficient_begin: int64 [E + 1]
    """

    row_begin: NDArray[np.int64]
    row_end: NDArray[np.int64]
    coefficient_begin: NDArray[np.int64]


class Features(NamedTuple):
    """The features of all rows. offsets int64 [n + 1]; local int32, values: by entry.

    local is the position within the entity's coefficients, ascending in a row; with an intercept, position 0 is the
    intercept's and no row lists it.
    """

    intercept: bool
    offsets: NDArray[np.int64]
    local: NDArray[np.int32]
    values: NDArray[np.floating]


class Rows(NamedTuple):
    """The rows of all entities. label, weight, margin_offset: float64 [n]

    The features are a tuple of their own: a call counts references to each array in what it is given.
    """

    features: Features
    label: NDArray[np.float64]
    weight: NDArray[np.float64]
    margin_offset: NDArray[np.float64]


class Penalty(NamedTuple):
    """½ Σ_j precision_j (w_j − prior_mean_j)²; both float64, of all entities' coefficients, or of one's."""

    precision: NDArray[np.float64]
    prior_mean: NDArray[np.float64]


class Constraints(NamedTuple):
    """Σ_j l1_j |w_j|, and lower ≤ w ≤ upper (infinite: no bound); float64, of all coefficients or of one entity's."""

    l1: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]


class Limits(NamedTuple):
    """tolerance: of the gradient's max-norm, times max(1, Σ weight); dense_limit: coefficients up to which the Hessian
    is factored."""

    tolerance: float
    max_iterations: int
    dense_limit: int


class Outcome(NamedTuple):
    """The output for each entity: status uint8, iterations int32, objective float64 (F before the last, tiny step)."""

    status: NDArray[np.uint8]
    iterations: NDArray[np.int32]
    objective: NDArray[np.float64]


class Measures(NamedTuple):
    """The measures at the solutions, see posterior.measure.

    variances float64, out, and group int32: of all coefficients; sums float64 [4, G], added to
    other_margin_variance float64 [n]; margin_variance float32 [n], out. Arrays are empty where nothing is asked for.
    """

    variance_mode: int
    variances: NDArray[np.float64]
    group: NDArray[np.int32]
    sums: NDArray[np.float64]
    other_margin_variance: NDArray[np.float64]
    margin_variance: NDArray[np.float32]


class Scratch(NamedTuple):
    """Memory for one entity at a time, as large as the largest needs it.

    z: margins of its rows, offsets included; dz: what the step does to them; slope, curvature: weight · loss', loss''
    gradient, step: of its coefficients; work: [4, coefficients]
    H, V: [k, k] for the largest k that is factored, or inverted
    """

    z: NDArray[np.float64]
    dz: NDArray[np.float64]
    slope: NDArray[np.float64]
    curvature: NDArray[np.float64]
    gradient: NDArray[np.float64]
    step: NDArray[np.float64]
    work: NDArray[np.float64]
    H: NDArray[np.float64]
    V: NDArray[np.float64]
