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
from gdmix_core.config.pipeline import Config
from gdmix_core.data import bags
from gdmix_core.data.ingest.label_scale import LabelScale
from gdmix_core.data.ingest.presence import seen_in_files
from gdmix_core.data.ingest.record_checks import checks_of
from gdmix_core.data.ingest.score_join import JoinedScores, join_scores
from gdmix_core.data.ingest.shuffled_records import Joined, join_by_uid, shuffle_schema
from gdmix_core.data.ingest.source import BagColumn, Layout
from gdmix_core.data.ragged import Bag

SPLITS = ("training", "validation")
FIRST_OFFENDERS = 10
POSITION = "position"  # of a record among those of its range, as they came
_ROW_GROUP = 65_536
_DEFAULTS = {"weight": 1.0, "offset": 0.0}


def block_name(number: int) -> str:
    return f"block-{number:05d}.parquet"


def write_block(
    number: int, batches: Iterable[pa.RecordBatch], layout: Layout, config: Config, frame: str
) -> dict[str, Any]:
    """Write frame/<split>/block-<number>.parquet for the records of range `number`; return counts, JSON-able."""
    table = pa.Table.from_batches(list(batches), schema=shuffle_schema(layout))
    scores = table.slice(0, 0)
    if layout.scores:
        of_records = pc.less(table["source"], len(layout.sources))
        scores, table = _by_file(table.filter(pc.invert(of_records))), table.filter(of_records)
    # Each bag is unpacked as it came and put into order once, by position: its bytes are not sorted with the rest.
    unpacked = {key: _unpacked(table[f"bag_{key}"], bag) for key, bag in layout.bags.items()}
    table = table.drop_columns([f"bag_{key}" for key in layout.bags])
    table = table.append_column(POSITION, pa.array(np.arange(table.num_rows)))
    joined_scores = _join(table, scores, layout)
    joined = joined_scores.joined
    split = joined.table["split"].to_numpy()[joined.first] if len(joined.first) else np.empty(0, np.int32)
    statistics: dict[str, Any] = {
        "number": number,
        "records": table.num_rows,
        "splits": {},
        "violations": _violations(table, joined_scores, scores, layout, config),
        "duplicates": _duplicates(joined, layout),
        "external_scores": joined_scores.counts,
        "seen": seen_in_files(table, unpacked, layout),
    }
    for code, name in enumerate(SPLITS):
        first = joined.first[split == code]
        columns = _scalars(joined, first, layout)
        for files in layout.scores:
            columns[files.column] = pa.array(joined_scores.values[files.coordinate][split == code])
        entries = {}
        for source in layout.sources:
            position = joined.table[POSITION].to_numpy()[first + source.number]
            for bag in source.bags:
                ordered = bags.take(unpacked[bag.key], position)
                entries[bag.key] = len(ordered.indices)
                columns[f"{bag.key}_indices"], columns[f"{bag.key}_values"] = bags.to_arrow(ordered)
        block = pa.table(columns)
        statistics["splits"][name] = {
            "records": int(np.count_nonzero(table["split"].to_numpy() == code)),
            "rows": block.num_rows,
            "labels": float(np.sum(block["label"].to_numpy())),
            "label_range": [float(extreme) for extreme in _range(block["label"].to_numpy())],
            "entries": entries,
        }
        if name == "training" and config.task == "linear_regression":
            scale = LabelScale.of(block["label"].to_numpy(), block["offset"].to_numpy())
            statistics["label_scale"] = scale.as_json()
        if block.num_rows:
            _write(storage.join(frame, name, block_name(number)), block)
    return statistics


def _range(values: NDArray[np.float64]) -> tuple[float, ...]:
    return (values.min(), values.max()) if len(values) else ()


def _join(table: pa.Table, scores: pa.Table, layout: Layout) -> JoinedScores:
    joined = join_by_uid(table, len(layout.sources))
    return join_scores(joined, scores, layout.scores, len(layout.sources)) if layout.scores else JoinedScores(joined)


def _unpacked(packed: pa.ChunkedArray, bag: BagColumn) -> Bag:
    return bags.concatenate([bags.unpack(chunk, bag.numpy_dtype) for chunk in packed.chunks], bag.numpy_dtype)


def _scalars(joined: Joined, first: NDArray[np.int64], layout: Layout) -> dict[str, pa.Array]:
    """Every column of a block but its bags, for the kept uids at `first`."""
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
    return columns


def _write(path: str, block: pa.Table) -> None:
    numbers = [name for name in block.schema.names if not name.endswith(("_indices", "_values"))]
    with storage.open_for_write(path) as file:
        pq.write_table(
            block, file, row_group_size=_ROW_GROUP, compression="lz4", use_dictionary=numbers, write_statistics=False
        )


def _violations(
    table: pa.Table, joined_scores: JoinedScores, scores: pa.Table, layout: Layout, config: Config
) -> dict[str, Any]:
    """check name → {count, first: [{uid, file}]} of every rule that was broken, in uid order."""
    found: dict[str, Any] = {}
    joined, files = joined_scores.joined, layout.all_files

    def add(name: str, records: pa.Table, where: NDArray[np.bool_]) -> None:
        count = int(np.count_nonzero(where))
        if count == 0:
            return
        entry = found.setdefault(name, {"count": 0, "first": []})
        entry["count"] += count
        for position in np.flatnonzero(where)[:FIRST_OFFENDERS]:
            file = files[records["file"][int(position)].as_py()]
            entry["first"].append({"uid": records["uid"][int(position)].as_py(), "file": file})

    for name, where in (joined.faults | joined_scores.missing).items():
        add(name, joined.table, where)
    for name, where in joined_scores.broken.items():
        add(name, *_in_uid_order(scores, where))
    without_uid = _by_file(table.filter(pc.is_null(table["uid"])))
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


def _in_uid_order(scores: pa.Table, where: NDArray[np.bool_]) -> tuple[pa.Table, NDArray[np.bool_]]:
    """Return the scores that break a rule."""
    broken = scores.filter(pa.array(where)).sort_by([("uid", "ascending"), ("file", "ascending")])
    return broken, np.ones(broken.num_rows, bool)


def _by_file(records: pa.Table) -> pa.Table:
    """Sort the records into an order that does not depend on which task's records came first."""
    return records.sort_by("file")


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
