"""Many small models at once, entity after entity: compiled, no Python in between."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gdmix_core.jit import njit
from gdmix_core.solvers.entity import newton, posterior, proximal
from gdmix_core.solvers.entity.problem import Constraints, Entities, Limits, Measures, Outcome, Penalty, Rows, Scratch


@njit(cache=True, nogil=True)
def solve_entities(
    loss: int,
    entities: Entities,
    rows: Rows,
    w: NDArray[np.float64],
    penalty: Penalty,
    constraints: Constraints | None,
    limits: Limits,
    outcome: Outcome,
    measures: Measures,
) -> None:
    """Solve entities 0 … E−1: by Newton's method, or, with constraints, by its proximal form.

    w: float64, of all entities' coefficients; in: start, out: solution. Numba compiles the two kinds apart: without
    constraints nothing of them is left in the code.
    """
    scratch = _scratch_for(entities, measures, limits.dense_limit if constraints is None else 0)
    measured = measures.variance_mode != posterior.NO_VARIANCES or measures.sums.shape[1] > 0
    if constraints is not None:
        columns = proximal.columns_for(entities, rows)
    for e in range(len(entities.row_begin)):
        begin, end = entities.row_begin[e], entities.row_end[e]
        first, last = entities.coefficient_begin[e], entities.coefficient_begin[e + 1]
        if begin == end or first == last:
            outcome.status[e], outcome.iterations[e], outcome.objective[e] = newton.NO_DATA, 0, 0.0
            continue
        own = w[first:last]
        of_entity = Penalty(penalty.precision[first:last], penalty.prior_mean[first:last])
        if constraints is None:
            status, iterations, F = newton.minimize(loss, rows, begin, end, own, of_entity, limits, scratch)
        else:
            l1, lower, upper = constraints
            within = Constraints(l1[first:last], lower[first:last], upper[first:last])
            status, iterations, F = proximal.minimize(
                loss, rows, begin, end, own, of_entity, within, limits, scratch, columns
            )
        outcome.status[e], outcome.iterations[e], outcome.objective[e] = status, iterations, F
        if measured:
            posterior.measure(loss, rows, begin, end, own, of_entity, first, scratch, measures)


@njit(cache=True, nogil=True)
def _scratch_for(entities: Entities, measures: Measures, dense_limit: int) -> Scratch:
    """Memory for the largest entity.

    dense_limit: coefficients up to which a step factors the Hessian; for variances larger ones are inverted.
    """
    inverted = measures.variance_mode == posterior.FULL or measures.sums.shape[1] > 0
    rows, largest, dense = 1, 1, 1
    for e in range(len(entities.row_begin)):
        rows = max(rows, entities.row_end[e] - entities.row_begin[e])
        size = entities.coefficient_begin[e + 1] - entities.coefficient_begin[e]
        largest = max(largest, size)
        if size <= dense_limit or (inverted and size <= posterior.LARGEST_INVERSE):
            dense = max(dense, size)
    return Scratch(
        np.empty(rows),
        np.empty(rows),
        np.empty(rows),
        np.empty(rows),
        np.empty(largest),
        np.empty(largest),
        np.empty((4, largest)),
        np.empty((dense, dense)),
        np.empty((dense, dense)) if inverted else np.empty((0, 0)),
    )
