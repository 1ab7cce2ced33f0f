"""The choice of a folder's files to read; any other file beside them is an error that says how to have it read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import unquote

from gdmix_core import storage
from gdmix_core.errors import DataError

TFRECORD_SUFFIXES = (".tfrecord", ".tfrecord.gz", ".tfrecord.deflate")
INPUT_SUFFIXES = (*TFRECORD_SUFFIXES, ".parquet")
ABSENT = "__HIVE_DEFAULT_PARTITION__"
"""What Hive and Spark name a partition folder's value where it is null."""

_NAMED = 5  # of what is not read
_DEEPEST = 16  # partition folders within each other; a link to a folder above would never end
# Read under one of our suffixes once they are renamed.
_OTHER_SPELLINGS = {
    ".tfrecords": ".tfrecord", ".tfrec": ".tfrecord", ".tfr": ".tfrecord", ".tfrecords.gz": ".tfrecord.gz",
    ".tfrecord.gzip": ".tfrecord.gz", ".tfrecord.zlib": ".tfrecord.deflate", ".tfrecord.zz": ".tfrecord.deflate",
    ".parq": ".parquet", ".pq": ".parquet",
}  # fmt: skip
_COMPRESSED = (".gz", ".bz2", ".zst", ".xz", ".lz4", ".snappy", ".deflate", ".zip", ".br", ".lzo")
_UNFINISHED = (".tmp", ".temp", ".part", ".partial", ".crdownload", ".inprogress", ".copying", "~")


_OPENED_AT_ONCE = 16
File = TypeVar("File")
Result = TypeVar("Result")


def at_once(look: Callable[[File], Result], files: Sequence[File]) -> list[Result]:
    """Return what `look` finds in each file, several at a time: on an object store most of the time is waiting."""
    if len(files) < 2:
        return [look(file) for file in files]
    with ThreadPoolExecutor(min(_OPENED_AT_ONCE, len(files))) as threads:
        return list(threads.map(look, files))


@dataclass(frozen=True)
class InputFile:
    """A file that is read. partition: the (key, value) of each folder key=value that it lies in, from the outside."""

    path: str
    size: int
    stamp: str
    partition: tuple[tuple[str, str], ...] = ()


@dataclass
class _Found:
    files: list[InputFile] = field(default_factory=list)
    unread: list[tuple[str, str]] = field(default_factory=list)  # (path, what it is and what to do)


def input_files(directory: str, suffixes: Sequence[str] = INPUT_SUFFIXES) -> list[InputFile]:
    """List the files under `directory` with one of the suffixes, also in partition folders (key=value), by path.

    Raises DataError for whatever else lies there, unless its name begins with a dot or an underscore.
    """
    found = _Found()
    _collect(directory, "", (), tuple(suffixes), found)
    if found.unread:
        raise DataError(unread_sentence(directory, found.unread, len(found.files)))
    return sorted(found.files, key=lambda file: file.path)


def flat_files(directory: str, suffixes: Sequence[str], harmless: Sequence[str] = ()) -> list[tuple[str, int, str]]:
    """List the files in `directory` with one of the suffixes as storage.list_files does, but not those in folders.

    harmless: names that may lie beside them unread. Raises DataError as input_files does, if any file is read.
    """
    entries = [e for e in storage.list_entries(directory) if not e.hidden and e.name not in harmless]
    read = [e for e in entries if e.kind == "file" and e.name.endswith(tuple(suffixes))]
    unread = [(e.name, _why(e, tuple(suffixes), partitions=False)) for e in entries if e not in read]
    if read and unread:
        raise DataError(unread_sentence(directory, unread, len(read)))
    return [(storage.join(directory, e.name), e.size, e.stamp) for e in read]


def unread_sentence(directory: str, unread: Sequence[tuple[str, str]], read: int) -> str:
    """Return one sentence for all that is not read; unread: (path within the directory, what it is and what to do)."""
    more = f"; and {len(unread) - _NAMED} more" if len(unread) > _NAMED else ""
    beside = f" beside {read} that would be" if read else ""
    return (
        f"{directory}: {len(unread)} of the names there would not be read{beside}: "
        + "; ".join(f"{name} ({why})" for name, why in unread[:_NAMED])
        + f"{more}. Names that begin with _ or . are left out on purpose: rename so, or move away, what is not data"
    )


def _collect(
    directory: str, within: str, partition: tuple[tuple[str, str], ...], suffixes: tuple[str, ...], found: _Found
) -> None:
    folder = storage.join(directory, within) if within else directory
    for entry in storage.list_entries(folder):
        path = f"{within}/{entry.name}" if within else entry.name
        key, equals, value = entry.name.partition("=")
        is_partition = entry.kind == "folder" and bool(key and equals and value)
        # As Spark does: a leading underscore hides a name, but not that of a partition folder.
        if entry.hidden and not (is_partition and entry.name[0] == "_"):
            continue
        if is_partition:
            column = (unquote(key), unquote(value))
            if len(partition) >= _DEEPEST:
                found.unread.append((path, f"more than {_DEEPEST} folders deep; is it a link to a folder above it?"))
            elif column[0] in dict(partition):
                found.unread.append((path, f"a partition folder of {column[0]} within another one of {column[0]}"))
            else:
                _collect(directory, path, (*partition, column), suffixes, found)
        elif entry.kind == "file" and entry.name.endswith(suffixes):
            found.files.append(InputFile(storage.join(folder, entry.name), entry.size, entry.stamp, partition))
        else:
            found.unread.append((path, _why(entry, suffixes, partitions=True)))


def _why(entry: storage.Entry, suffixes: tuple[str, ...], *, partitions: bool) -> str:
    """Explain why the entry is not read, and how it would be."""
    if entry.kind == "link":
        return "a link to something that is not there: bring its target here"
    if entry.kind == "special":
        return "neither a file nor a folder"
    if entry.kind == "folder":
        if not partitions:
            return "a folder: move its files up"
        return "a folder: move its files up, or, if it is one of a partitioned table, name it key=value"
    return next(_of_file(entry.name, suffixes))


def _of_file(name: str, suffixes: tuple[str, ...]) -> Iterator[str]:
    lower = name.lower()
    if lower.endswith(_UNFINISHED):
        yield "a file that its writer may not have finished: finish the copy, or remove it"
    for suffix in suffixes:
        if lower.endswith(suffix):
            yield f"suffixes are in lower case: rename to *{suffix}"
    for other, suffix in _OTHER_SPELLINGS.items():
        if suffix in suffixes and lower.endswith(other):
            yield f"rename to *{suffix}"
    for suffix in sorted(suffixes, key=len, reverse=True):
        for codec in _COMPRESSED:
            if lower.endswith(suffix + codec):
                yield f"decompress it, so that it ends in {suffix}"
    if lower.endswith(_COMPRESSED):
        yield f"decompress it, and give it the suffix of what it holds ({', '.join(suffixes)})"
    yield f"not {' or '.join('*' + s for s in suffixes)}: rename it to what it holds"
