"""Columns that a record may lack, and yet not every record: bags and texts, looked for in whole files.

A bag absent from a record is empty, an absent text is "". A bag without a single entry in all of training is not meant
so: its columns have another name, or are not there. Neither is a file without them whose records have other columns,
which nothing describes, in their place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gdmix_core.data.ingest.source import Layout, Source
from gdmix_core.data.ingest.stored_columns import (
    Wanted,
    fields_of,
    hint,
    names_in_records,
    near_names,
    undescribed_names,
)
from gdmix_core.data.ragged import Bag
from gdmix_core.errors import DataError

RECORDS = "records"
"""Stands among the columns for the records themselves."""
Seen = dict[int, dict[str, set[int]]]
"""source → column or bag, or RECORDS → numbers of the files of which some record has it"""
_NAMED = 3


def optional_columns(source: Source) -> list[Wanted]:
    """Return the columns that a record of the source may lack: bags and texts."""
    names = {bag.name for bag in source.bags} | set(source.texts)
    return [wanted for wanted in source.wanted if wanted.tensor.name in names]


def seen_in_files(table: pa.Table, bags: Mapping[str, Bag], layout: Layout) -> dict[str, dict[str, str]]:
    """Return source → column → the files with an entry among a block's records, as a bit for each file, for JSON.

    table: records in the order of `bags`, which are by their key
    """
    file, source_of = table["file"].to_numpy(), table["source"].to_numpy()

    def files(where: NDArray[np.bool_]) -> str:
        return np.packbits(np.bincount(file[where], minlength=len(layout.files)) > 0).tobytes().hex()

    found: dict[str, dict[str, str]] = {}
    for source in layout.sources:
        mine = source_of == source.number
        found[str(source.number)] = {
            RECORDS: files(mine),
            **{bag.name: files(mine & (np.diff(bags[bag.key].offsets) > 0)) for bag in source.bags},
            **{name: files(mine & _not_empty(table[f"id_{name}"])) for name in source.texts},
        }
    return found


def _not_empty(texts: pa.ChunkedArray) -> NDArray[np.bool_]:
    return np.asarray(pc.fill_null(pc.not_equal(texts, ""), False).to_numpy())


def merge_seen(blocks: Iterable[Mapping[str, Mapping[str, str]]], layout: Layout) -> Seen:
    """Merge what all blocks have seen."""
    bits: dict[tuple[int, str], NDArray[np.uint8]] = {}
    for block in blocks:
        for of_source, columns in block.items():
            for name, text in columns.items():
                key = int(of_source), name
                octets = np.frombuffer(bytes.fromhex(text), np.uint8)
                bits[key] = bits[key] | octets if key in bits else octets
    seen: Seen = {source.number: {} for source in layout.sources}
    for (number, name), octets in bits.items():
        seen[number][name] = set(np.flatnonzero(np.unpackbits(octets)).tolist())
    return seen


def absent_checks(seen: Seen, layout: Layout) -> dict[str, dict[str, Any]]:
    """Count for the report the files that should have each bag and text and do not. fatal: dropping does not help."""
    splits = {piece.file: piece.split for piece in layout.pieces}
    checks: dict[str, dict[str, Any]] = {}
    for source in layout.sources:
        keys = {bag.name: bag.key for bag in source.bags}
        prefix = f"{source.path.rsplit('/', 1)[-1]}: " if len(layout.sources) > 1 else ""
        for wanted in optional_columns(source):
            name = wanted.tensor.name
            what = "an entry of the bag" if wanted.bag else "a text"
            check: dict[str, Any] = {
                "rule": f"some record of training has {what}, and no file has it under another name",
                "broken": 0,
                "first": [],
                "fatal": True,
                "unit": "files",
            }
            has, there = seen[source.number].get(name, set()), seen[source.number].get(RECORDS, set())
            training = {file for file in there if splits[file] == "training"}
            without = training if not has & training else there - has
            told = _told(wanted, source, without, has & there, layout, whole=bool(training) and not has & training)
            if told is not None:
                files, check["advice"] = told
                check["broken"] = len(files)
                check["first"] = [{"uid": None, "file": layout.files[file]} for file in files[:10]]
            checks[f"{prefix}{keys.get(name, name)}.in_some_record"] = check
    return checks


def _told(
    wanted: Wanted, source: Source, without: set[int], having: set[int], layout: Layout, *, whole: bool
) -> tuple[list[int], str] | None:
    """Describe the files at fault, and what to do; None where nothing is wrong."""
    if whole:
        names = _names(layout, sorted(without)[:_NAMED])
        return sorted(without), f"{_meant(wanted, names, source)}{_on_purpose(wanted)}"
    at_fault = []
    usual: set[str] | None = None
    meant: list[str] = []
    for file in sorted(file for file in without if layout.files[file].endswith(".parquet") and wanted.bag):
        # As a table has them whose schema was merged: the older name is there, and empty.
        own = {str(name) for part in fields_of(wanted.tensor) for name in (part.name, part.other)}
        found = near_names(wanted, [name for name in _names(layout, [file]) if name not in own], source.tensors)
        if found:
            at_fault.append(file)
            meant = meant or found
    for file in sorted(file for file in without if not layout.files[file].endswith(".parquet")):
        usual = set(_names(layout, sorted(having)[:_NAMED])) if usual is None else usual
        names = _names(layout, [file])
        strange = undescribed_names([name for name in names if name not in usual], source.tensors)
        found = near_names(wanted, strange, source.tensors) if wanted.bag else strange
        if found and wanted.absent_from(names):
            at_fault.append(file)
            meant = meant or found
    if not at_fault:
        return None
    return sorted(at_fault), (
        f"their records have {', '.join(meant)} in its place, which nothing describes: write it under the name that "
        "it has in the other files, or, if that is something else, describe it in the metadata"
    )


def _names(layout: Layout, files: Iterable[int]) -> list[str]:
    """Return the names of the columns in these files; in TFRecord, those that their first records show."""
    found: dict[str, None] = {}
    for file in files:
        path = layout.files[file]
        found |= dict.fromkeys(layout.columns[file] or () if path.endswith(".parquet") else names_in_records(path))
    return list(found)


def _meant(wanted: Wanted, names: list[str], source: Source) -> str:
    if not wanted.absent_from(names):
        return f"{wanted.told}: its columns are there, but no record has anything in them"
    return f"no {wanted.told} in the records{hint(wanted, names, source.tensors)}"


def _on_purpose(wanted: Wanted) -> str:
    return f". If there is nothing in it on purpose, take it out of the configuration ({wanted.use})"


def require_seen(seen: Seen, layout: Layout) -> None:
    """Raise DataError for a bag or text that no record of data to be scored has, or that some files have renamed.

    seen: here a record has a column if it is there, also where it is empty.
    """
    for source in layout.sources:
        there = seen[source.number].get(RECORDS, set())
        for wanted in optional_columns(source):
            has = seen[source.number].get(wanted.tensor.name, set())
            if there and not has:
                names = _names(layout, sorted(there)[:_NAMED])
                raise DataError(
                    f"{source.path}: none of the records has {wanted.told}{hint(wanted, names, source.tensors)}; where "
                    "a record has nothing of it, write it empty"
                )
            told = _told(wanted, source, there - has, has, layout, whole=False)
            if told is not None:
                files, advice = told
                raise DataError(f"{', '.join(_paths(layout, files))}: no {wanted.told}; {advice}")


def _paths(layout: Layout, files: Iterable[int]) -> Iterator[str]:
    for number, file in enumerate(files):
        if number < _NAMED:
            yield layout.files[file]


def absent_scalar(wanted: Wanted, path: str, described: Mapping[str, Any]) -> str:
    """A clause on a column that records of a TFRecord file lack, if they have none of that name; else an empty one."""
    if path.endswith(".parquet"):
        return ""
    names = names_in_records(path)
    return hint(wanted, names, described) if names and wanted.absent_from(names) else ""
