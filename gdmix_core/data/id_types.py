"""The types of ids: integers, unsigned ones (hashes above 2⁶³) and texts, and how one is looked up among another."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

IdType = Literal["integer", "unsigned", "text"]
"""What the manifests of frame and export call the type of a column of uids, entities, groups or texts."""

_ARROW = {"integer": pa.int64(), "unsigned": pa.uint64(), "text": pa.string()}
_LARGEST = np.iinfo(np.int64).max
_TOP_BIT = pa.scalar(np.iinfo(np.int64).min, pa.int64())


def arrow_type(kind: str) -> pa.DataType:
    """int64, uint64 or string."""
    return _ARROW[kind]


def as_bits(ids: pa.Array) -> pa.Array:
    """Integers of any type as int64 with the same 64 bits: what is hashed, so that 5 has one hash in every type."""
    return ids.view(pa.int64()) if pa.types.is_uint64(ids.type) else ids.cast(pa.int64())


def among(ids: pa.Array, kind: pa.DataType) -> pa.Array:
    """The ids in the type of those they are looked up among; null where that type cannot hold one, as it is not there.

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
    """uint64 as int64 in the same order, for what has no unsigned integers (Spark): the top bit is flipped."""
    return pc.bit_wise_xor(ids.view(pa.int64()), _TOP_BIT)


def from_order_preserving(ids: pa.Array) -> pa.Array:
    """The inverse of order_preserving."""
    return pc.bit_wise_xor(ids, _TOP_BIT).view(pa.uint64())
