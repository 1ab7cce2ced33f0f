"""Bytes out of files: local paths and fsspec URLs, plain or compressed by the suffix of their name."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, Protocol

import fsspec

from gdmix_core.errors import DataError

Compression = Literal["gzip", "zlib"]
# zlib's window-bits argument: 15 is the largest window, 16 more asks for gzip's header and trailer
WINDOW_BITS: dict[Compression, int] = {"gzip": 15 + 16, "zlib": 15}
_COMPRESSED_BLOCK = 256 << 10


class ByteSource(Protocol):
    """The methods that a reader needs of an open file."""

    def readinto(self, view: memoryview, /) -> int | None:
        """Fill the start of `view`; the number of bytes written, 0 only at the end (or for an empty view)."""

    def close(self) -> None: ...


class _RawFile(ByteSource, Protocol):
    def read(self, size: int, /) -> bytes | None: ...
    def seek(self, position: int, /) -> int: ...


def compression_of(path: str) -> Compression | None:
    """gzip for `.gz`, zlib for `.deflate` (as TensorFlow and GDMix name them), None for any other suffix."""
    if path.endswith(".gz"):
        return "gzip"
    return "zlib" if path.endswith(".deflate") else None


def is_url(path: str) -> bool:
    """True for s3://…, file://…, memory://…: what fsspec opens."""
    return "://" in path


def stored_bytes(path: str) -> int:
    """Size of the file as it is stored, compressed or not. Raises DataError if it cannot be read."""
    with _readable(path):
        if is_url(path):
            filesystem, name = fsspec.core.url_to_fs(path)
            return int(filesystem.size(name))
        return os.stat(path).st_size


def open_source(path: str, *, start: int = 0) -> ByteSource:
    """Return the content of a file from byte `start`, decompressed by suffix (then from its beginning only).

    Raises DataError if the file cannot be opened. Reading corrupt compressed data raises zlib.error, reading
    compressed data that stops early EOFError: the caller knows what it was reading and can say where.
    """
    compression = compression_of(path)
    if compression and start:
        raise DataError(f"{path}: a compressed file has no byte ranges; read it from byte 0, not from {start}")
    with _readable(path):
        # a local file is not buffered: it is read straight into the caller's memory
        raw: _RawFile = fsspec.open(path, "rb").open() if is_url(path) else open(path, "rb", buffering=0)  # noqa: SIM115
    if compression:
        return _DecompressedSource(raw, compression)
    if start:
        raw.seek(start)
    return raw


@contextmanager
def _readable(path: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file") from error
    except IsADirectoryError as error:
        raise DataError(f"{path}: this is a directory; name the files in it") from error
    except PermissionError as error:
        raise DataError(f"{path}: reading it is not permitted") from error


class _DecompressedSource:
    """Inflates a gzip stream (of one or more members) or a zlib stream while it is read."""

    def __init__(self, raw: _RawFile, compression: Compression) -> None:
        self._raw = raw
        self._compression = compression
        self._inflater = zlib.decompressobj(WINDOW_BITS[compression])
        self._pending = b""  # read from the file, not inflated yet
        self._any_bytes = False
        self._finished = False

    def readinto(self, view: memoryview, /) -> int:
        while len(view) and not self._finished:
            if not self._pending:
                self._pending = self._raw.read(_COMPRESSED_BLOCK) or b""
            file_ended = not self._pending
            if self._inflater.eof:
                self._after_member(file_ended)
                continue
            self._any_bytes = self._any_bytes or not file_ended
            # at the end of the file the inflater may still hold output
            inflated = self._inflater.decompress(self._pending, len(view))
            self._pending = self._inflater.unused_data if self._inflater.eof else self._inflater.unconsumed_tail
            if inflated:
                view[: len(inflated)] = inflated
                return len(inflated)
            if file_ended and not self._inflater.eof:
                if self._any_bytes:
                    raise EOFError(f"the {self._compression} data stops before its end marker")
                self._finished = True  # a file of zero bytes holds nothing, compressed or not
        return 0

    def _after_member(self, file_ended: bool) -> None:
        if file_ended:
            self._finished = True
        elif self._compression == "zlib":
            raise zlib.error("bytes follow the end of the zlib stream")
        else:
            # gzip allows zeros as padding between members and after the last
            self._pending = self._pending.lstrip(b"\0")
            if self._pending:
                self._inflater = zlib.decompressobj(WINDOW_BITS[self._compression])

    def close(self) -> None:
        self._raw.close()
