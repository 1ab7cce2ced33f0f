"""The data engine of one machine: rows are read and written in threads, and DuckDB sorts between the two.

DuckDB keeps to a bound of memory and spills to a folder beyond it. Why DuckDB: docs/design.md, "Data engines".
"""

from __future__ import annotations

import contextlib
import hashlib
import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from gdmix_core.data.engines.interface import Feed, Write
from gdmix_core.data.engines.uid_ranges import UidSample, range_of
from gdmix_core.data.shards import entity_runs
from gdmix_core.errors import StorageError
from gdmix_core.pipeline.plan import Step
from gdmix_core.pipeline.run import Run
from gdmix_core.workers import progress
from gdmix_core.workers.cores import core_count
from gdmix_core.workers.memory import memory_bound, spill_folder
from gdmix_core.workers.prefetch import prefetch, prefetch_many

# DuckDB's part of the memory; the rest is for what is being read and written.
_SORTING = 0.5
# Groups that wait to be written or are being written; writing needs about three times their size.
_WRITING = 0.1
_STREAM_BATCHES = 4

Group = tuple[int, pa.RecordBatch]


def embedded_engine(run: Run, step: Step) -> EmbeddedEngine:
    """Return the engine for a step, with the cores, the memory and the folder that the configuration gives it."""
    # By the run and the step, which one process at a time makes: what a killed one left is removed by the next.
    spill = spill_folder(run) / f"{hashlib.sha256(run.root.encode()).hexdigest()[:12]}-{step.id}"
    return EmbeddedEngine(step.id, cores=core_count(run.config), memory=memory_bound(run.config), spill=str(spill))


class EmbeddedEngine:
    """A DataEngine in threads of this process.

    name: what progress is reported of; cores: threads at once; memory: bytes; spill: a separate folder for what is
    larger, which is removed at the end, and before the start if a killed process left it
    """

    def __init__(self, name: str, *, cores: int, memory: int, spill: str) -> None:
        self._name = name
        self._cores = cores
        self._memory = memory
        self._spill = spill
        self._ended = threading.Event()

    def by_range(
        self,
        records: Feed,
        scores: Feed,
        uids: Callable[[int], Iterable[pa.Array]],
        starts: Callable[[UidSample], pa.Array],
        write: Write,
    ) -> list[dict[str, Any]]:
        """Read the rows once: when the rows are sorted by uid, the sample is complete."""
        sample = UidSample()
        show = _Progress(self._name)

        def rows() -> Iterator[pa.RecordBatch]:
            for batch in self._read(records, show):
                sample.add(batch.column("uid").drop_null())
                yield batch
            yield from self._read(scores, show)

        def groups(ordered: Iterator[pa.RecordBatch]) -> Iterator[Group]:
            first = list(islice(ordered, 1))  # the sample is complete when it is there
            begins = starts(sample)
            for batch in chain(first, ordered):
                yield from _by_number(batch, _ranges(batch.column("uid"), begins))

        return self._written(rows(), records.schema, ["uid"], groups, write, show)

    def by_column(
        self,
        feed: Feed,
        column: str,
        groups: int,
        order: Sequence[str],
        write: Write,
    ) -> list[dict[str, Any]]:
        show = _Progress(self._name)

        def cut(ordered: Iterator[pa.RecordBatch]) -> Iterator[Group]:
            for batch in ordered:
                yield from _by_number(batch, batch.column(column))

        return self._written(self._read(feed, show), feed.schema, [column, *order], cut, write, show)

    def _read(self, feed: Feed, show: _Progress) -> Iterator[pa.RecordBatch]:
        """Yield the rows of all tasks, read by as many threads as there are cores."""
        tasks = feed.tasks(self._cores)
        sizes = [sum(feed.sizes[number] for number in task) for task in tasks]
        show.expect(sum(sizes))

        def rows(task: int) -> Iterator[pa.RecordBatch]:
            yield from feed.rows(tasks[task])
            show.have_read(sizes[task])

        made = prefetch_many(len(sizes), rows, self._cores, 2 * self._cores, self._ended)
        with contextlib.closing(made) as read:
            for _, batch in read:
                show.rows_read(batch.num_rows)
                yield batch

    def _written(
        self,
        rows: Iterator[pa.RecordBatch],
        schema: pa.Schema,
        order: Sequence[str],
        groups: Callable[[Iterator[pa.RecordBatch]], Iterator[Group]],
        write: Write,
        show: _Progress,
    ) -> list[dict[str, Any]]:
        """Cut the sorted rows into groups and return what `write` returns for each."""
        from gdmix_core.data.engines.sorter import Sorter  # and DuckDB, which a step that is done does not wait for

        shutil.rmtree(self._spill, ignore_errors=True)
        self._ended.clear()
        try:
            _make_folder(Path(self._spill).parent)
            with (
                Sorter(self._cores, int(self._memory * _SORTING), self._spill, self._ended) as sorter,
                # In a separate thread, so that this one can be interrupted.
                contextlib.closing(prefetch(sorter.ordered(rows, schema, order))) as ordered,
            ):
                return _write_groups(groups(ordered), write, self._cores, int(self._memory * _WRITING), show)
        finally:
            shutil.rmtree(self._spill, ignore_errors=True)
            with contextlib.suppress(OSError):  # another run's may be beside it
                Path(self._spill).parent.rmdir()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"{folder}: what is sorted cannot be spilled there ({error.strerror}); let engine.local.spill name another "
            "folder"
        ) from None


