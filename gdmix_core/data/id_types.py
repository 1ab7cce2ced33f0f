"""The types of ids: integers, unsigned ones (hashes above 2⁶³) and texts, and how one is looked up among another."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gdmix_core.data.plain_columns import is_text, plain
from gdmix_core.errors import DataError

IdType = Literal["integer", "unsigned", "text"]
"""What the manifests of frame and export call the type of a column of uids, entities, groups or texts."""

_ARROW = {"integer": pa.int64(), "unsigned": pa.uint64(), "text": pa.string()}
_LARGEST = np.iinfo(np.int64).max
_TOP_BIT = pa.scalar(np.iinfo(np.int64).min, pa.int64())


def arrow_type(kind: str) -> pa.DataType:
    """Return int64, uint64 or string."""
    return _ARROW[kind]


def as_bits(ids: pa.Array) -> pa.Array:
    """View integers of any type as int64 with the same 64 bits, to be hashed: 5 has one hash in every type."""
    return ids.view(pa.int64()) if pa.types.is_uint64(ids.type) else ids.cast(pa.int64())


def repeated(ids: pa.Array) -> pa.StructArray:
    """Return the values and counts of the ids that occur several times, without nulls."""
    counts = pc.value_counts(ids.drop_null())
    return counts.filter(pc.greater(counts.field("counts"), 1))


def _ascends(ids: pa.Array) -> bool:
    if pa.types.is_integer(ids.type):
        values = ids.to_numpy()
        return bool(np.all(values[1:] > values[:-1]))
    return bool(pc.all(pc.less(ids[:-1], ids[1:])).as_py())


def among(ids: pa.Array, kind: pa.DataType) -> pa.Array:
    """Cast the ids to the type of those they are looked up among; null if that type cannot hold one: it is not there.

    Raises pa.ArrowInvalid for a text that is looked up among integers and is not one.
    """
    if ids.type == kind:
        return ids
    if pa.types.is_uint64(ids.type) and kind == pa.int64():
        ids = pc.if_else(pc.greater(ids, pa.scalar(_LARGEST, pa.uint64())), pa.scalar(None, pa.uint64()), ids)
    elif pa.types.is_signed_integer(ids.type) and kind == pa.uint64():
        ids = pc.if_else(pc.less(ids, pa.scalar(0, ids.type)), pa.scalar(None, ids.type), ids)
    return ids.cast(kind)


def order_preserving(ids: pa.Array) -> pa.Array:
    """Return uint64 as int64 in the same order, for what has no unsigned integers (Spark): the top bit is flipped."""
    return pc.bit_wise_xor(ids.view(pa.int64()), _TOP_BIT)


def from_order_preserving(ids: pa.Array) -> pa.Array:
    """Return the inverse of order_preserving."""
    return pc.bit_wise_xor(ids, _TOP_BIT).view(pa.uint64())


def plain_ids(ids: Any) -> pa.Array:
    """Cast an id array to int64, uint64 or string [E]. Raises DataError for other types, null and doubles."""
    try:
        array = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
        array = plain(array if isinstance(array, pa.Array) else pa.array(array))
    except (pa.ArrowException, UnicodeEncodeError, OverflowError) as error:
        raise DataError(f"ids: not an array of integers or strings ({error})") from None
    if len(array) == 0 and pa.types.is_null(array.type):
        return pa.array([], pa.string())
    if is_text(array.type):
        try:
            array = array.cast(pa.string())
        except pa.ArrowInvalid:
            raise DataError("ids: some are not UTF-8 text; decode them first, or write them in hexadecimal") from None
    elif pa.types.is_integer(array.type):
        array = array if array.type in (pa.uint64(), pa.int64()) else array.cast(pa.int64())
    else:
        raise DataError(f"ids: must be integers or strings, not {array.type}")
    if array.null_count:
        raise DataError(f"ids: {array.null_count} of {len(array)} entities are null")
    # Where they ascend, as everywhere but in notebooks, none is there twice.
    if len(array) > 1 and not _ascends(array) and len(twice := repeated(array)):
        raise DataError(
            f"ids: entity {twice[0]['values'].as_py()!r} is there {twice[0]['counts']} times; give each entity once, "
            "with all of its rows"
        )
    return array
