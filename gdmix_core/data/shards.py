"""Shards: all rows of a set of entities of one random effect, sorted by entity. Written once, read in every pass.

Columns of a shard file: row int64 (in the frame), entity, label, weight, offset float64, and where the coordinate has a
bag, indices and values. An entity's rows stand in the order of their row numbers, or, where samples.max may have to
choose among them, of their uids' hashes: the first ones are those it trains on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gdmix_core import storage
from gdmix_core.config.coordinate import RandomEffect
from gdmix_core.data import bags
from gdmix_core.data.frame import Frame
from gdmix_core.data.hashing import hash_ids
from gdmix_core.errors import DataError
from gdmix_core.pipeline.run import SPLITS, Run

_BATCH_ROWS = 65_536
_ROW_GROUP = 50_000
_NUMBERS = ("label", "weight", "offset")


def shard_count(effect: RandomEffect, training_rows: int) -> int:
    if effect.shards != "auto":
        return effect.shards
    return max(1, -(-training_rows // effect.rows_per_shard))


def shuffle_schema(frame: Frame, coordinate: str, effect: RandomEffect) -> pa.Schema:
    """Return the schema of rows on their way to their shard, where they are sorted by (split, entity, rank, row)."""
    return pa.schema(
        [
            ("shard", pa.int32()),
            ("split", pa.int32()),
            ("entity", frame.id_type(effect.entity)),
            ("rank", pa.int64()),
            ("row", pa.int64()),
            *[(name, pa.float64()) for name in _NUMBERS],
            *([("bag", pa.binary())] if frame.bag_of(coordinate) else []),
        ]
    )


def rows_to_shuffle(
    frame: Frame, coordinate: str, effect: RandomEffect, split: str, path: str, first_row: int, shards: int
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of one block of the frame, each with its shard, in batches."""
    bag = frame.bag_of(coordinate)
    schema = shuffle_schema(frame, coordinate, effect)
    columns = ["uid", effect.entity, *_NUMBERS, *([f"{bag}_indices", f"{bag}_values"] if bag else [])]
    with storage.open_for_read(frame.whole(path)) as file:
        for batch in pq.ParquetFile(file).iter_batches(columns=columns):
            entity = batch.column(effect.entity)
            row = np.arange(first_row, first_row + batch.num_rows)
            first_row += batch.num_rows
            rank = np.zeros(batch.num_rows, np.int64)
            if effect.samples.max is not None and split == "training":
                rank = hash_ids(batch.column("uid")).view(np.int64)
            arrays = {
                "shard": pa.array((hash_ids(entity) % np.uint64(shards)).astype(np.int32)),
                "split": pa.array(np.full(batch.num_rows, SPLITS.index(split), np.int32)),
                "entity": entity,
                "rank": pa.array(rank),
                "row": pa.array(row),
                **{name: batch.column(name) for name in _NUMBERS},
            }
            if bag:
                arrays["bag"] = bags.pack(bags.from_arrow(batch.column(columns[-2]), batch.column(columns[-1])))
            yield pa.RecordBatch.from_arrays([arrays[name] for name in schema.names], schema=schema)


def write_shard(
    run: Run,
    coordinate: str,
    effect: RandomEffect,
    value_dtype: np.dtype | None,
    number: int,
    batches: Iterable[pa.RecordBatch],
) -> dict[str, Any]:
    """Stream the sorted rows of one shard into its files; return its counts, JSON-able.

    Nothing is held but a row group: an entity may have any number of rows.
    """
    counts = {split: _EntityCounts(effect) for split in SPLITS}
    with ExitStack() as stack:
        writers: dict[str, pq.ParquetWriter] = {}
        for code, rows in _row_groups(batches):
            split, table = SPLITS[code], _shard_table(rows, value_dtype)
            if split not in writers:
                file = stack.enter_context(storage.open_for_write(run.shard(coordinate, split, number)))
                writers[split] = stack.enter_context(
                    pq.ParquetWriter(
                        file,
                        table.schema,
                        compression="lz4",
                        use_dictionary=["label", "weight", "offset"],
                        write_statistics=False,
                    )
                )
            writers[split].write_table(table)
            counts[split].add(table["entity"].chunk(0))
    return {"number": number, **{split: counts[split].finish() for split in SPLITS}}


