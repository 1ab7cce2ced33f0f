"""TFRecord files by struct, gzip, zlib and the crc32c package: the oracle for ours."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterable

import crc32c as crc_oracle

from gdmix_core.data.tfrecord.files import Chunk


def masked(data: bytes) -> bytes:
    crc = crc_oracle.crc32c(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) % (1 << 32))


def framed(payload: bytes) -> bytes:
    length = struct.pack("<Q", len(payload))
    return length + masked(length) + payload + masked(payload)


def file_of(payloads: list[bytes]) -> bytes:
    return b"".join(map(framed, payloads))


def payloads_of(chunks: Iterable[Chunk]) -> list[bytes]:
    return [
        chunk.data[start : start + length].tobytes()
        for chunk in chunks
        for start, length in zip(chunk.starts, chunk.lengths, strict=True)
    ]


def stored(data: bytes, suffix: str) -> bytes:
    return {"": bytes, ".gz": gzip.compress, ".deflate": zlib.compress}[suffix](data)


SUFFIXES = ["", ".gz", ".deflate"]

# three records, at the bytes 0, 21 and 51 of 72
RECORDS = [b"first", b"second, longer", b"third"]
DATA = file_of(RECORDS)
