"""What the Spark job validate does, in this process: the shuffle is a loop, so that its order can be chosen."""

from __future__ import annotations

import math
import random
from typing import Any

import pyarrow as pa

from gdmix_core import storage
from gdmix_core.config.pipeline import Config
from gdmix_core.data.ingest.blocks import write_block
from gdmix_core.data.ingest.records import read_records, read_uids
from gdmix_core.data.ingest.shuffled_records import shuffle_schema, to_batch
from gdmix_core.data.ingest.source import open_layout
from gdmix_core.data.ingest.uid_ranges import range_starts, sample_uids, smallest_hashes
from gdmix_core.data.ingest.validation import (
    check_report,
    copy_feature_lists,
    frame_manifest,
    merge_report,
    report_path,
)
from gdmix_core.pipeline.run import Run


def validate_here(config: Config, *, order: int | None = None, judged: bool = True) -> Run:
    """order: a seed by which records arrive in another order than that of the files; judged: or only the report."""
    run = Run.create(config)
    layout = open_layout(config)
    run.set_fingerprints(input=layout.fingerprint)
    pieces = list(layout.pieces)
    if order is not None:
        random.Random(order).shuffle(pieces)
    sampled = [sample_uids(read_uids(piece, layout.sources[piece.source], config)) for piece in pieces]
    uids = smallest_hashes(pa.concat_arrays([uids for uids, _ in sampled if uids is not None]))
    records = sum(count for _, count in sampled)
    starts = range_starts(uids, max(1, math.ceil(records / len(layout.sources) / config.frame.rows_per_block)))
    schema = shuffle_schema(layout)
    batches = [
        to_batch(read, piece, schema, starts)
        for piece in pieces
        for read in read_records(piece, layout.sources[piece.source], config)
    ]
    table = pa.Table.from_batches(batches, schema)
    statistics: list[dict[str, Any]] = []
    for number in range(len(starts) + 1):
        mine = table.filter(pa.compute.equal(table["range"], number))
        if mine.num_rows:
            statistics.append(write_block(number, mine.to_batches(), layout, config, run.frame()))
    report = merge_report(statistics, layout, config)
    storage.write_json(report_path(run), report)
    if judged:
        check_report(report, config, report_path(run))
        copy_feature_lists(run, layout)
        run.commit(run.plan["validate"], frame_manifest(statistics, layout, config))
    return run
