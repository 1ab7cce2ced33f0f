"""TFRecord files: read in chunks of whole records, and split into byte ranges."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gdmix_core.data.byte_streams import ByteSource, compression_of, is_url, open_source, stored_bytes
from gdmix_core.data.tfrecord import frames
from gdmix_core.errors import DataError

# How files begin that are often taken for plain TFRecord files, and what to do about them
_BEGINNINGS = {
    b"\x1f\x8b": "It begins like gzip data: give the file the suffix .gz.",
    b"\x78\x01": "It begins like zlib data: give the file the suffix .deflate.",
    b"\x78\x9c": "It begins like zlib data: give the file the suffix .deflate.",
    b"\x78\xda": "It begins like zlib data: give the file the suffix .deflate.",
    b"PAR1": "It begins like a Parquet file: give it the suffix .parquet.",
    b"Obj\x01": "It begins like an Avro file, which is not a format of the input.",
}
_REWRITE = "The file is damaged: copy or write it again."


@dataclass(frozen=True)
class Chunk:
    """Whole records of one file, in its order.

    data:         uint8 [bytes], the records with their frames
    starts:       int64 [n], where in data each record's payload begins
    lengths:      int64 [n], payload bytes
    first_record: number of the first record, counted from the beginning of the byte range that was read
    first_byte:   position of data[0] in the (decompressed) file
    range_start:  where the byte range that was read begins
    """

    path: str
    data: NDArray[np.uint8]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    first_record: int
    first_byte: int = 0
    range_start: int = 0

    def __len__(self) -> int:
        return len(self.starts)

    def where(self, record: int) -> str:
        """File, record number and byte offset of the chunk's record (0 to n - 1), for messages."""
        offset = self.first_byte + int(self.starts[record]) - frames.HEADER_BYTES
        return _place(self.path, self.range_start, self.first_record + record, offset)


def iter_chunks(
    path: str, *, chunk_bytes: int = 8 << 20, verify: bool = True, start: int = 0, stop: int | None = None
) -> Iterator[Chunk]:
    """Read a TFRecord file (plain, .gz or .deflate) as chunks of about chunk_bytes, each in new memory.

    verify: compare the CRCs of lengths and payloads. start, stop: byte range on record boundaries, as
    split_points gives them; a compressed file has only the range from 0 to its stored size (or None). A
    record larger than chunk_bytes makes a larger chunk.

    Raises DataError if the file cannot be opened, and for a wrong CRC, a length over 2 GiB, an end within a
    record and corrupt compressed data; the whole records before the damage come first.
    """
    limit = _range_bytes(path, start, stop)
    source = open_source(path, start=start)
    try:
        yield from _chunks(path, source, max(chunk_bytes, frames.FRAME_BYTES), verify, start, limit)
    finally:
        source.close()


def _range_bytes(path: str, start: int, stop: int | None) -> int | None:
    """Return the length of the byte range, None for all of the file. DataError if the file has no such range."""
    if start == 0 and stop is None:
        return None
    size = stored_bytes(path)
    if not 0 <= start <= (size if stop is None else stop) <= size:
        raise DataError(
            f"{path}: the byte range from {start} to {stop} is not within the file's {size} bytes. "
            "If the file has changed since it was split, split it again."
        )
    if compression_of(path):
        if (start, stop) == (0, size):
            return None
        raise DataError(f"{path}: a compressed file has no byte ranges; read all of it, not {start} to {stop}.")
    return (size if stop is None else stop) - start


