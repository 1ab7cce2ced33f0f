"""The step validate: every record of the input checked, and the frame: the input sorted by uid, joined, in blocks.

The uids are cut into ranges by a sample of them. Every record is decoded and checked where it is read, travels to its
range, and every range is written as one block.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from gdmix_core import storage
from gdmix_core.config.pipeline import Config
from gdmix_core.data.engines.interface import DataEngine, Feed
from gdmix_core.data.engines.uid_ranges import UidSample, range_starts
from gdmix_core.data.ingest.blocks import write_block
from gdmix_core.data.ingest.external_scores import read_part
from gdmix_core.data.ingest.presence import absent_scalar
from gdmix_core.data.ingest.records import read_records, read_uids
from gdmix_core.data.ingest.shuffled_records import scores_to_batch, shuffle_schema, to_batch
from gdmix_core.data.ingest.source import Layout, open_layout
from gdmix_core.data.ingest.validation import (
    check_report,
    copy_feature_lists,
    frame_manifest,
    merge_report,
    remove_frame,
    report_path,
)
from gdmix_core.errors import DataError
from gdmix_core.pipeline.once import once
from gdmix_core.pipeline.plan import Step
from gdmix_core.pipeline.run import Run

log = logging.getLogger(__name__)


def validate(run: Run, step: Step, engine: DataEngine) -> dict[str, Any]:
    """Write the frame and validate/report.json; return the frame's manifest.

    Raises DataError for input that the configuration does not allow, with the report written.
    """
    layout = open_layout(run.config)
    run.set_fingerprints(input=layout.fingerprint)

    def after(manifest: dict[str, Any]) -> None:
        rows = {name: split["rows"] for name, split in manifest["splits"].items()}
        log.info("frame written: %s rows; report: %s", rows, report_path(run))

    return once(run, step, lambda: _write_frame(run, layout, engine), after=after)


def _write_frame(run: Run, layout: Layout, engine: DataEngine) -> dict[str, Any]:
    log.info("validating %d files in %d directories", len(layout.files), len(layout.sources))
    if layout.ignored:
        log.info(
            "folders' keys that are not read, as no column of the pipeline has that name: %s", ", ".join(layout.ignored)
        )
    remove_frame(run)
    statistics = _write_blocks(run, layout, engine)
    report = merge_report(statistics, layout, run.config)
    storage.write_json(report_path(run), report)
    for warning in report["warnings"]:
        log.warning("%s", warning)
    check_report(report, run.config, report_path(run))
    copy_feature_lists(run, layout)
    return frame_manifest(statistics, layout, run.config)


def _write_blocks(run: Run, layout: Layout, engine: DataEngine) -> list[dict[str, Any]]:
    config, frame, schema = run.config, run.frame(), shuffle_schema(layout)
    pieces, score_pieces = layout.pieces, layout.score_pieces

    def read(number: int) -> Iterator[pa.RecordBatch]:
        piece = pieces[number]
        for records in read_records(piece, layout.sources[piece.source], config):
            yield to_batch(records, piece, schema)

    def read_scores(number: int) -> Iterator[pa.RecordBatch]:
        piece = score_pieces[number]
        for uid, score in read_part(piece.part, layout.uid_type):
            yield scores_to_batch(uid, score, piece, schema)

    def uids(number: int) -> Iterator[pa.Array]:
        return read_uids(pieces[number], layout.sources[pieces[number].source], config)

    def starts(sample: UidSample) -> pa.Array:
        if (sampled := sample.uids()) is None:
            hint = _uid_hint(layout, config)
            raise DataError(f"{config.input}: no record with a uid in {len(layout.files)} files{hint}")
        ranges = max(1, math.ceil(sample.count / len(layout.sources) / config.frame.rows_per_block))
        log.info("%d records, to be written as %d blocks", sample.count, ranges)
        return range_starts(sampled, ranges)

    def write(number: int, batches: Iterator[pa.RecordBatch]) -> dict[str, Any]:
        return write_block(number, batches, layout, config, frame)

    return engine.by_range(
        Feed(schema, [piece.size for piece in pieces], read),
        Feed(schema, [piece.part.size for piece in score_pieces], read_scores),
        uids,
        starts,
        write,
    )


def _uid_hint(layout: Layout, config: Config) -> str:
    source = layout.sources[0]
    wanted = next(wanted for wanted in source.wanted if wanted.tensor.name == config.columns.uid)
    return absent_scalar(wanted, layout.pieces[0].path, source.tensors) if layout.pieces else ""
