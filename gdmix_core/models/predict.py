"""Scores of rows by the coefficients of their entities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gdmix_core.data.ragged import Bag
from gdmix_core.models.table import CoefficientTable
from gdmix_core.solvers.entity.local_index import look_up_local_index, score_rows


def predict(
    table: CoefficientTable,
    bag: Bag,
    model_of: NDArray[np.int64],
    begin: NDArray[np.int64],
    end: NDArray[np.int64],
    *,
    intercept: bool,
) -> NDArray[np.float32]:
    """Return x·w of each row of the bag, float32 [n]; 0 for a row without a model.

    The rows begin[e] … end[e] − 1 have the model at model_of[e] of the table, −1 for none; int64 [E] each.
    """
    local = np.empty(len(bag.indices), np.int32)
    look_up_local_index(intercept, model_of, begin, end, bag.offsets, bag.indices, table.offsets, table.features, local)
    scores = np.zeros(len(bag), np.float32)
    score_rows(intercept, model_of, begin, end, bag.offsets, local, bag.values, table.offsets, table.means, scores)
    return scores
