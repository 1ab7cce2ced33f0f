"""The step validate in this process, with a data engine that is a loop: the order in which records arrive is chosen."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from gdmix_core import storage
from gdmix_core.config.pipeline import Config
from gdmix_core.data.engines.interface import Feed, Write
from gdmix_core.data.engines.uid_ranges import UidSample, range_of
from gdmix_core.data.ingest import validate
from gdmix_core.data.ingest.source import open_layout
from gdmix_core.data.ingest.validation import merge_report, report_path
from gdmix_core.pipeline.run import Run


class LoopEngine:
    """A DataEngine without threads and without memory's bound. order: a seed by which the pieces are shuffled."""

    def __init__(self, order: int | None = None) -> None:
        self._order = order

    def by_range(
        self,
        records: Feed,
        scores: Feed,
        uids: Callable[[int], Iterable[pa.Array]],
        starts: Callable[[UidSample], pa.Array],
        write: Write,
    ) -> list[dict[str, Any]]:
        sample = UidSample()
        for number in self._pieces(records):
            for read in uids(number):
                sample.add(read)
        begins = starts(sample)
        table = self._table(records, scores)
        return self._written(table, pa.array(range_of(table["uid"].combine_chunks(), begins)), write)

    def by_column(
        self, feed: Feed, column: str, groups: int, order: Sequence[str], write: Write
    ) -> list[dict[str, Any]]:
        table = self._table(feed).sort_by([(name, "ascending") for name in order])
        return self._written(table, table[column], write)

    def _pieces(self, feed: Feed) -> list[int]:
        numbers = list(range(len(feed.sizes)))
        if self._order is not None:
            random.Random(self._order).shuffle(numbers)
        return numbers

    def _table(self, *feeds: Feed) -> pa.Table:
        batches = [batch for feed in feeds for number in self._pieces(feed) for batch in feed.read(number)]
        return pa.Table.from_batches(batches, feeds[0].schema).combine_chunks()

    def _written(self, table: pa.Table, groups: pa.Array, write: Write) -> list[dict[str, Any]]:
        return [
            write(number, iter(table.filter(pc.equal(groups, number)).to_batches()))
            for number in sorted(pc.unique(groups).to_pylist())
        ]


def validate_here(config: Config, *, order: int | None = None, judged: bool = True) -> Run:
    """order: a seed by which records arrive in another order than that of the files; judged: or only the report."""
    run = Run.create(config)
    if judged:
        validate.validate(run, run.plan["validate"], LoopEngine(order))
        return run
    layout = open_layout(config)
    run.set_fingerprints(input=layout.fingerprint)
    statistics = validate._write_blocks(run, layout, LoopEngine(order))
    storage.write_json(report_path(run), merge_report(statistics, layout, config))
    return run
