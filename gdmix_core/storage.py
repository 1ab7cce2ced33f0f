"""Files behind one small interface: plain local paths, or any fsspec URL (s3://, gs://, hdfs://, memory://).

A reader never sees half a file: a write goes to a temporary name and is renamed, or, on an object store, becomes
visible when the upload completes. A directory of results counts as whole once its commit marker is there.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Concatenate, Literal, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from gdmix_core.errors import DataError, GdmixError
from gdmix_core.paths import is_url, local_path
from gdmix_core.system_errors import REFUSALS, as_user_error, refused_by_driver


def join(base: str, *parts: str) -> str:
    return "/".join([base.rstrip("/") or "/", *parts]) if parts else base


def grandparent(path: str) -> str:
    """Return the directory two above, of a directory or URL."""
    if is_url(path):
        return path.rstrip("/").rsplit("/", 2)[0]
    return os.path.normpath(os.path.join(path, os.pardir, os.pardir))


P = ParamSpec("P")
T = TypeVar("T")


@contextlib.contextmanager
def _naming(path: str, *, inside: bool = False) -> Iterator[None]:
    """Turn what the system or a driver refuses in the block into one sentence with the path.

    inside: the block is a caller's, which may handle errors of formats by itself; those are let pass
    """
    try:
        yield
    except GdmixError:
        raise
    except Exception as error:
        if inside and not (isinstance(error, OSError) and error.errno in REFUSALS):
            raise
        found = as_user_error(error, path)
        if found is None and is_url(path) and not inside:
            found = refused_by_driver(error, path)
        if found is None:
            raise
        raise found from error


def _remote(path: str) -> tuple[Any, str]:
    import fsspec.core

    filesystem, key = fsspec.core.url_to_fs(path)
    # Other processes write here too: what a listing showed a while ago is not what is there.
    filesystem.invalidate_cache(key)
    return filesystem, key


def _named(function: Callable[Concatenate[str, P], T]) -> Callable[Concatenate[str, P], T]:
    """Make the refusals of a function of a path name the path."""

    @functools.wraps(function)
    def named(path: str, *arguments: P.args, **options: P.kwargs) -> T:
        with _naming(path):
            return function(path, *arguments, **options)

    return named


@_named
def exists(path: str) -> bool:
    """Return whether a file or directory is there. Raises StorageError where that cannot be known."""
    local = local_path(path)
    if local is not None:
        return _stat(local) is not None
    filesystem, key = _remote(path)
    return bool(filesystem.exists(key))


def _stat(local: str) -> os.stat_result | None:
    try:
        return os.stat(local)
    except (FileNotFoundError, NotADirectoryError):
        return None


@contextlib.contextmanager
def open_for_read(path: str) -> Iterator[IO[bytes]]:
    """A binary, seekable file. Raises DataError when it is not there, or a folder."""
    local = local_path(path)
    with _naming(path):
        try:
            if local is not None:
                if not stat.S_ISREG(os.stat(local).st_mode) and not os.path.isdir(local):
                    raise DataError(f"{path}: a pipe or a device, not a file; write its content to a file first")
                file: IO[bytes] = open(local, "rb")  # noqa: SIM115
            else:
                filesystem, key = _remote(path)
                file = filesystem.open(key, "rb")
        except FileNotFoundError:
            raise DataError(f"{path}: no such file") from None
        except IsADirectoryError:
            raise DataError(f"{path}: a folder, where a file should be named") from None
    with _naming(path, inside=True), file:
        yield file


@contextlib.contextmanager
def open_for_write(path: str) -> Iterator[IO[bytes]]:
    """A binary file that appears under its name only when the block ends without an error."""
    local = local_path(path)
    if local is None:
        # An object appears when its upload completes; a failed block must not complete it, so buffer on local disk.
        with _naming(path):
            filesystem, key = _remote(path)
        with _naming(f"{path} (buffered in {tempfile.gettempdir()})", inside=True), tempfile.TemporaryFile() as buffer:
            yield buffer
            buffer.seek(0)
            with _naming(path), filesystem.open(key, "wb") as file:
                shutil.copyfileobj(buffer, file, 1 << 20)
        return
    target = Path(local)
    with _naming(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:200]}.")
    try:
        with _naming(path, inside=True), os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            # mkstemp makes private files; results are as readable as the user's umask allows.
            os.fchmod(file.fileno(), 0o666 & ~_umask())
        with _naming(path):
            os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@dataclass(frozen=True)
class Entry:
    """An entry of a folder. link: a link to something that is not there; size, stamp: of files"""

    name: str
    kind: Literal["file", "folder", "link", "special"]
    size: int = 0
    stamp: str = ""

    @property
    def hidden(self) -> bool:
        """True of hidden files and Hadoop's markers, which begin with a dot or an underscore."""
        return self.name[:1] in {".", "_"}


@_named
def list_entries(directory: str) -> list[Entry]:
    """Return everything directly in `directory`, hidden or not, by name; [] if it is absent. Links are followed."""
    local = local_path(directory)
    if local is not None:
        if not os.path.isdir(local):
            return []
        with os.scandir(local) as entries:
            return sorted(map(_local_entry, entries), key=lambda entry: entry.name)
    filesystem, key = _remote(directory)
    if not filesystem.exists(key):
        return []
    # Object stores list the folder itself, too, where an empty object is in its place.
    listed = [info for info in filesystem.ls(key, detail=True) if info["name"].strip("/") != key.strip("/")]
    return sorted(map(_remote_entry, listed), key=lambda entry: entry.name)


