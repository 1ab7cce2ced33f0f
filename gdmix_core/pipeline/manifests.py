"""Manifests of the files of a result: what is read is all there and as it was written, or it is an error.
A manifest names each file by its path below the result's folder, with its size in bytes, the SHA-256 digest of its
content and, of Parquet and score vectors, the rows it holds.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any

from gdmix_core import storage
from gdmix_core.errors import DataError

Files = Mapping[str, Mapping[str, Any]]
"""path below a folder → {bytes, sha256, rows where they can be counted}"""

_THREADS = 4
# (path, size, change stamp) of files whose content was compared with its digest in this process.
_verified: dict[tuple[str, int, str], str] = {}


def describe(folder: str, paths: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return what a manifest says of the files at these paths below `folder`. Each is read once."""
    paths = sorted(paths)
    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(paths, pool.map(lambda path: _described(storage.join(folder, path)), paths), strict=True))


def _described(path: str) -> dict[str, Any]:
    with storage.open_for_read(path) as file:
        entry: dict[str, Any] = {"sha256": _digest(file), "bytes": file.seek(0, os.SEEK_END)}
        if (rows := _ROWS.get(path.rpartition(".")[2])) is not None:
            file.seek(0)
            entry["rows"] = rows(file)
        return entry


def _rows_of_parquet(file: IO[bytes]) -> int:
    import pyarrow.parquet as pq

    return int(pq.read_metadata(file).num_rows)


def _rows_of_vector(file: IO[bytes]) -> int:
    import numpy as np

    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape = read(file)[0]
    return int(shape[0]) if shape else 1


_ROWS: dict[str, Callable[[IO[bytes]], int]] = {"parquet": _rows_of_parquet, "npy": _rows_of_vector}


def first_fault(folder: str, files: Files) -> str | None:
    """Say which file is absent or has another size, None where all are there. Folders are listed, files not read."""
    there: dict[str, int] = {}
    for below in sorted({path.rpartition("/")[0] for path in files}):
        listed = storage.list_files(storage.join(folder, below) if below else folder, hidden=True)
        there |= {path: size for path, size, _ in listed}
    for path, entry in files.items():
        whole = storage.join(folder, path)
        if whole not in there:
            return f"{whole} is missing"
        if there[whole] != entry["bytes"]:
            return f"{whole} has {there[whole]} bytes, not the {entry['bytes']} that were written"
    return None


def digest(path: str) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with storage.open_for_read(path) as file:
        return _digest(file)


def _digest(file: IO[bytes]) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def verify(path: str, entry: Mapping[str, Any], advice: str) -> None:
    """Raise DataError, which ends with the advice, unless the file is there and its content has the digest.

    A file is read once in a process, unless it changes.
    """
    stamp = storage.change_stamp(path)
    if stamp is None:
        raise DataError(f"{path} is missing; {advice}")
    known = (path, *stamp)
    if _verified.get(known) == entry["sha256"]:
        return
    found = digest(path)
    if found != entry["sha256"]:
        raise DataError(f"{path} is damaged or another file: its content is not what was written; {advice}")
    _verified[known] = found


def verify_all(folder: str, files: Files, advice: str) -> None:
    """Verify every file, as `verify` does."""
    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(lambda item: verify(storage.join(folder, item[0]), item[1], advice), files.items()):
            pass


def below(files: Files, folder: str) -> dict[str, Mapping[str, Any]]:
    """Return the files of a folder of the manifest, by their paths within it."""
    start = folder.rstrip("/") + "/"
    return {path.removeprefix(start): entry for path, entry in files.items() if path.startswith(start)}
