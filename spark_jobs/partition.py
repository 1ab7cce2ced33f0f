"""Groups each random effect's rows into shards by a hash of their entity, sorted by entity within a shard.

    spark-submit spark_jobs/partition.py --run ROOT

The one shuffle of the features in a whole run. A shard is written as a stream, so an entity of any size passes.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from gdmix_core.data.frame import Frame
from gdmix_core.data.ingest.packing import pack, pieces_of
from gdmix_core.data.shards import rows_to_shuffle, shard_count, shuffle_schema, write_shard
from gdmix_core.pipeline import run_directory
from gdmix_core.pipeline.once import once
from gdmix_core.pipeline.plan import Step
from gdmix_core.pipeline.run import SPLITS, Run
from spark_jobs import application

_ROW_BYTES = 256  # of a block, about
log = logging.getLogger("gdmix_core.partition")


def partition(run: Run, step: Step) -> None:
    run.require(step)
    once(run, step, lambda: _write_shards(run))


def _write_shards(run: Run) -> dict[str, Any]:
    run_directory.clear(run.path("shards"))
    manifest: dict[str, Any] = {}
    if run.config.random_effects:
        with application.session(f"gdmix partition {run.config.name}") as spark:
            for coordinate in run.config.random_effects:
                manifest[coordinate] = _partition(spark, run, coordinate)
    return {"coordinates": manifest}


def _partition(spark: SparkSession, run: Run, coordinate: str) -> dict[str, Any]:
    frame = Frame(run)
    effect = run.config.coordinates[coordinate].random_effect
    assert effect is not None
    bag = frame.bag_of(coordinate)
    value_dtype = np.dtype(frame.manifest["bags"][bag]["dtype"]) if bag else None
    shards = shard_count(effect, frame.rows("training"))
    blocks = [(split, *block) for split in SPLITS for block in frame.blocks(split)]
    tasks = pack([rows * _ROW_BYTES for _, _, _, rows in blocks], spark.sparkContext.defaultParallelism)
    schema = shuffle_schema(frame, coordinate, effect)

    def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for number in pieces_of(batches, tasks):
            split, path, first_row, _ = blocks[number]
            yield from map(
                application.to_spark, rows_to_shuffle(frame, coordinate, effect, split, path, first_row, shards)
            )

    def write(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        received = (application.from_spark(b, schema) for b in batches if b.num_rows)
        statistics = write_shard(run, coordinate, effect, value_dtype, received)
        if statistics["number"] >= 0:
            yield pa.record_batch([pa.array([json.dumps(statistics)])], names=["statistics"])

    written = (
        spark.range(0, len(tasks), 1, len(tasks))
        .mapInArrow(read, from_arrow_schema(application.for_spark(schema)))
        .repartitionById(shards, "shard")
        .sortWithinPartitions("split", "entity", "rank", "row")
        .mapInArrow(write, "statistics string")
        .collect()
    )
    statistics = sorted((json.loads(row.statistics) for row in written), key=lambda item: item["number"])
    totals = {
        split: {
            key: (max if key == "largest_entity" else sum)(s[split][key] for s in statistics)
            for key in statistics[0][split]
        }
        for split in SPLITS
    }
    log.info(
        "%s: %d shards, %d entities (largest %d rows), %d of %d rows active",
        coordinate,
        shards,
        totals["training"]["entities"],
        totals["training"]["largest_entity"],
        totals["training"]["active_rows"],
        totals["training"]["rows"],
    )
    return {
        "shards": shards,
        "totals": totals,
        "rows": {split: {s["number"]: s[split]["rows"] for s in statistics} for split in SPLITS},
    }


if __name__ == "__main__":
    application.main("partition", partition)
