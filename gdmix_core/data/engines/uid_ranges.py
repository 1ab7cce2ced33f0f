"""Cutting the uids into ranges of about equal size, so that each becomes one block of the frame, in uid order.

The ranges follow from a sample of the uids: those with the smallest hashes. It depends on the set of uids alone,
not on files, their order or the number of tasks.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gdmix_core.data.hashing import hash_ids

SAMPLE_SIZE = 65_536


def smallest_hashes(uids: pa.Array, limit: int = SAMPLE_SIZE) -> pa.Array:
    """Return at most `limit` of the given uids: those whose hashes are smallest."""
    if len(uids) <= limit:
        return uids
    hashes = hash_ids(uids)
    return uids.take(pa.array(np.sort(np.argpartition(hashes, limit)[:limit])))


class UidSample:
    """The sample of a stream of uids; never holds more than twice its size, and a batch.

    count: how many uids it was taken of
    """

    def __init__(self, limit: int = SAMPLE_SIZE) -> None:
        self.count = 0
        self._limit = limit
        self._kept: list[pa.Array] = []
        self._largest: np.uint64 | None = None  # hash in the sample, once that is full

    def add(self, uids: pa.Array, count: int | None = None) -> None:
        """uids: without null; count: of how many they are the sample, where they are one."""
        self.count += len(uids) if count is None else count
        if self._largest is not None:
            uids = uids.filter(pa.array(hash_ids(uids) < self._largest))
        if len(uids):
            self._kept.append(uids)
        if sum(map(len, self._kept)) > 2 * self._limit:
            kept = smallest_hashes(pa.concat_arrays(self._kept), self._limit)
            self._kept, self._largest = [kept], hash_ids(kept).max()

    def uids(self) -> pa.Array | None:
        """Return the sample; None where there was no uid."""
        return smallest_hashes(pa.concat_arrays(self._kept), self._limit) if self._kept else None


def range_starts(sample: pa.Array, ranges: int) -> pa.Array:
    """Return the uids at which the second and every later range starts: the sample's quantiles, each once."""
    ordered = sample.take(pc.sort_indices(sample))
    positions = np.arange(1, ranges) * len(ordered) // ranges
    return pc.unique(ordered.take(pa.array(positions, pa.int64())))


def range_of(uids: pa.Array, starts: pa.Array) -> NDArray[np.int32]:
    """Return int32 [n], the number of the range each uid is in; that of a null is 0."""
    if pa.types.is_integer(uids.type):
        values = uids.fill_null(np.iinfo(uids.type.to_pandas_dtype()).min).to_numpy(zero_copy_only=False)
        return np.searchsorted(starts.to_numpy(zero_copy_only=False), values, side="right").astype(np.int32)
    found = np.zeros(len(uids), np.int32)
    for start in starts:
        found += pc.fill_null(pc.greater_equal(uids, start), False).to_numpy(zero_copy_only=False)
    return found
