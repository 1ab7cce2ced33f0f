"""The scorers of new data's rows, one for each coordinate of an exported model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gdmix_core.data.ingest.records import Records
from gdmix_core.data.ragged import Bag

Format = Literal["native", "avro"]


@dataclass(frozen=True)
class Batch:
    """Records of the same uids, in the same order, of every directory of the input."""

    sides: Sequence[Records]

    def __len__(self) -> int:
        return len(self.sides[0].uid)

    @property
    def uid(self) -> pa.Array:
        return self.sides[0].uid

    def column(self, name: str) -> pa.Array:
        """Return an entity or text column, int64, uint64 or string [rows]."""
        return next(side.ids[name] for side in self.sides if name in side.ids)

    def bag(self, key: str) -> Bag:
        return next(side.bags[key] for side in self.sides if key in side.bags)


class Scorer(Protocol):
    """One coordinate. entity: the column of a random effect's entities"""

    @property
    def name(self) -> str: ...

    @property
    def entity(self) -> str | None: ...

    def score(self, batch: Batch) -> tuple[NDArray[np.float32], int]:
        """Return (float32 [rows], or [rows, classes]; rows whose entity has no model)."""