def _local_entry(entry: os.DirEntry[str]) -> Entry:
    if entry.is_symlink() and not os.path.exists(entry.path):  # also where links lead to each other
        return Entry(entry.name, "link")
    if entry.is_dir():
        return Entry(entry.name, "folder")
    if entry.is_file():
        found = entry.stat()
        return Entry(entry.name, "file", found.st_size, str(found.st_mtime_ns))
    return Entry(entry.name, "special")


def _remote_entry(info: Mapping[str, Any]) -> Entry:
    name = info["name"].rstrip("/").rsplit("/", 1)[-1]
    if info["type"] != "file":
        return Entry(name, "folder")
    return Entry(name, "file", int(info["size"] or 0), _stamp(info))


def list_files(directory: str, *, hidden: bool = False) -> list[tuple[str, int, str]]:
    """Return (path, size in bytes, change stamp) of every file directly in `directory`, by name; [] if it is absent.
    Hidden files and Hadoop's markers (names with a leading . or _) are left out unless asked for.
    """
    return [
        (join(directory, entry.name), entry.size, entry.stamp)
        for entry in list_entries(directory)
        if entry.kind == "file" and (hidden or not entry.hidden)
    ]


def list_folder(directory: str) -> list[str]:
    """Return the names of the visible files and folders directly in a directory, sorted; [] if it is absent."""
    return [entry.name for entry in list_entries(directory) if not entry.hidden]


def names_in(directory: str) -> list[str]:
    """Return the names of all files and folders directly in a directory, hidden or not, sorted; [] if it is absent."""
    return [entry.name for entry in list_entries(directory)]


@_named
def change_stamp(path: str) -> tuple[int, str] | None:
    """Return (size in bytes, change stamp) of a file, None where there is none."""
    local = local_path(path)
    if local is not None:
        found = _stat(local)
        return None if found is None else (found.st_size, str(found.st_mtime_ns))
    filesystem, key = _remote(path)
    try:
        info = filesystem.info(key)
    except FileNotFoundError:
        return None
    return int(info["size"] or 0), _stamp(info)


def _stamp(info: Mapping[str, Any]) -> str:
    return str(info.get("ETag") or info.get("etag") or info.get("mtime") or info.get("LastModified"))


@_named
def paths_within(directory: str, *, hidden: bool = False) -> list[str]:
    """Return the paths of all files in a directory and in folders below, relative to it, sorted; [] if it is absent.

    Hidden files (a name with a leading dot) are left out unless asked for.
    """
    local = local_path(directory)
    if local is not None:
        walked = os.walk(local, onerror=_raise)
        found = [Path(folder, name).relative_to(local).as_posix() for folder, _, names in walked for name in names]
    else:
        filesystem, key = _remote(directory)
        found = [path.removeprefix(key.rstrip("/") + "/") for path in filesystem.find(key)]
    return sorted(path for path in found if hidden or not path.rsplit("/", 1)[-1].startswith("."))


def _raise(error: OSError) -> None:
    """Raise an error of os.walk, which else passes over folders that it cannot read."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def copy_directory(source: str, target: str) -> list[str]:
    """Copy every file of a directory and of the folders in it; return their paths within it, sorted."""
    copied = paths_within(source, hidden=True)
    for path in copied:
        copy_file(join(source, path), join(target, path))
    return copied


def copy_file(source: str, target: str) -> None:
    with open_for_read(source) as file, open_for_write(target) as copy:
        shutil.copyfileobj(file, copy, 1 << 20)


@contextlib.contextmanager
def local_copy(directory: str) -> Iterator[str]:
    """A directory's local path, or that of a copy that is removed at the end."""
    local = local_path(directory)
    if local is not None:
        yield local
        return
    with tempfile.TemporaryDirectory() as copy:
        copy_directory(directory, copy)
        yield copy


@_named
def remove(path: str) -> None:
    """Remove a file or a directory with all that is in it; nothing happens if it is absent."""
    local = local_path(path)
    if local is not None:
        if os.path.isdir(local):
            shutil.rmtree(local)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(local)
        return
    filesystem, key = _remote(path)
    if filesystem.exists(key):
        filesystem.rm(key, recursive=True)


@_named
def remove_files(directory: str, paths: Iterable[str]) -> None:
    """Remove files of a directory, and the folders in it, and itself, that are empty then. paths: relative to it."""
    local = local_path(directory)
    if local is None:
        filesystem, key = _remote(directory)
        if keys := [f"{key.rstrip('/')}/{path}" for path in paths]:
            filesystem.rm(keys)
        return
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(local, path))
    for folder, _, _ in os.walk(local, topdown=False):
        with contextlib.suppress(OSError):  # It is not empty.
            os.rmdir(folder)


def read_json(path: str) -> Any:
    with open_for_read(path) as file:
        try:
            return json.loads(file.read().decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise as_user_error(error, path) from None  # type: ignore[misc]
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: not valid JSON ({error}); it is damaged, or was edited by hand") from None


def write_json(path: str, content: Mapping[str, Any] | list[Any]) -> None:
    with open_for_write(path) as file:
        file.write(json.dumps(content, indent=2, sort_keys=True).encode() + b"\n")


def read_array(path: str, *, memory_map: bool = False) -> NDArray[Any]:
    """Read a .npy file; memory-mapped (read-only) when asked for and the file is local."""
    local = local_path(path)
    if local is not None and memory_map:
        if not os.path.exists(local):
            raise DataError(f"{path}: no such file")
        content: Any = local
    else:
        with open_for_read(path) as file:
            content = io.BytesIO(file.read())
    try:
        return np.load(content, mmap_mode="r" if content is local else None)
    except (ValueError, EOFError) as error:
        raise DataError(f"{path}: not a readable array ({error}); remove it and run the pipeline again") from None


def write_array(path: str, array: NDArray[Any]) -> None:
    with open_for_write(path) as file:
        np.save(file, array)
