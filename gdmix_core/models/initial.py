"""The models a run starts from, as the `initialize` step has laid them out: in this run's shards and features."""

from __future__ import annotations

from gdmix_core import storage
from gdmix_core.models.native import read_model
from gdmix_core.models.table import CoefficientTable
from gdmix_core.run import Run


def read_initial(run: Run, coordinate: str, number: int) -> CoefficientTable | None:
    """Earlier models of one shard's entities (a fixed effect has shard 0 alone), sorted by entity; None without any.

    Feature indices refer to the coordinate's feature list of this run.
    """
    path = run.initial(coordinate, number)
    return read_model(path) if storage.exists(path) else None
