"""What Parquet files say of their columns' types, held against what the pipeline reads: before a record is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from gdmix_core.config import Config
from gdmix_core.data.metadata import Tensor, metadata_file
from gdmix_core.data.plain_columns import holds, is_list, is_text, plain_type
from gdmix_core.data.scalar_columns import number_columns
from gdmix_core.errors import DataError

if TYPE_CHECKING:
    from gdmix_core.data.source import Piece, Source

Schemas = dict[str, pa.Schema]
"""Parquet file → its schema"""

_DTYPES = {"integer": "long", "real": "double", "text": "string"}
_KINDS = {"integer": "an integer", "real": "a number", "text": "a string"}


def with_column_types(
    sources: Sequence[Source], pieces: Sequence[Piece], schemas: Schemas, config: Config, *, labelled: bool
) -> list[Source]:
    """The sources, told which of their integer ids are unsigned: those that any file holds as uint64.

    Uids are joined, so they have one type everywhere. Raises DataError, a line for each column that a file holds in a
    type that cannot be used.
    """
    files: dict[int, dict[str, pa.Schema]] = {source.number: {} for source in sources}
    for piece in pieces:
        if piece.path in schemas:
            files[piece.source][piece.path] = schemas[piece.path]
    faults = [fault for s in sources for fault in _faults(s, files[s.number], config, labelled)]
    if faults:
        raise DataError("\n".join(faults))
    uid = config.columns.uid
    unsigned = {s.number: {c for c in (uid, *s.ids) if _is_unsigned(c, files[s.number])} for s in sources}
    everywhere = {uid} if any(uid in columns for columns in unsigned.values()) else set()
    return [replace(source, unsigned=frozenset(unsigned[source.number] | everywhere)) for source in sources]


def _is_unsigned(column: str, files: Mapping[str, pa.Schema]) -> bool:
    return any(column in s.names and pa.types.is_uint64(plain_type(s.field(column).type)) for s in files.values())


def _faults(source: Source, files: Mapping[str, pa.Schema], config: Config, labelled: bool) -> Iterator[str]:
    """A line for each column and type, with the first file that has it."""
    for tensor, role in _columns_read(source, config, labelled):
        for column, wanted in tensor.stored:
            seen: dict[str, list[str]] = {}
            for path, schema in files.items():
                found = schema.field(column).type if column in schema.names else pa.null()
                if not _usable(found, wanted, scalar=tensor.size is None):
                    seen.setdefault(str(found), []).append(path)
            for paths in seen.values():
                found = files[paths[0]].field(column).type
                more = f" (and {len(paths) - 1} more files)" if len(paths) > 1 else ""
                yield f"{paths[0]}{more}: {_fault(column, found, wanted, tensor, role, source)}"


def _columns_read(source: Source, config: Config, labelled: bool) -> Iterator[tuple[Tensor, str]]:
    """Each tensor that is read, and what it is."""
    yield source.tensors[config.columns.uid], "uid"
    for column in source.ids:
        yield source.tensors[column], "text" if column in source.texts else "id"
    if source.primary:
        for role, column in number_columns(config, labelled=labelled).items():
            yield source.tensors[column], role
    for bag in source.bags:
        yield source.tensors[bag.name], "bag"


def _usable(found: pa.DataType, wanted: str, *, scalar: bool) -> bool:
    kind = plain_type(found)
    if pa.types.is_null(kind):  # nothing but None: absent in every record
        return True
    if scalar:
        return holds(kind, wanted)
    return is_list(kind) and (pa.types.is_null(kind.value_type) or holds(kind.value_type, wanted))


def _fault(column: str, found: pa.DataType, wanted: str, tensor: Tensor, role: str, source: Source) -> str:
    vector = tensor.size is not None
    described = f"{'a list, each value ' if vector else ''}{_KINDS[wanted]} ({tensor.dtype})"
    if vector and column.endswith("_indices") and tensor.sparse:
        described = "a list of integers (feature indices)"
    what = f"bag {tensor.name}" if role == "bag" else role
    return (
        f"column {column} ({what}) is {found}, and must be {described}; "
        f"{_advice(plain_type(found), wanted, tensor, role, source)}"
    )


def _advice(kind: pa.DataType, wanted: str, tensor: Tensor, role: str, source: Source) -> str:
    is_id = role in ("uid", "id", "text")
    if tensor.size is not None:
        return "write lists of numbers, as long as the metadata or the indices say"
    correct = f"correct its dtype in {metadata_file(source.path)} to"
    if is_id and is_text(kind):
        return f"{correct} string, or write integers (int64 or uint64)"
    if is_id and pa.types.is_integer(kind):
        return f"{correct} long, or write strings"
    if is_id and (pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        return (
            "write it as int64 or uint64, or as a string: not every integer has a floating-point number of its own "
            "(pandas makes float64 of integers where one is absent; its type Int64 does not)"
        )
    if pa.types.is_temporal(kind):
        instead = "as a string or as an integer" if is_id else "as a number"
        return f"write it {instead}, such as the seconds since 1970"
    if is_id:
        return "write it as int64, uint64 or string, a single value a row"
    if holds(kind, "real"):
        return f"{correct} {_DTYPES['real']}, or write integers"
    return "write it as a number (int64, float or double), a single value a row"
