"""The model and the scores a fixed effect leaves, and the model it starts from."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gdmix_core import storage
from gdmix_core.effects.linear.initial_model import InitialCoefficients
from gdmix_core.effects.linear.training_rows import TrainingRows
from gdmix_core.models.native import write_model
from gdmix_core.models.table import INTERCEPT_INDEX, CoefficientTable
from gdmix_core.pipeline.run import SPLITS
from gdmix_core.training_context import TrainingContext

GLOBAL = "global"  # the one entity of a fixed effect


def first_coefficients(context: TrainingContext, features: int, initial: InitialCoefficients) -> NDArray[np.float64]:
    """Return where training starts, float64 [features + 1], in the features' units.

    That is the previous pass's model (or a trial's); in the first pass the initial model, or zeros.
    """
    before = context.start_model(0)
    if before is None:
        return initial.means.copy()
    w = np.zeros(features + 1)
    here = before.features < features
    w[before.features[here] + 1] = before.means[here]
    return w


def write_result(
    context: TrainingContext,
    rows: TrainingRows,
    w: NDArray[np.float64],
    variances: NDArray[np.float64] | None,
    beyond: tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.float64]],
) -> None:
    """Score this worker's rows of both splits; the first worker also writes the model.

    w, variances: float64 [features + 1]; beyond: (indices, means, variances) of features that this run's list does not
    have
    """
    for split in SPLITS:
        if rows.frame.rows(split):
            storage.write_array(context.score_part(split, rows.rank), rows.scores(split, w))
    if rows.rank == 0:
        intercept = rows.settings.intercept
        first = INTERCEPT_INDEX if intercept else 0
        indices = np.concatenate([np.arange(first, rows.features, dtype=np.int32), beyond[0]])
        if variances is None and np.any(np.isfinite(beyond[2])):
            variances = np.full(len(w), np.nan)
        table = CoefficientTable(
            pa.array([GLOBAL]),
            np.array([0, len(indices)]),
            indices,
            np.concatenate([w[first + 1 :], beyond[1]]),
            None if variances is None else np.concatenate([variances[first + 1 :], beyond[2]]),
        )
        write_model(context.model(0), table)
