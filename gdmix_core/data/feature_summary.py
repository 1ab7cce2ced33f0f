"""Statistics of each feature over the training rows, as Spark's `colStats` defines them.

They are unweighted, and count the zeros that a sparse row leaves out."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gdmix_core import storage
from gdmix_core.data.feature_list import FeatureList
from gdmix_core.data.frame import Frame, bag_columns, from_table
from gdmix_core.data.ragged import Bag
from gdmix_core.jit import njit


@dataclass(frozen=True)
class FeatureSummary:
    """Each float64 [features], but nonzeros int64. variance: the unbiased one; 0 where there is a single row."""

    min: NDArray[np.float64]
    max: NDArray[np.float64]
    mean: NDArray[np.float64]
    norm_l1: NDArray[np.float64]
    norm_l2: NDArray[np.float64]
    nonzeros: NDArray[np.int64]
    variance: NDArray[np.float64]


@dataclass
class _Stored:
    """Statistics of the values that are stored, whatever they are; spread: Σ (value − their mean)²."""

    count: NDArray[np.int64]
    nonzeros: NDArray[np.int64]
    min: NDArray[np.float64]
    max: NDArray[np.float64]
    mean: NDArray[np.float64]
    spread: NDArray[np.float64]
    absolutes: NDArray[np.float64]
    squares: NDArray[np.float64]

    @classmethod
    def of(cls, bag: Bag, features: int) -> _Stored:
        count, nonzeros = np.zeros((2, features), np.int64)
        mean, spread, absolutes, squares = np.zeros((4, features))
        lowest, highest = np.full(features, np.inf), np.full(features, -np.inf)
        new = cls(count, nonzeros, lowest, highest, mean, spread, absolutes, squares)
        bag = bag.checked(features)
        _scan(
            bag.indices, bag.values, new.count, new.nonzeros, new.min, new.max, new.mean, new.spread, new.absolutes,
            new.squares,
        )  # fmt: skip
        return new

    def add(self, other: _Stored) -> None:
        """Join means and spreads without cancellation, by the formulas of Chan, Golub and LeVeque (1979)."""
        count = self.count + other.count
        gap = other.mean - self.mean
        share = np.divide(other.count, count, out=np.zeros(len(count)), where=count > 0)
        self.spread += other.spread + gap * gap * share * self.count
        self.mean += gap * share
        self.count = count
        self.nonzeros += other.nonzeros
        np.minimum(self.min, other.min, out=self.min)
        np.maximum(self.max, other.max, out=self.max)
        self.absolutes += other.absolutes
        self.squares += other.squares

    def over(self, rows: int) -> FeatureSummary:
        """Return the summary with the zeros of the rows that store no value."""
        zeros = rows - self.count
        lowest = np.where(zeros > 0, np.minimum(self.min, 0.0), self.min)
        highest = np.where(zeros > 0, np.maximum(self.max, 0.0), self.max)
        share = self.count / max(rows, 1)
        spread = self.spread + self.mean * self.mean * share * zeros
        # A constant's mean may be off in the last bit; divided by the spread that leaves, it would explode.
        variance = np.where(lowest == highest, 0.0, spread / max(rows - 1, 1))
        return FeatureSummary(
            lowest, highest, self.mean * share, self.absolutes, np.sqrt(self.squares), self.nonzeros, variance
        )


def summarize_bag(frame: Frame, bag: str, threads: int) -> FeatureSummary:
    """Summarize a bag of the frame over its training rows.

    Every block is scanned. The results are joined in the blocks' order, so that the number of threads changes nothing.
    """
    features = frame.feature_count(bag)
    total = _Stored.of(Bag.empty(0), features)
    with ThreadPoolExecutor(threads) as pool:
        for spans in _batches(frame, threads):
            for part in pool.map(lambda span: _Stored.of(_read(frame, bag, *span), features), spans):
                total.add(part)
    return total.over(frame.rows("training"))


def _batches(frame: Frame, size: int) -> Iterator[list[tuple[int, int]]]:
    """Yield (first row, row after the last) of the blocks, as many at a time as are held in memory."""
    spans = [(start, start + rows) for _, start, rows in frame.blocks("training")]
    for at in range(0, len(spans), size):
        yield spans[at : at + size]


def _read(frame: Frame, bag: str, start: int, stop: int) -> Bag:
    return next(from_table(table, bag) for _, table in frame.read("training", bag_columns(bag), start, stop))


@njit(cache=True, nogil=True)
def _scan(
    indices: NDArray[np.int32],
    values: NDArray[np.floating],
    count: NDArray[np.int64],
    nonzeros: NDArray[np.int64],
    lowest: NDArray[np.float64],
    highest: NDArray[np.float64],
    mean: NDArray[np.float64],
    spread: NDArray[np.float64],
    absolutes: NDArray[np.float64],
    squares: NDArray[np.float64],
) -> None:
    """Twice over the values: deviations are taken from the mean, not from the difference of large sums."""
    for s in range(len(indices)):
        j = np.uint64(indices[s])
        value = np.float64(values[s])
        count[j] += 1
        if value != 0.0:
            nonzeros[j] += 1
        lowest[j] = min(lowest[j], value)
        highest[j] = max(highest[j], value)
        mean[j] += value
        absolutes[j] += abs(value)
        squares[j] += value * value
    for k in range(len(mean)):
        if count[k] > 0:
            mean[k] /= count[k]
    for s in range(len(indices)):
        j = np.uint64(indices[s])
        gap = np.float64(values[s]) - mean[j]
        spread[j] += gap * gap


def write_summary(path: str, features: FeatureList, summary: FeatureSummary) -> None:
    """Parquet, a row for each feature in the list's order: name, term, and the fields of FeatureSummary."""
    columns = {
        "name": pa.array([name for name, _ in features.names], pa.string()),
        "term": pa.array([term for _, term in features.names], pa.string()),
    }
    columns |= {field.name: pa.array(getattr(summary, field.name)) for field in fields(summary)}
    with storage.open_for_write(path) as file:
        pq.write_table(pa.table(columns), file, compression="lz4")


def read_summary(path: str) -> FeatureSummary:
    """Raise DataError when the file is absent."""
    names = [field.name for field in fields(FeatureSummary)]
    with storage.open_for_read(path) as file:
        table = pq.read_table(file, columns=names)
    return FeatureSummary(*(table[name].to_numpy() for name in names))
