"""The parts of the input that tasks read: files are listed, opened once for their columns, and cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gdmix_core import storage
from gdmix_core.data.ingest.input_files import ABSENT, InputFile, at_once, input_files
from gdmix_core.data.ingest.metadata import Tensor, metadata_file
from gdmix_core.data.ingest.stored_columns import Wanted, fault_of_schema
from gdmix_core.data.tfrecord.files import split_points
from gdmix_core.errors import DataError

Split = Literal["training", "validation"]
Constant = int | float | str | None
DIRECTORIES: dict[Split, str] = {"training": "trainingData", "validation": "validationData"}
_PIECE_BYTES = 64 << 20
_NAMED = 3


@dataclass(frozen=True)
class Piece:
    """A part of one input file that one task reads: a byte range of a TFRecord file, row groups of a Parquet file.

    constants: the columns that the names of its folders give (key=value), null for None
    """

    path: str
    file: int
    source: int
    split: Split
    start: int
    stop: int
    size: int = 0  # in bytes, about
    constants: tuple[tuple[str, Constant], ...] = ()


@dataclass(frozen=True)
class Opened:
    """The facts that a file gives before its records are read.

    ranges: (start, stop, bytes) of its parts; schema: None where only records say it, or without a row: nobody knows
    what columns would have held
    """

    ranges: tuple[tuple[int, int, int], ...]
    schema: pa.Schema | None = None


def open_file(file: InputFile) -> Opened:
    """Its ranges and its schema. Raises DataError for a file that is not readable."""
    if not file.path.endswith(".parquet"):
        return Opened(tuple((start, stop, stop - start) for start, stop in split_points(file.path, _PIECE_BYTES)))
    if file.size == 0:
        raise DataError(
            f"{file.path}: 0 bytes, which is not a Parquet file: whoever wrote or copied it did not finish; write it "
            "again, or remove it"
        )
    try:
        with storage.open_for_read(file.path) as opened:
            parquet = pq.ParquetFile(opened)
            sizes = [parquet.metadata.row_group(n).total_byte_size for n in range(parquet.num_row_groups)]
            names = parquet.schema_arrow.names
            if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
                raise DataError(
                    f"{file.path}: it has {names.count(twice[0])} columns named {twice[0]}; keep one, or rename them"
                )
            return Opened(_merged(sizes), parquet.schema_arrow if parquet.metadata.num_rows else None)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(f"{file.path}: not a readable Parquet file: {error}") from None


def _merged(sizes: Sequence[int]) -> tuple[tuple[int, int, int], ...]:
    """Consecutive row groups, as many as a piece has room for."""
    ranges: list[tuple[int, int, int]] = []
    for number, size in enumerate(sizes):
        if ranges and ranges[-1][2] + size <= _PIECE_BYTES:
            ranges[-1] = (ranges[-1][0], number + 1, ranges[-1][2] + size)
        else:
            ranges.append((number, number + 1, size))
    return tuple(ranges)


class Directory(Protocol):
    """One input directory. wanted: the columns that are read, which every file with rows must have."""

    @property
    def path(self) -> str: ...
    @property
    def tensors(self) -> Mapping[str, Tensor]: ...
    @property
    def wanted(self) -> Sequence[Wanted]: ...


@dataclass(frozen=True)
class Listed:
    """The files of all directories, by number, and their parts.

    columns: of each file, None unless it is Parquet with rows; schemas: of these files, by path
    ignored: keys of partition folders that are not read
    """

    pieces: tuple[Piece, ...]
    files: tuple[str, ...]
    listing: tuple[tuple[str, int, str], ...]
    columns: tuple[tuple[str, ...] | None, ...]
    schemas: dict[str, pa.Schema]
    ignored: tuple[str, ...]


def list_pieces(directories: Sequence[Directory], *, labelled: bool) -> Listed:
    """labelled: whether there have to be training files.

    Raises DataError for what input_files refuses, for files that cannot be opened, and for columns that they lack.
    """
    found: list[tuple[int, Split, InputFile]] = []
    for source, directory in enumerate(directories):
        kinds = {entry.name: entry.kind for entry in storage.list_entries(directory.path)}
        for split, name in DIRECTORIES.items():
            if kinds.get(name, "folder") != "folder":
                what = "a link to something that is not there" if kinds[name] == "link" else "not a folder"
                raise DataError(
                    f"{storage.join(directory.path, name)}: {what}; put the {split} files in a folder there"
                )
            files = input_files(storage.join(directory.path, name))
            if split == "training" and labelled and not files:
                raise DataError(
                    f"{storage.join(directory.path, name)}: no training files; expected *.tfrecord, "
                    f"*.tfrecord.gz, *.tfrecord.deflate or *.parquet"
                )
            found += [(source, split, file) for file in files]
    has_validation = {source for source, split, _ in found if split == "validation"}
    missing = [directory.path for source, directory in enumerate(directories) if source not in has_validation]
    if labelled and missing and has_validation:
        raise DataError(f"{missing[0]}: has no validation files, but other coordinates have; give all or none")
    opened = at_once(open_file, [file for _, _, file in found])
    faults: dict[str, list[str]] = {}
    pieces: list[Piece] = []
    ignored: dict[str, None] = {}
    for number, ((source, split, file), parts) in enumerate(zip(found, opened, strict=True)):
        read = {wanted.tensor.name: wanted for wanted in directories[source].wanted}
        constants = tuple((k, _typed(read[k], v, file.path)) for k, v in file.partition if k in read)
        ignored |= dict.fromkeys(key for key, _ in file.partition if key not in read)
        for fault in _faults(parts, directories[source], dict(constants)):
            faults.setdefault(fault, []).append(file.path)
        pieces += [Piece(file.path, number, source, split, *part, constants) for part in parts.ranges]
    if faults:
        raise DataError("\n".join(f"{_named(paths, len(found))}: {fault}" for fault, paths in faults.items()))
    return Listed(
        tuple(pieces),
        tuple(file.path for _, _, file in found),
        tuple((file.path, file.size, file.stamp) for _, _, file in found),
        tuple(None if parts.schema is None else tuple(parts.schema.names) for parts in opened),
        {file.path: parts.schema for (*_, file), parts in zip(found, opened, strict=True) if parts.schema is not None},
        tuple(ignored),
    )


def _faults(opened: Opened, directory: Directory, constants: Mapping[str, Constant]) -> list[str]:
    if opened.schema is None:
        return []
    found = []
    for wanted in directory.wanted:
        name = wanted.tensor.name
        if name not in constants:
            fault = fault_of_schema(wanted, opened.schema.names, directory.tensors)
        else:
            fault = in_both_places(name) if name in opened.schema.names else None
        found += [fault] if fault else []
    return found


def in_both_places(name: str) -> str:
    return f"column {name} is in the file and in the name of a folder ({name}=…); leave it out of one of them"


def _named(paths: Sequence[str], of: int) -> str:
    if len(paths) == 1:
        return paths[0]
    more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    return f"{len(paths)} of {of} files: {', '.join(paths[:_NAMED])}{more}"


def _typed(wanted: Wanted, value: str, path: str) -> Constant:
    """Return the value of a partition folder in the type that the metadata give the column."""
    tensor = wanted.tensor
    if tensor.size is not None:
        raise DataError(f"{path}: the name of its folder gives {wanted.told} one value, but it is a vector")
    if value == ABSENT:
        return None
    try:
        if tensor.type == "integer":
            return int(np.int64(int(_plain_number(value))))
        return float(_plain_number(value)) if tensor.type == "real" else value
    except (ValueError, OverflowError):
        raise DataError(
            f"{path}: {tensor.name}={value}: {metadata_file(wanted.directory)} describes {tensor.name} as "
            f"{tensor.dtype}, and {value!r} is not one; describe it as string, or rename the folder"
        ) from None


def _plain_number(value: str) -> str:
    """Return the number as people write it.

    Python reads more: other scripts' digits, underscores between digits, blanks around them.
    """
    if not value.isascii() or "_" in value or value != value.strip():
        raise ValueError(value)
    return value
