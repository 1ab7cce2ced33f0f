"""The check of Parquet files' column types against what the pipeline reads, made before a record is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from gdmix_core.config.pipeline import Config
from gdmix_core.data.ingest.metadata import Tensor, metadata_file
from gdmix_core.data.ingest.schema_check import Tensors, columns_read, input_directories
from gdmix_core.data.plain_columns import holds, is_list, is_text, plain_type
from gdmix_core.errors import DataError

if TYPE_CHECKING:
    from gdmix_core.data.ingest.pieces import Piece
    from gdmix_core.data.ingest.source import Source

Schemas = dict[str, pa.Schema]
"""Parquet file → its schema"""

_NUMBERS = ("columns.label", "columns.weight", "columns.offset")
_KINDS = {"integer": "an integer", "real": "a number", "text": "a string"}


def with_column_types(
    sources: Sequence[Source], pieces: Sequence[Piece], schemas: Schemas, config: Config, *, labelled: bool
) -> list[Source]:
    """Return the sources with the integer ids marked as unsigned that any file holds as uint64.

    Uids are joined, so they have one type everywhere. Raises DataError, a line for each column that a file holds in a
    type that cannot be used.
    """
    files: dict[str, Schemas] = {source.path: {} for source in sources}
    for piece in pieces:
        if piece.path in schemas:
            files[sources[piece.source].path][piece.path] = schemas[piece.path]
    if faults := unusable_types(config, {s.path: s.tensors for s in sources}, files, labelled=labelled):
        raise DataError("\n".join(faults))
    uid = config.columns.uid
    unsigned = {s.number: {c for c in (uid, *s.ids) if _is_unsigned(c, files[s.path])} for s in sources}
    everywhere = {uid} if any(uid in columns for columns in unsigned.values()) else set()
    return [replace(source, unsigned=frozenset(unsigned[source.number] | everywhere)) for source in sources]


def _is_unsigned(column: str, files: Schemas) -> bool:
    return any(column in s.names and pa.types.is_uint64(plain_type(s.field(column).type)) for s in files.values())


def unusable_types(
    config: Config, tensors: Tensors, files: Mapping[str, Schemas], *, labelled: bool = True
) -> list[str]:
    """Return a line for each column and type that cannot be used, with the first file that has it.

    tensors, files: by the path of a directory, in the order of input_directories
    """
    paths = input_directories(config)
    faults: list[str] = []
    told: set[tuple[str, str]] = set()
    for kind, name, use, directory in columns_read(config, list(paths), labelled):
        role: Literal["bag", "number", "id"] = "bag" if kind == "bag" else "number" if use in _NUMBERS else "id"
        searched = [paths[directory]] if directory else list(tensors)
        at = next((path for path in searched if name in tensors.get(path, {})), None)
        if at is not None and (at, name) not in told:  # an entity may be a metric's group, too
            told.add((at, name))
            faults += _of_column(tensors[at][name], use, role, files.get(at, {}), at)
    return faults


def _of_column(
    tensor: Tensor, use: str, role: Literal["bag", "number", "id"], files: Schemas, directory: str
) -> Iterator[str]:
    for column, wanted in tensor.stored:
        seen: dict[str, list[str]] = {}
        for path, schema in files.items():
            found = schema.field(column).type if column in schema.names else pa.null()
            if not _is_usable(found, wanted, scalar=tensor.size is None):
                seen.setdefault(str(found), []).append(path)
        for paths in seen.values():
            found = files[paths[0]].field(column).type
            more = f" (and {len(paths) - 1} more files)" if len(paths) > 1 else ""
            must = _KINDS[wanted] if tensor.size is None else f"a list, each value {_KINDS[wanted]}"
            yield (
                f"{paths[0]}{more}: column {column} ({use}) is {found}, and must be {must}, as it is described "
                f"({tensor.dtype}); {_advice(plain_type(found), wanted, role, metadata_file(directory))}"
            )


def _is_usable(found: pa.DataType, wanted: str, *, scalar: bool) -> bool:
    kind = plain_type(found)
    if pa.types.is_null(kind):  # nothing but None: absent in every record
        return True
    if scalar:
        return holds(kind, wanted)
    return is_list(kind) and (pa.types.is_null(kind.value_type) or holds(kind.value_type, wanted))


def _advice(kind: pa.DataType, wanted: str, role: str, metadata: str) -> str:
    if role == "bag":
        return "write lists of numbers"
    is_id = role == "id"
    if pa.types.is_temporal(kind):
        return f"write it {'as a string or an integer' if is_id else 'as a number'}, such as the seconds since 1970"
    if is_id and is_text(kind):
        return f"write integers (int64 or uint64), or correct the dtype in {metadata} to string"
    if is_id and pa.types.is_integer(kind):
        return f"write strings, or correct the dtype in {metadata} to long"
    if is_id and (pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        return (
            "write it as int64, uint64 or string: not every integer is a floating-point number (pandas makes float64 "
            "of integers where one is absent; its type Int64 does not)"
        )
    if is_id:
        return "write a single int64, uint64 or string a row"
    if wanted == "integer" and holds(kind, "real"):
        return f"write integers, or correct the dtype in {metadata} to double"
    return "write a single number a row (int64, float or double)"
