"""Encoded Arrow columns as what they hold: dictionaries (pandas' categories), views, run ends, half floats."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type a column of this type is read as: itself, unless it is an encoding of another."""
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return plain_type(kind.value_type)
    if is_list(kind):
        value = plain_type(kind.value_type)
        is_view = pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind)
        return pa.large_list(value) if is_view or value != kind.value_type else kind
    if kind == pa.string_view():
        return pa.large_string()
    if kind == pa.binary_view():
        return pa.large_binary()
    if pa.types.is_float16(kind):
        return pa.float32()
    return kind


def plain(array: pa.Array) -> pa.Array:
    """Return the column in its plain type."""
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_run_end_encoded(array.type):
        array = pc.run_end_decode(array)
    wanted = plain_type(array.type)
    if pa.types.is_list_view(array.type) or pa.types.is_large_list_view(array.type):
        return pa.array(array.to_pylist(), wanted)  # Arrow's own cast loses lists that follow a null
    return array if array.type == wanted else array.cast(wanted)


def is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
        or pa.types.is_list_view(kind)
        or pa.types.is_large_list_view(kind)
    )


def is_text(kind: pa.DataType) -> bool:
    """Check whether the type holds strings, or bytes of any length, which are read as UTF-8."""
    return kind in (
        pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view()
    )  # fmt: skip


def is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_floating(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_decimal(kind)
    )


def holds(kind: pa.DataType, wanted: str) -> bool:
    """Check whether a column of this plain type gives "integer", "real" or "text" values without loss."""
    if wanted == "integer":
        return bool(pa.types.is_integer(kind) or pa.types.is_boolean(kind))
    return is_number(kind) if wanted == "real" else is_text(kind)
