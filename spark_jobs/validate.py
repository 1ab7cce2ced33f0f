"""Checks every record of the input and writes the frame: the input sorted by uid, joined, in blocks of columns.

    spark-submit spark_jobs/validate.py --run ROOT

Two readings: the first takes a sample of the uids and cuts them into ranges; the second decodes and checks everything,
shuffles each record to its range, and writes every range as one block.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from gdmix_core import storage
from gdmix_core.config.pipeline import Config
from gdmix_core.data.id_types import arrow_type, from_order_preserving, order_preserving
from gdmix_core.data.ingest.blocks import write_block
from gdmix_core.data.ingest.external_scores import read_part
from gdmix_core.data.ingest.packing import pack, pieces_of
from gdmix_core.data.ingest.presence import absent_scalar
from gdmix_core.data.ingest.records import read_records, read_uids
from gdmix_core.data.ingest.shuffled_records import scores_to_batch, shuffle_schema, to_batch, together
from gdmix_core.data.ingest.source import Layout, open_layout
from gdmix_core.data.ingest.uid_ranges import range_starts, sample_uids, smallest_hashes
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
from spark_jobs import application

log = logging.getLogger("gdmix_core.validate")


def validate(run: Run, step: Step) -> None:
    layout = open_layout(run.config)
    run.set_fingerprints(input=layout.fingerprint)

    def after(manifest: dict[str, Any]) -> None:
        rows = {name: split["rows"] for name, split in manifest["splits"].items()}
        log.info("frame written: %s rows; report: %s", rows, report_path(run))

    once(run, step, lambda: _write_frame(run, layout), after=after)


def _write_frame(run: Run, layout: Layout) -> dict[str, Any]:
    log.info("validating %d files in %d directories", len(layout.files), len(layout.sources))
    if layout.ignored:
        log.info(
            "folders' keys that are not read, as no column of the pipeline has that name: %s", ", ".join(layout.ignored)
        )
    remove_frame(run)
    with application.session(f"gdmix validate {run.config.name}") as spark:
        sample, records = _sample(spark, layout, run.config)
        ranges = max(1, math.ceil(records / len(layout.sources) / run.config.frame.rows_per_block))
        log.info("%d records, to be written as %d blocks", records, ranges)
        statistics = _write_blocks(spark, layout, run, range_starts(sample, ranges))
    report = merge_report(statistics, layout, run.config)
    storage.write_json(report_path(run), report)
    for warning in report["warnings"]:
        log.warning("%s", warning)
    check_report(report, run.config, report_path(run))
    copy_feature_lists(run, layout)
    return frame_manifest(statistics, layout, run.config)


def _sample(spark: SparkSession, layout: Layout, config: Config) -> tuple[pa.Array, int]:
    """A sample of the uids and the number of records."""
    uid_type = arrow_type(layout.uid_type)
    unsigned = layout.uid_type == "unsigned"
    schema = pa.schema([("records", pa.int64()), ("uids", pa.list_(pa.int64() if unsigned else uid_type))])

    def scan(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        pieces = (layout.pieces[number] for number in pieces_of(batches, tasks))
        read = (uids for piece in pieces for uids in read_uids(piece, layout.sources[piece.source], config))
        uids, count = sample_uids(read)
        uids = order_preserving(uids) if unsigned and uids is not None else uids
        found = [[] if uids is None else uids.to_pylist()]
        yield pa.record_batch([pa.array([count]), pa.array(found, schema.field(1).type)], schema=schema)

    tasks = pack([piece.size for piece in layout.pieces], spark.sparkContext.defaultParallelism)
    table = _numbers(spark, tasks).mapInArrow(scan, from_arrow_schema(schema)).toArrow()
    uids = _flat(table["uids"], schema.field("uids").type.value_type)
    uids = smallest_hashes(from_order_preserving(uids) if unsigned else uids)
    if len(uids) == 0:
        raise DataError(f"{config.input}: no record with a uid in {len(layout.files)} files{_uid_hint(layout, config)}")
    return uids, sum(table["records"].to_pylist())


def _uid_hint(layout: Layout, config: Config) -> str:
    source = layout.sources[0]
    wanted = next(wanted for wanted in source.wanted if wanted.tensor.name == config.columns.uid)
    return absent_scalar(wanted, layout.pieces[0].path, source.tensors) if layout.pieces else ""


def _flat(column: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    return pa.concat_arrays([pa.array([], kind), *(chunk.flatten().cast(kind) for chunk in column.chunks)])


def _write_blocks(spark: SparkSession, layout: Layout, run: Run, starts: pa.Array) -> list[dict[str, Any]]:
    config, frame = run.config, run.frame()
    schema = shuffle_schema(layout)
    named = application.for_spark(schema)

    def decode(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        pieces = (layout.pieces[number] for number in pieces_of(batches, tasks))
        decoded = (
            to_batch(records, piece, schema, starts)
            for piece in pieces
            for records in read_records(piece, layout.sources[piece.source], config)
        )
        yield from map(application.to_spark, together(decoded))

    def read_scores(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        pieces = (score_pieces[number] for number in pieces_of(batches, score_tasks))
        read = (
            scores_to_batch(uid, score, piece, schema, starts)
            for piece in pieces
            for uid, score in read_part(piece.part, layout.uid_type)
        )
        yield from map(application.to_spark, together(read))

    def write(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        received = [application.from_spark(batch, schema) for batch in batches]
        if received:
            statistics = write_block(received[0]["range"][0].as_py(), received, layout, config, frame)
            yield pa.record_batch([pa.array([json.dumps(statistics)])], names=["statistics"])

    cores = spark.sparkContext.defaultParallelism
    tasks = pack([piece.size for piece in layout.pieces], cores)
    decoded = _numbers(spark, tasks).mapInArrow(decode, from_arrow_schema(named))
    if score_pieces := layout.score_pieces:
        score_tasks = pack([piece.part.size for piece in score_pieces], cores)
        decoded = decoded.union(_numbers(spark, score_tasks).mapInArrow(read_scores, from_arrow_schema(named)))
    written = decoded.repartitionById(len(starts) + 1, "range").mapInArrow(write, "statistics string").collect()
    return [json.loads(row.statistics) for row in written]


def _numbers(spark: SparkSession, tasks: list[list[int]]) -> DataFrame:
    """One row, and one Spark task, for every task: its number."""
    return spark.range(0, len(tasks), 1, len(tasks))


if __name__ == "__main__":
    application.main("validate", validate)