def _ranges(uids: pa.Array, starts: pa.Array) -> pa.Array:
    """Return the range of each uid; they ascend, so the first and the last often say it of all."""
    ends = range_of(pa.concat_arrays([uids[:1], uids[-1:]]), starts)
    return pa.array(np.full(len(uids), ends[0]) if ends[0] == ends[1] else range_of(uids, starts))


def _by_number(batch: pa.RecordBatch, numbers: pa.Array) -> Iterator[Group]:
    """Yield the rows of each number, which ascend."""
    for begin, length in zip(*entity_runs(numbers), strict=True):
        yield numbers[begin].as_py(), batch.slice(begin, length)


def _write_groups(
    groups: Iterator[Group], write: Write, cores: int, room: int, show: _Progress
) -> list[dict[str, Any]]:
    """Write each group in a thread as soon as it is complete, a larger one than `room` bytes while it comes in.

    room: bytes of the groups that are held at once
    """
    with ThreadPoolExecutor(cores) as pool:
        writing: dict[Future[dict[str, Any]], int] = {}
        results: list[dict[str, Any]] = []

        def make_room(needed: int) -> None:
            while writing and (sum(writing.values()) + needed > room or len(writing) > cores):
                for done in wait(writing, return_when=FIRST_COMPLETED).done:
                    del writing[done]
                    results.append(done.result())

        pending: list[pa.RecordBatch] = []
        size, number = 0, -1
        stream: _Stream | None = None

        def finish() -> None:
            nonlocal size, pending, stream
            if stream is not None:
                results.append(stream.finish())
            elif pending:
                make_room(size)
                writing[pool.submit(write, number, iter(pending))] = size
            pending, size, stream = [], 0, None

        try:
            for group, batch in groups:
                if group != number:
                    finish()
                    number = group
                show.rows_sorted(batch.num_rows)
                if stream is not None:
                    stream.put(batch)
                    continue
                pending.append(batch)
                size += batch.nbytes
                if size > room:
                    make_room(room)
                    stream = _Stream(pool, write, number)
                    for held in pending:
                        stream.put(held)
                    pending = []
            finish()
            results += [done.result() for done in writing]
        except BaseException:
            if stream is not None:
                stream.abandon()
            raise
        return results


class _Stream:
    """A group that is written while its rows come in."""

    def __init__(self, pool: ThreadPoolExecutor, write: Write, number: int) -> None:
        self._batches: queue.Queue[pa.RecordBatch | Exception | None] = queue.Queue(_STREAM_BATCHES)
        self._written = pool.submit(write, number, self._rows())

    def _rows(self) -> Iterator[pa.RecordBatch]:
        while (batch := self._batches.get()) is not None:
            if isinstance(batch, Exception):
                raise batch
            yield batch

    def put(self, batch: pa.RecordBatch | Exception | None) -> None:
        while not self._written.done():
            with contextlib.suppress(queue.Full):
                self._batches.put(batch, timeout=0.1)
                return
        if batch is not None:
            self._written.result()  # raises what ended it

    def finish(self) -> dict[str, Any]:
        self.put(None)
        return self._written.result()

    def abandon(self) -> None:
        with contextlib.suppress(Exception):
            self.put(CancelledError())


class _Progress:
    """Says how far a step is: what has been read, then what has been sorted and handed on."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._tell = progress.reporter()
        self._began = time.monotonic()
        self._bytes = self._read_bytes = self._rows = self._sorted = 0

    def expect(self, size: int) -> None:
        self._bytes += size

    def have_read(self, size: int) -> None:
        self._read_bytes += size

    def rows_read(self, rows: int) -> None:
        self._rows += rows
        self._show("reading", self._rows, self._read_bytes >> 20, self._bytes >> 20)

    def rows_sorted(self, rows: int) -> None:
        self._sorted += rows
        self._show("writing", self._sorted, self._sorted, self._rows)

    def _show(self, phase: str, rows: int, done: int, total: int) -> None:
        rate = self._rows / max(time.monotonic() - self._began, 1e-3)
        self._tell(done, total, f"{self._name}, {phase}: {rows:,} rows, {rate:,.0f} rows/s")
