"""The download of a MovieLens archive from GroupLens, which trusts neither the network nor the archive."""

from __future__ import annotations

import http.client
import logging
import os
import stat
import tempfile
import time
import urllib.parse
import urllib.request
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from gdmix_core.errors import DataError

logger = logging.getLogger(__name__)

LATEST_SMALL = "https://files.grouplens.org/datasets/movielens/ml-latest-small.zip"

_BLOCK_BYTES = 1 << 16
# What zipfile raises for a damaged archive, an encrypted one (RuntimeError) and an unknown compression
_DAMAGES = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError)
_INSTEAD = "Without access to the network, unpack an archive yourself and give its folder"


def download_movielens(
    folder: str | Path,
    *,
    url: str = LATEST_SMALL,
    timeout: float = 30.0,
    deadline: float = 600.0,
    max_bytes: int = 64 << 20,
    max_unpacked_bytes: int = 512 << 20,
) -> Path:
    """Download a zip archive and unpack it in `folder`; return the folder of the files, named after the archive.

    A folder that an earlier call unpacked is used again. GroupLens allows use of its data for research, not
    commercially; the README in the archive has the terms.

    timeout: seconds without an answer from the server; deadline: seconds for the whole download
    max_bytes, max_unpacked_bytes: limits of the archive and of what it unpacks to

    Raises DataError when the server cannot be reached or answers something else, the archive is larger than
    allowed or damaged (every member's CRC is checked), or a member would be written outside of the folder.
    """
    name = PurePosixPath(urllib.parse.urlsplit(url).path).stem or "movielens"
    target = Path(folder) / name
    if target.is_dir():
        logger.info("%s is already there, nothing is downloaded", target)
        return target
    Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as aside:
        archive = Path(aside) / "archive.zip"
        with archive.open("wb") as file:
            _fetch(url, file, timeout, deadline, max_bytes)
        unpacked = Path(aside) / "unpacked"
        _unpack(archive, unpacked, url, max_unpacked_bytes)
        # GroupLens's archives hold one folder; what is inside becomes ours, under the archive's name.
        entries = list(unpacked.iterdir())
        os.replace(entries[0] if len(entries) == 1 and entries[0].is_dir() else unpacked, target)
    return target


def _fetch(url: str, file: IO[bytes], timeout: float, deadline: float, max_bytes: int) -> None:
    if urllib.parse.urlsplit(url).scheme not in {"https", "http"}:
        raise DataError(f"{url}: only https and http addresses are downloaded")
    received, latest = 0, time.monotonic() + deadline
    try:
        with urllib.request.urlopen(url, timeout=timeout) as response:
            expected = response.headers.get("Content-Length")
            while block := response.read(_BLOCK_BYTES):
                received += len(block)
                if received > max_bytes:
                    raise DataError(f"{url}: larger than the allowed {max_bytes} bytes; nothing was kept")
                if time.monotonic() > latest:
                    raise DataError(f"{url}: not complete after the allowed time; {received} bytes came. {_INSTEAD}")
                file.write(block)
    except (OSError, http.client.HTTPException) as error:  # URLError, HTTPError and timeouts are OSErrors
        raise DataError(f"{url}: download failed ({error}). {_INSTEAD}") from None
    if expected is not None and received != int(expected):
        raise DataError(f"{url}: {received} of {expected} bytes came. Try again. {_INSTEAD}")


def _unpack(archive: Path, folder: Path, url: str, max_bytes: int) -> None:
    folder.mkdir()
    allowed = max_bytes
    try:
        with zipfile.ZipFile(archive) as content:
            for member in content.infolist():
                _check_member(member, url)
                # zipfile yields no more bytes than this, so an archive that states less gains nothing.
                allowed -= member.file_size
                if allowed < 0:
                    raise DataError(f"{url}: unpacks to more than the allowed {max_bytes} bytes; nothing was kept")
                content.extract(member, folder)
    except (*_DAMAGES, OSError) as error:
        raise DataError(f"{url}: not a usable zip archive ({error}). Try again, or give a folder") from None
    if not any(folder.iterdir()):
        raise DataError(f"{url}: the archive is empty")


def _check_member(member: zipfile.ZipInfo, url: str) -> None:
    """Raise DataError for a member whose path leaves the folder, and for links."""
    path = PurePosixPath(member.filename)
    kind = stat.S_IFMT(member.external_attr >> 16)
    if path.is_absolute() or ".." in path.parts or "\\" in member.filename or ":" in member.filename:
        raise DataError(f"{url}: member {member.filename!r} would be written outside of its folder; nothing was kept")
    if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
        raise DataError(f"{url}: member {member.filename!r} is neither a file nor a folder; nothing was kept")
