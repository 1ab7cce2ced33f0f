"""Writing one range of records as a block of the frame for each split, and counting what was wrong with them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gdmix_core import storage
from gdmix_core.config import Config
from gdmix_core.data import bags
from gdmix_core.data.record_checks import checks_of
from gdmix_core.data.shuffled_records import Joined, join_by_uid, shuffle_schema
from gdmix_core.data.source import Layout

SPLITS = ("training", "validation")
FIRST_OFFENDERS = 10
_ROW_GROUP = 65_536
_DEFAULTS = {"weight": 1.0, "offset": 0.0}


def block_name(number: int) -> str:
    return f"block-{number:05d}.parquet"


def write_block(
    number: int, batches: Iterable[pa.RecordBatch], layout: Layout, config: Config, frame: str
) -> dict[str, Any]:
    """Writes frame/<split>/block-<number>.parquet for the records of range `number`; returns counts, JSON-able."""
    table = pa.Table.from_batches(list(batches), schema=shuffle_schema(layout))
    joined = join_by_uid(table, len(layout.sources))
    split = joined.table["split"].to_numpy()[joined.first] if len(joined.first) else np.empty(0, np.int32)
    statistics: dict[str, Any] = {
        "number": number,
        "records": table.num_rows,
        "splits": {},
        "violations": _violations(table, joined, layout, config),
        "duplicates": _duplicates(joined, layout),
    }
    for code, name in enumerate(SPLITS):
        block = _assemble(joined, joined.first[split == code], layout)
        records = int(np.count_nonzero(table["split"].to_numpy() == code))
        statistics["splits"][name] = {
            "records": records,
            "rows": block.num_rows,
            "labels": _label_sum(block),
            "entries": {key: len(block[f"{key}_indices"].combine_chunks().flatten()) for key in layout.bags},
        }
        if block.num_rows:
            _write(storage.join(frame, name, block_name(number)), block, layout)
    return statistics


def _assemble(joined: Joined, first: NDArray[np.int64], layout: Layout) -> pa.Table:
    table = joined.table
    columns: dict[str, pa.Array] = {"uid": table["uid"].take(pa.array(first))}
    for source in layout.sources:
        rows = pa.array(first + source.number)
        if source.primary:
            for role in ("label", "weight", "offset"):
                values = table[role].take(rows)
                columns[role] = values if role == "label" else pc.fill_null(values, _DEFAULTS[role])
        for name in source.ids:
            columns[name] = table[f"id_{name}"].take(rows)
        for bag in source.bags:
            packed = table[f"bag_{bag.key}"].combine_chunks()
            if isinstance(packed, pa.ChunkedArray):
                packed = packed.chunk(0) if packed.num_chunks else pa.array([], pa.binary())
            unpacked = bags.take(bags.unpack(packed, bag.numpy_dtype), first + source.number) if len(first) else None
            if unpacked is None:
                unpacked = bags.concatenate([], bag.numpy_dtype)
            columns[f"{bag.key}_indices"], columns[f"{bag.key}_values"] = bags.to_arrow(unpacked)
    return pa.table(columns)


def _write(path: str, block: pa.Table, layout: Layout) -> None:
    numbers = [name for name in block.schema.names if not name.endswith(("_indices", "_values"))]
    with storage.open_for_write(path) as file:
        pq.write_table(
            block, file, row_group_size=_ROW_GROUP, compression="lz4", use_dictionary=numbers, write_statistics=False
        )


def _label_sum(block: pa.Table) -> float:
    return float(np.sum(block["label"].to_numpy())) if block.num_rows else 0.0


def _violations(table: pa.Table, joined: Joined, layout: Layout, config: Config) -> dict[str, Any]:
    """check name → {count, first: [{uid, file}]} of every rule that was broken, in uid order."""
    found: dict[str, Any] = {}

    def add(name: str, records: pa.Table, where: NDArray[np.bool_]) -> None:
        count = int(np.count_nonzero(where))
        if count == 0:
            return
        entry = found.setdefault(name, {"count": 0, "first": []})
        entry["count"] += count
        for position in np.flatnonzero(where)[:FIRST_OFFENDERS]:
            file = layout.files[records["file"][int(position)].as_py()]
            entry["first"].append({"uid": records["uid"][int(position)].as_py(), "file": file})

    for name, where in joined.faults.items():
        add(name, joined.table, where)
    without_uid = table.filter(pc.is_null(table["uid"]))
    for records in (without_uid, joined.table):
        mask = records["violations"].to_numpy()
        if not mask.any():
            continue
        source_of = records["source"].to_numpy()
        for source in layout.sources:
            for bit, check in enumerate(checks_of(source, config)):
                # One directory's rule needs no prefix when there is only one directory.
                prefix = f"{source.path.rsplit('/', 1)[-1]}: " if len(layout.sources) > 1 else ""
                add(prefix + check.name, records, (source_of == source.number) & ((mask >> bit) & 1 == 1))
    return found


def _duplicates(joined: Joined, layout: Layout) -> dict[str, int]:
    """bag key → records that listed an index twice (their values were summed)."""
    mask = joined.table["duplicates"].to_numpy() if joined.table.num_rows else np.empty(0, np.int64)
    if not mask.any():
        return {}
    source_of = joined.table["source"].to_numpy()
    return {
        bag.key: int(np.count_nonzero((source_of == source.number) & ((mask >> bit) & 1 == 1)))
        for source in layout.sources
        for bit, bag in enumerate(source.bags)
    }
