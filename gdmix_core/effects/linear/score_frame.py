"""Scores of the frame's rows by one global model, block by block: no more than a block for each thread is in memory."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gdmix_core.data.frame import Frame, bag_columns, from_table
from gdmix_core.solvers.large.objective import score_bag


def score_frame(
    frame: Frame,
    split: str,
    key: str | None,
    w: NDArray[np.float64],
    intercept: bool,
    threads: int,
    start: int = 0,
    stop: int | None = None,
) -> NDArray[np.float32]:
    """Return float32 [stop − start]: x·w + b of the rows start … stop−1 of a split.

    key: the frame's name of the bag, None for a model without one; w: float64 [features + 1], the intercept first
    """
    stop = frame.rows(split) if stop is None else stop
    scores = np.full(stop - start, w[0] if intercept else 0.0, np.float32)

    def score(_: int, first: int, table: pa.Table) -> None:
        assert key is not None
        scores[first - start : first - start + len(table)] = score_bag(from_table(table, key), w, intercept)

    if key is not None:
        frame.each_block(split, bag_columns(key), score, start, stop, threads)
    return scores