def _chunks(
    path: str, source: ByteSource, chunk_bytes: int, verify: bool, start: int, limit: int | None
) -> Iterator[Chunk]:
    """Yield the chunks of `limit` bytes (None: all) of a source that is at byte `start` of the file."""
    buffer = np.empty(chunk_bytes, np.uint8)
    kept = 0  # bytes at the buffer's beginning that the previous round left over
    position = start  # of buffer[0] in the file
    record = 0
    while True:
        upto = len(buffer) if limit is None else min(len(buffer), start + limit - position)
        filled, failure = _fill(source, buffer, kept, upto)
        starts = np.empty(filled // frames.FRAME_BYTES, np.int64)
        lengths = np.empty_like(starts)
        count, consumed, problem = frames.find_records(buffer, filled, verify, starts, lengths)
        if count:
            # copies, as most of the two arrays was never used
            found = starts[:count].copy(), lengths[:count].copy()
            yield Chunk(path, buffer[:consumed], *found, record, position, start)
        record += count
        rest = buffer[consumed:filled]
        ended = filled < len(buffer)
        if problem or (ended and (failure or len(rest))):
            place = _place(path, start, record, position + consumed)
            raise DataError(f"{place}: {_damage(rest, problem, failure, position + consumed, start, limit)}")
        if ended:
            return
        # A record larger than the buffer: grow as its bytes arrive, whatever length it claims
        needed = min(2 * len(buffer), _record_bytes(rest)) if count == 0 else 0
        buffer = np.empty(max(chunk_bytes, needed), np.uint8)
        kept = len(rest)
        buffer[:kept] = rest
        position += consumed


def _fill(source: ByteSource, buffer: NDArray[np.uint8], kept: int, upto: int) -> tuple[int, str]:
    """Read into buffer[kept:upto]. Returns the position reached, and why reading failed, if it did."""
    view = buffer.data
    filled = kept
    while filled < upto:
        try:
            received = source.readinto(view[filled:upto])
        except (zlib.error, EOFError) as error:
            return filled, str(error)
        if not received:
            break
        filled += received
    return filled, ""


def _record_bytes(frame: NDArray[np.uint8]) -> int:
    """Return the bytes that the record at the beginning of `frame` takes, by its header."""
    return int.from_bytes(frame[:8].tobytes(), "little") + frames.FRAME_BYTES


def _damage(rest: NDArray[np.uint8], problem: int, failure: str, offset: int, start: int, limit: int | None) -> str:
    """Describe what is wrong with the record at the beginning of `rest`, and what to do."""
    length = int.from_bytes(rest[:8].tobytes(), "little")
    if problem == frames.BAD_PAYLOAD_CRC:
        return f"the CRC of the record's payload of {length} bytes does not fit the payload. {_REWRITE}"
    remedy = _REWRITE
    if offset == 0:
        hints = (hint for magic, hint in _BEGINNINGS.items() if rest[:4].tobytes().startswith(magic))
        remedy = next(hints, f"{_REWRITE} Or it is no TFRecord file at all.")
    elif offset == start:
        remedy = f"The byte range must begin where a record does: take it from split_points. {_REWRITE}"
    if problem == frames.BAD_LENGTH_CRC:
        return f"the CRC of the record's length does not fit the length {length}. {remedy}"
    if problem == frames.ABSURD_LENGTH:
        return f"the record's length is {length}, and no Example is over {frames.MAX_RECORD_BYTES}. {remedy}"
    if failure:
        return f"the compressed data is corrupt or cut off ({failure}). {_REWRITE}"
    end = "file" if limit is None else f"byte range from {start} to {start + limit}"
    if len(rest) < frames.HEADER_BYTES:
        return f"the {end} ends after {len(rest)} of the header's {frames.HEADER_BYTES} bytes. {remedy}"
    needed = length + frames.FRAME_BYTES
    return f"the {end} ends after {len(rest)} of the record's {needed} bytes. {remedy}"


def _place(path: str, range_start: int, record: int, offset: int) -> str:
    """File, record number and byte offset in words; `record` counts from range_start, the text from 0."""
    stream = " of the decompressed stream" if compression_of(path) else ""
    if range_start:
        if is_url(path):
            return f"{path}: record {record} of those from byte {range_start} on, byte offset {offset}"
        record += records_before(path, range_start)
    return f"{path}: record {record}, byte offset {offset}{stream}"


def records_before(path: str, position: int) -> int:
    """Count the records of a plain local file that begin before byte `position`.

    The function walks there: it is for messages, not for loops.
    """
    return int(frames.walk_records(_mapped(path)[:position], position, np.empty(2, np.int64))[1])


def split_points(path: str, target_bytes: int) -> list[tuple[int, int]]:
    """Byte ranges [start, stop) of at least target_bytes (the last: of any size), all on record boundaries.

    Only lengths are read, from header to header; CRCs are for iter_chunks. A compressed file or a URL is one
    range. Raises DataError if the file cannot be read or its lengths do not lead to its end.
    """
    size = stored_bytes(path)
    if compression_of(path) or is_url(path) or size <= target_bytes:
        return [(0, size)]
    octets = _mapped(path)
    cuts = np.empty(size // max(target_bytes, 1) + 1, np.int64)
    cut_count, record, end = frames.walk_records(octets, max(target_bytes, 1), cuts)
    if end < size:
        absurd = size - end >= frames.HEADER_BYTES and _record_bytes(octets[end:]) > frames.MAX_RECORD_BYTES
        problem = frames.ABSURD_LENGTH if absurd else frames.NO_PROBLEM
        raise DataError(f"{_place(path, 0, record, end)}: {_damage(octets[end:], problem, '', end, 0, None)}")
    return list(pairwise([0, *cuts[:cut_count].tolist(), size]))


def _mapped(path: str) -> NDArray[np.uint8]:
    return np.asarray(np.memmap(path, np.uint8, mode="r"))
