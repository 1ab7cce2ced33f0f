"""The choice of a down-sampled fixed effect's training rows: the same in every pass, for any number of workers."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gdmix_core.config.pipeline import Task
from gdmix_core.data.hashing import hash_ids

# Shards choose an entity's rows by the same hash of the uid: without this both would choose the same rows.
_SALT = np.uint64(0x5851F42D4C957F2D)


def chosen_rows(uid: pa.Array, label: NDArray[np.float64], task: Task, share: float) -> NDArray[np.bool_]:
    """bool [n]: of the rows with label 0 about this share, by a hash of their uid, and every other one; under tasks
    whose labels are no classes about this share of all."""
    hashes = (hash_ids(uid) ^ _SALT) * np.uint64(0x9E3779B97F4A7C15)
    chosen: NDArray[np.bool_] = hashes.astype(np.float64) < share * 2.0**64
    if task in ("logistic_regression", "smoothed_hinge"):
        chosen |= label > 0.0
    return chosen


def corrected_weight(
    weight: NDArray[np.float64], label: NDArray[np.float64], task: Task, share: float
) -> NDArray[np.float64]:
    """Return the weight of chosen rows: weight / share for a kind of which only a share was chosen."""
    sampled = label <= 0.0 if task in ("logistic_regression", "smoothed_hinge") else np.ones(len(label), bool)
    return np.where(sampled, weight / share, weight)