def _row_groups(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[int, pa.Table]]:
    """Yield (code of the split, rows) of each row group of a shard, whatever the sizes of the batches are."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        codes = batch.column("split").to_numpy()
        begin = 0
        while begin < batch.num_rows:
            code = codes[begin]
            if waiting and waiting[0].column("split")[0].as_py() != code:
                yield _row_group(waiting)
                waiting = []
            room = _ROW_GROUP - sum(part.num_rows for part in waiting)
            end = min(begin + room, int(np.searchsorted(codes, code, side="right")))
            waiting.append(batch.slice(begin, end - begin))
            begin = end
            if sum(part.num_rows for part in waiting) == _ROW_GROUP:
                yield _row_group(waiting)
                waiting = []
    if waiting:
        yield _row_group(waiting)


def _row_group(batches: list[pa.RecordBatch]) -> tuple[int, pa.Table]:
    table = pa.Table.from_batches(batches).combine_chunks()
    return table["split"][0].as_py(), table


def _shard_table(rows: pa.Table, value_dtype: np.dtype | None) -> pa.Table:
    columns = {name: rows[name] for name in ("row", "entity", *_NUMBERS)}
    if value_dtype is not None:
        unpacked = [bags.unpack(chunk, value_dtype) for chunk in rows["bag"].chunks]
        columns["indices"], columns["values"] = bags.to_arrow(bags.concatenate(unpacked, value_dtype))
    return pa.table(columns)


class _EntityCounts:
    """Counts rows and entities of a stream sorted by entity."""

    def __init__(self, effect: RandomEffect) -> None:
        self._samples = effect.samples
        self._last: Any = None
        self._open = 0  # rows of the last entity so far
        self._counts = {"rows": 0, "entities": 0, "largest_entity": 0, "active_rows": 0, "trained_entities": 0}

    def add(self, entities: pa.Array) -> None:
        _, lengths = entity_runs(entities)
        first, last = entities[0].as_py(), entities[-1].as_py()
        if self._open and first == self._last:
            lengths[0] += self._open
        elif self._open:
            self._close(np.array([self._open]))
        self._close(lengths[:-1])
        self._last, self._open = last, int(lengths[-1])
        self._counts["rows"] += len(entities)

    def _close(self, lengths: NDArray[np.int64]) -> None:
        if len(lengths) == 0:
            return
        trained = lengths[lengths >= self._samples.min]
        active = trained if self._samples.max is None else np.minimum(trained, self._samples.max)
        self._counts["entities"] += len(lengths)
        self._counts["largest_entity"] = max(self._counts["largest_entity"], int(lengths.max()))
        self._counts["active_rows"] += int(active.sum())
        self._counts["trained_entities"] += len(trained)

    def finish(self) -> dict[str, int]:
        if self._open:
            self._close(np.array([self._open]))
            self._open = 0
        return self._counts


def entity_runs(entities: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (begins, lengths) int64 of the runs of equal values in a sorted column."""
    if len(entities) == 0:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    if pa.types.is_integer(entities.type):
        values = entities.to_numpy(zero_copy_only=False)
        changes = values[1:] != values[:-1]
    else:
        changes = pc.not_equal(entities[1:], entities[:-1]).to_numpy(zero_copy_only=False)
    begins = np.concatenate([np.zeros(1, np.int64), np.flatnonzero(changes) + 1])
    return begins, np.diff(np.append(begins, len(entities)))


def read_entities(run: Run, coordinate: str, split: str, number: int, target_rows: int) -> Iterator[pa.Table]:
    """Yield the shard in tables of whole entities, each of about `target_rows` rows, or one entity's if it has more.

    Nothing is yielded for a shard without rows in the split. Raises DataError when the file is damaged.
    """
    path = run.shard(coordinate, split, number)
    if not run.has(path, "partition"):
        return
    run.whole(path, "partition")
    try:
        with storage.open_for_read(path) as file:
            batches = pq.ParquetFile(file).iter_batches(batch_size=_BATCH_ROWS)
            yield from _whole_entities(batches, target_rows)
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"{path}: not a readable shard ({error}); remove {run.path('shards')} and run partition again"
        ) from None


def _whole_entities(batches: Iterable[pa.RecordBatch], target_rows: int) -> Iterator[pa.Table]:
    held: list[pa.Table] = []
    rows = 0
    for batch in batches:
        table = pa.Table.from_batches([batch])
        if rows >= target_rows:
            begins, _ = entity_runs(pa.concat_arrays([held[-1]["entity"].chunks[-1][-1:], batch.column("entity")]))
            # Runs over (last held entity, batch): the second run starts where the held entities end.
            cut = int(begins[1]) - 1 if len(begins) > 1 else batch.num_rows
            held.append(table.slice(0, cut))
            if cut < batch.num_rows:
                yield pa.concat_tables(held).combine_chunks()
                held, rows = [], 0
                table = table.slice(cut)
            else:
                rows += batch.num_rows
                continue
        held.append(table)
        rows += table.num_rows
    if rows:
        yield pa.concat_tables(held).combine_chunks()
