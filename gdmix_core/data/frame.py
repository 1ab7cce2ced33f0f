"""Reading the frame: the validated, columnar, row-numbered copy of the input."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gdmix_core import storage
from gdmix_core.data import bags
from gdmix_core.data.feature_list import FeatureList, read_feature_list
from gdmix_core.data.id_types import arrow_type
from gdmix_core.data.mapped_arrays import Empty
from gdmix_core.data.ragged import Bag
from gdmix_core.pipeline.run import Run
from gdmix_core.workers.threads import Threads


def share_of_rows(rows: int, rank: int, workers: int) -> tuple[int, int]:
    """Return (first row, row after the last) of a worker's even share of consecutive rows."""
    return rows * rank // workers, rows * (rank + 1) // workers


class Frame:
    """The frame of a run: the validated rows of its input, by split and row number.

    Row numbers follow from the manifest: a block's start and the position within it.

    Parameters
    ----------
    run
        A run whose step `validate` is done.

    Raises
    ------
    StepError
        When it is not.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self.manifest = run.result("validate")

    def whole(self, path: str) -> str:
        """Return the path of a block or list of features, once its content is known to be what validate has written."""
        return self._run.whole(path, "validate")

    def rows(self, split: str) -> int:
        return int(self.manifest["splits"][split]["rows"])

    def feature_count(self, bag: str) -> int:
        return int(self.manifest["bags"][bag]["features"])

    def feature_list(self, bag: str) -> FeatureList:
        return read_feature_list(self.whole(self._run.frame("features", f"{bag}.csv")))

    def bag_of(self, coordinate: str) -> str | None:
        """Return the frame's name of the bag of a linear or random effect, None for an intercept-only one."""
        return next(iter(self.bags_of(coordinate).values()), None)

    def bags_of(self, coordinate: str) -> dict[str, str]:
        """Return the bags a coordinate reads: name in the input → the frame's name."""
        keys: dict[str, str] = self.manifest["coordinates"][coordinate]["bags"]
        return keys

    def features_of(self, coordinate: str) -> int:
        """Return the number of features in the coordinate's bag; 0 without a bag."""
        key = self.bag_of(coordinate)
        return self.feature_count(key) if key else 0

    def feature_list_of(self, coordinate: str) -> FeatureList:
        """Return the features of the coordinate's bag; an empty list without a bag."""
        key = self.bag_of(coordinate)
        return self.feature_list(key) if key else FeatureList([])

    def score_column(self, coordinate: str) -> str:
        """Return the column, float32, with the scores of an external coordinate."""
        column: str = self.manifest["scores"][coordinate]
        return column

    def blocks(self, split: str) -> list[tuple[str, int, int]]:
        """Return (path, first row, rows) of each block, in row order."""
        return [
            (self._run.frame(split, block["file"]), block["start"], block["rows"])
            for block in self.manifest["splits"][split]["blocks"]
        ]

    def read(
        self, split: str, columns: Sequence[str], start: int = 0, stop: int | None = None
    ) -> Iterator[tuple[int, pa.Table]]:
        """Yield (first row, table) of every block, cut to the rows start … stop−1."""
        stop = self.rows(split) if stop is None else stop
        for path, first, rows in self.blocks(split):
            low, high = max(start, first), min(stop, first + rows)
            if low >= high:
                continue
            with storage.open_for_read(self.whole(path)) as file:
                table = pq.read_table(file, columns=list(columns))
            yield low, table.slice(low - first, high - low)

    def each_block(
        self,
        split: str,
        columns: Sequence[str],
        work: Callable[[int, int, pa.Table], None],
        start: int = 0,
        stop: int | None = None,
        threads: int = 1,
    ) -> None:
        """Call work(block's number, first row, table) for every row group, cut to the rows start … stop−1.

        Each block is read by one thread, in its order. No more than a row group for each of them is in memory.
        """
        stop = self.rows(split) if stop is None else stop
        blocks = self.blocks(split)

        def one(number: int) -> None:
            for file, group, first, last in self._row_groups(blocks[number], start, stop):
                low, high = max(start, first), min(stop, last)
                table = file.read_row_group(group, list(columns), use_threads=False)
                work(number, low, table.slice(low - first, high - low))

        Threads(threads).each(one, len(blocks))

    def stream(
        self, split: str, columns: Sequence[str], rows: int, start: int = 0, stop: int | None = None
    ) -> Iterator[tuple[int, pa.Table]]:
        """Yield what `read` returns in pieces of at most `rows` rows.

        No more than one row group of a file is in memory at once.
        """
        stop = self.rows(split) if stop is None else stop
        for block in self.blocks(split):
            for file, group, first, _ in self._row_groups(block, start, stop):
                for batch in file.iter_batches(rows, row_groups=[group], columns=list(columns)):
                    low, high = max(start, first), min(stop, first + batch.num_rows)
                    if low < high:
                        yield low, pa.Table.from_batches([batch.slice(low - first, high - low)])
                    first += batch.num_rows

    def _row_groups(
        self, block: tuple[str, int, int], start: int, stop: int
    ) -> Iterator[tuple[pq.ParquetFile, int, int, int]]:
        """Yield (file, number, first row, row after the last) of a block's row groups with any of the rows start …
        stop−1."""
        path, first, rows = block
        if max(start, first) >= min(stop, first + rows):
            return
        with storage.open_for_read(self.whole(path)) as opened:
            file = pq.ParquetFile(opened)
            for number in range(file.num_row_groups):
                after = first + file.metadata.row_group(number).num_rows
                if max(start, first) < min(stop, after):
                    yield file, number, first, after
                first = after

    def column(self, split: str, name: str) -> NDArray[np.float64]:
        """Return float64 of the numeric column (label, weight, offset)."""
        return self.numbers(split, [name])[0]

    def numbers(
        self,
        split: str,
        names: Sequence[str],
        start: int = 0,
        stop: int | None = None,
        threads: int = 1,
        empty: Empty = np.empty,
    ) -> list[NDArray[np.float64]]:
        """Return float64 of each of the numeric columns (label, weight, offset) of the rows start … stop−1.

        empty: makes the arrays
        """
        rows = (self.rows(split) if stop is None else stop) - start
        arrays = [empty(rows, np.float64) for _ in names]

        def place(_: int, first: int, table: pa.Table) -> None:
            for array, name in zip(arrays, names, strict=True):
                array[first - start : first - start + len(table)] = table[name].to_numpy()

        self.each_block(split, names, place, start, stop, threads)
        return arrays

    def ids(self, split: str, name: str) -> pa.ChunkedArray:
        """Return an entity, group or text column, or uid."""
        chunks = [chunk for _, table in self.read(split, [name]) for chunk in table[name].chunks]
        return pa.chunked_array(chunks, self.id_type(name))

    def id_type(self, name: str) -> pa.DataType:
        """string, int64 or uint64: the type of an entity, group or text column, or uid."""
        kind = self.manifest["uid_type"] if name == "uid" else self.manifest["ids"][name]
        return arrow_type(kind)

    def bag(
        self,
        split: str,
        key: str,
        start: int = 0,
        stop: int | None = None,
        threads: int = 1,
        empty: Empty = np.empty,
    ) -> Bag:
        """Read the rows start … stop−1 of a bag, block by block, into arrays made once: nothing in memory is larger.

        empty: makes the arrays
        """
        stop = self.rows(split) if stop is None else stop
        ends = self._ends(split, key, start, stop)
        at = ends[:-1]  # where each block's next rows go
        offsets = empty(stop - start + 1, np.int64)
        offsets[:1] = offsets[-1:] = 0  # of no rows
        indices = empty(ends[-1], np.int32)
        values = empty(ends[-1], self.value_type(key))

        def place(number: int, first: int, table: pa.Table) -> None:
            part = from_table(table, key)
            begin, row = at[number], first - start
            at[number] = end = begin + len(part.indices)
            offsets[row : row + len(part) + 1] = begin + part.offsets
            indices[begin:end] = part.indices
            values[begin:end] = part.values

        self.each_block(split, bag_columns(key), place, start, stop, threads)
        return Bag(offsets, indices[: offsets[-1]], values[: offsets[-1]])

    def value_type(self, key: str) -> np.dtype:
        return np.dtype(self.manifest["bags"][key]["dtype"])

    def entries(self, split: str, key: str, start: int = 0, stop: int | None = None) -> int:
        """Return how many entries of a bag the rows start … stop−1 have, and those after them in the last block."""
        return self._ends(split, key, start, self.rows(split) if stop is None else stop)[-1]

    def _ends(self, split: str, key: str, start: int, stop: int) -> list[int]:
        """Return where each block's entries of a bag end, after a 0; those before row `start` do not count."""
        ends = [0]
        for block in self.manifest["splits"][split]["blocks"]:
            first, last = block["start"], block["start"] + block["rows"]
            entries = int(block["entries"][key]) if first < stop and last > start else 0
            if first < start < last:
                before = self.read(split, [bag_columns(key)[0]], first, start)
                entries -= sum(pc.sum(pc.list_value_length(table[0])).as_py() or 0 for _, table in before)
            ends.append(ends[-1] + entries)
        return ends


def bag_columns(key: str) -> list[str]:
    return [f"{key}_indices", f"{key}_values"]


def from_table(table: pa.Table, key: str) -> Bag:
    """Return a bag's rows of a table of the frame."""
    indices, values = bag_columns(key)
    return bags.from_arrow(table[indices], table[values])
