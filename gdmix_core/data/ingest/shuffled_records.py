"""The form in which records travel through the shuffle of validate, and what becomes of them at the other end.

Every record is one row: what identifies it, its scalars, and each bag as one block of bytes. The records of
all directories are in one table; a column that a directory does not give is null there. So are the scores of external
coordinates, one a row, as the records of further sources.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gdmix_core.data.bags import pack
from gdmix_core.data.id_types import arrow_type
from gdmix_core.data.ingest.pieces import Piece
from gdmix_core.data.ingest.record_checks import UID_DISJOINT, UID_IN_ALL, UID_UNIQUE
from gdmix_core.data.ingest.records import Records
from gdmix_core.data.ingest.source import Layout, ScorePiece

ROLES = ("label", "weight", "offset")


def shuffle_schema(layout: Layout) -> pa.Schema:
    """Return the schema: columns id_<column> hold entities, groups and texts, bag_<key> packed bags."""
    return pa.schema(
        [
            ("uid", arrow_type(layout.uid_type)),
            ("split", pa.int32()),
            ("source", pa.int32()),
            ("file", pa.int32()),
            ("violations", pa.int64()),
            ("duplicates", pa.int64()),
            *[(role, pa.float64()) for role in ROLES],
            *[(f"id_{name}", arrow_type(kind)) for name, kind in layout.id_types().items()],
            *[(f"bag_{key}", pa.binary()) for key in layout.bags],
            *([("score", pa.float64())] if layout.scores else []),
        ]
    )


def to_batch(records: Records, piece: Piece, schema: pa.Schema) -> pa.RecordBatch:
    rows = len(records.uid)
    columns: dict[str, pa.Array] = {
        "uid": records.uid,
        "split": _constant(0 if piece.split == "training" else 1, rows),
        "source": _constant(piece.source, rows),
        "file": _constant(piece.file, rows),
        "violations": pa.array(records.violations),
        "duplicates": pa.array(records.duplicates),
        **{role: pa.array(values) for role, values in records.numbers.items()},
        **{f"id_{name}": values for name, values in records.ids.items()},
        **{f"bag_{key}": pack(bag) for key, bag in records.bags.items()},
    }
    return _batch(columns, schema, rows)


def scores_to_batch(uid: pa.Array, score: pa.Array, piece: ScorePiece, schema: pa.Schema) -> pa.RecordBatch:
    rows = len(uid)
    columns = {
        "uid": uid,
        "source": _constant(piece.source, rows),
        "file": _constant(piece.file, rows),
        "score": score,
    }
    return _batch(columns, schema, rows)


def _constant(value: int, rows: int) -> pa.Array:
    return pa.array(np.full(rows, value, np.int32))


def _batch(columns: dict[str, pa.Array], schema: pa.Schema, rows: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [columns[f.name] if f.name in columns else pa.nulls(rows, f.type) for f in schema], schema=schema
    )


@dataclass(frozen=True)
class Joined:
    """Records of one range, in uid order, brought together by uid.

    table: the records sorted by (uid, split, source), those without a uid left out
    begins: int64 [uids] position of each uid's first record
    first: int64 [kept] position of each kept uid's record of source 0; that of source s is s further on
    faults: check name → bool [rows of table]: the records (one for each uid) that break a rule about uids
    """

    table: pa.Table
    begins: NDArray[np.int64]
    first: NDArray[np.int64]
    faults: dict[str, NDArray[np.bool_]]


def join_by_uid(table: pa.Table, sources: int) -> Joined:
    """Keep the uids that every directory has once, in one split, without a violation."""
    table = table.filter(pc.is_valid(table["uid"])).combine_chunks()
    table = table.take(_uid_order(table, sources))
    rows = table.num_rows
    if rows == 0:
        return Joined(table, np.empty(0, np.int64), np.empty(0, np.int64), {})
    uid = table["uid"].combine_chunks()
    split = table["split"].to_numpy()
    source = table["source"].to_numpy()
    same = np.zeros(rows, bool)  # as the record before
    same[1:] = pc.equal(uid[1:], uid[:-1]).to_numpy(zero_copy_only=False)
    begins = np.flatnonzero(~same)
    same_split = same.copy()
    same_split[1:] &= split[1:] == split[:-1]
    repeated = same_split.copy()
    repeated[1:] &= source[1:] == source[:-1]

    split_begins = np.flatnonzero(~same_split)
    incomplete = np.zeros(rows, bool)
    incomplete[split_begins] = np.add.reduceat((~repeated).astype(np.int64), split_begins) < sources
    faults = {
        UID_UNIQUE.name: _at(begins, np.logical_or.reduceat(repeated, begins), rows),
        UID_IN_ALL.name: incomplete,
        UID_DISJOINT.name: _at(begins, np.maximum.reduceat(split, begins) != np.minimum.reduceat(split, begins), rows),
    }
    bad = repeated | incomplete | faults[UID_DISJOINT.name] | (table["violations"].to_numpy() != 0)
    kept = begins[~np.logical_or.reduceat(bad, begins)]
    return Joined(table, begins, kept, faults)


def _uid_order(table: pa.Table, sources: int) -> pa.Array:
    """Sort by uid, split, source and file, so that the order in which tasks end does not decide which of two is named.

    Sorting by numpy is several times faster than by Arrow's several-key sort, but needs numbers.
    """
    if not pa.types.is_integer(table["uid"].type):
        return pc.sort_indices(table, [(name, "ascending") for name in ("uid", "split", "source", "file")])
    keys = [table["split"].to_numpy(), table["uid"].to_numpy()]
    if sources > 1:
        keys.insert(0, table["source"].to_numpy())
    file = table["file"].to_numpy()
    if np.any(file[1:] < file[:-1]):
        keys.insert(0, file)
    return pa.array(np.lexsort(keys))


def _at(begins: NDArray[np.int64], values: NDArray[np.bool_], rows: int) -> NDArray[np.bool_]:
    where = np.zeros(rows, bool)
    where[begins] = values
    return where
