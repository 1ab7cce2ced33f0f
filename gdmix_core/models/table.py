"""Coefficients in memory, in the shape that training writes, scoring reads and Avro files are made from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

INTERCEPT_INDEX = -1


@dataclass(frozen=True)
class CoefficientTable:
    """Coefficients of one coordinate, or of one shard of it: one row per entity, sorted by entity.

    entities:  string, int64 or uint64 [n]; a fixed effect has one row, whose entity is "global"
    offsets:   int64 [n + 1], offsets[0] == 0; entity i owns the entries offsets[i] : offsets[i + 1]
    features:  int32 [entries]; INTERCEPT_INDEX first where the model has an intercept, then ascending
    means:     float64 [entries]
    variances: float64 [entries], nan where there is none for an entry; None where there are none at all

    Raises ValueError when the lengths do not fit together.
    """

    entities: pa.Array
    offsets: NDArray[np.int64]
    features: NDArray[np.int32]
    means: NDArray[np.float64]
    variances: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        entries = len(self.features)
        if len(self.offsets) != len(self.entities) + 1:
            raise ValueError(f"{len(self.entities)} entities need one more offset, not {len(self.offsets)}")
        if self.offsets[0] != 0 or self.offsets[-1] != entries:
            raise ValueError(f"offsets span {self.offsets[0]} to {self.offsets[-1]}, not 0 to {entries} entries")
        if len(self.means) != entries or (self.variances is not None and len(self.variances) != entries):
            raise ValueError(f"features, means and variances differ in length ({entries} features)")

    def __len__(self) -> int:
        """Number of entities."""
        return len(self.entities)

    def take(self, rows: NDArray[np.int64]) -> CoefficientTable:
        """The entities at the given positions, in that order."""
        lengths = np.diff(self.offsets)[rows]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
        entries = np.repeat(self.offsets[rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return CoefficientTable(
            self.entities.take(pa.array(rows, pa.int64())),
            offsets,
            self.features[entries],
            self.means[entries],
            None if self.variances is None else self.variances[entries],
        )

    def between(self, first: int, last: int) -> CoefficientTable:
        """The entities first … last − 1; the coefficients are views."""
        entries = slice(int(self.offsets[first]), int(self.offsets[last]))
        return CoefficientTable(
            self.entities[first:last],
            self.offsets[first : last + 1] - self.offsets[first],
            self.features[entries],
            self.means[entries],
            None if self.variances is None else self.variances[entries],
        )
