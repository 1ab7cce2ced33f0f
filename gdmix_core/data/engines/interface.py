"""The interface of the data engines, which carry rows from where they are read to where they belong.

The steps validate and partition are written once, over this interface. The embedded engine works in this machine's
threads (embedded.py), Spark on a cluster (spark_jobs/spark_engine.py). Both hand the same rows to the same
functions, so that frame and shards are the same to the byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from gdmix_core.data.engines.packing import pack
from gdmix_core.data.engines.uid_ranges import UidSample

_FEWEST_ROWS, _FEWEST_BYTES = 1024, 1 << 20  # of a batch that waits for no others


@dataclass(frozen=True)
class Feed:
    """Pieces of input that can be read at the same time.

    schema: of the rows that are read; sizes: about how many bytes each piece has; read: the rows of a piece
    """

    schema: pa.Schema
    sizes: Sequence[int]
    read: Callable[[int], Iterable[pa.RecordBatch]]

    def tasks(self, cores: int) -> list[list[int]]:
        """Return the pieces of each task, packed for so many cores."""
        return pack(self.sizes, cores)

    def rows(self, pieces: Iterable[int]) -> Iterator[pa.RecordBatch]:
        """Yield the rows of the pieces in order. Small batches are joined: each costs as much as many rows do."""
        waiting: list[pa.RecordBatch] = []
        for number in pieces:
            for batch in self.read(number):
                waiting.append(batch)
                if sum(b.num_rows for b in waiting) >= _FEWEST_ROWS or sum(b.nbytes for b in waiting) >= _FEWEST_BYTES:
                    yield from _as_one(waiting)
                    waiting = []
        yield from _as_one(waiting)


def _as_one(batches: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
    return batches if len(batches) < 2 else pa.Table.from_batches(batches).combine_chunks().to_batches()


Write = Callable[[int, Iterator[pa.RecordBatch]], dict[str, Any]]
"""Writes the rows of the group with this number, and returns its counts, JSON-able."""


class DataEngine(Protocol):
    """Groups rows, each group's by one call of `write`. Raises GdmixError for what reading or writing raises."""

    def by_range(
        self,
        records: Feed,
        scores: Feed,
        uids: Callable[[int], Iterable[pa.Array]],
        starts: Callable[[UidSample], pa.Array],
        write: Write,
    ) -> list[dict[str, Any]]:
        """Group rows by the ranges of their column `uid`; null is in the first range. In a group they have no order.

        records: the rows that the sample of uids is taken of; scores: further rows, with the same schema
        uids: those of a piece of the records, without null, for an engine that reads twice
        starts: the uids at which the second and every later range starts, from the sample
        """

    def by_column(
        self, feed: Feed, column: str, groups: int, order: Sequence[str], write: Write
    ) -> list[dict[str, Any]]:
        """Group rows by a column of integers 0 … groups − 1, each group sorted by the columns of `order`.

        A group is written as a stream: it may be larger than memory. A group without rows is not written.
        """
