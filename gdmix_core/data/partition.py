"""The step partition: each random effect's rows grouped into shards by a hash of their entity, sorted by entity.

It is the one shuffle of the features in a whole run.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from gdmix_core.data.engines.interface import DataEngine, Feed
from gdmix_core.data.frame import Frame
from gdmix_core.data.shards import rows_to_shuffle, shard_count, shuffle_schema, write_shard
from gdmix_core.pipeline import run_directory
from gdmix_core.pipeline.once import once
from gdmix_core.pipeline.plan import Step
from gdmix_core.pipeline.run import SPLITS, Run

_ROW_BYTES = 256  # of a block, about
log = logging.getLogger(__name__)


def partition(run: Run, step: Step, engine: DataEngine) -> dict[str, Any]:
    """Write the shards of every random effect; return their manifest. Raises StepError without a frame."""
    return once(run, step, lambda: _write_shards(run, engine))


def _write_shards(run: Run, engine: DataEngine) -> dict[str, Any]:
    run_directory.clear(run.path("shards"))
    return {"coordinates": {name: _partition(run, name, engine) for name in run.config.random_effects}}


def _partition(run: Run, coordinate: str, engine: DataEngine) -> dict[str, Any]:
    frame = Frame(run)
    effect = run.config.coordinates[coordinate].random_effect
    assert effect is not None
    bag = frame.bag_of(coordinate)
    value_dtype = np.dtype(frame.manifest["bags"][bag]["dtype"]) if bag else None
    shards = shard_count(effect, frame.rows("training"))
    blocks = [(split, *block) for split in SPLITS for block in frame.blocks(split)]

    def read(number: int) -> Iterator[pa.RecordBatch]:
        split, path, first_row, _ = blocks[number]
        return rows_to_shuffle(frame, coordinate, effect, split, path, first_row, shards)

    def write(number: int, batches: Iterator[pa.RecordBatch]) -> dict[str, Any]:
        return write_shard(run, coordinate, effect, value_dtype, number, batches)

    schema = shuffle_schema(frame, coordinate, effect)
    feed = Feed(schema, [rows * _ROW_BYTES for _, _, _, rows in blocks], read)
    written = engine.by_column(feed, "shard", shards, ("split", "entity", "rank", "row"), write)
    statistics = sorted(written, key=lambda item: item["number"])
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
