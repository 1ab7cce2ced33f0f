"""Damaged TFRecord files: all damage is found, placed and explained, and none of it reads outside the data."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from example_oracle import octets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tfrecord_oracle import DATA, RECORDS, SUFFIXES, file_of, framed, masked, payloads_of, stored

from gdmix_core.data.tfrecord import frames
from gdmix_core.data.tfrecord.files import Chunk, iter_chunks, split_points
from gdmix_core.errors import DataError

in_any_order = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
payload_lists = st.lists(st.binary(max_size=70), max_size=20)


def read_until_error(path: Path, **options: int) -> tuple[list[bytes], str]:
    chunks: list[Chunk] = []
    with pytest.raises(DataError) as error:
        chunks.extend(iter_chunks(str(path), **options))  # keeps what comes before the error
    return payloads_of(chunks), str(error.value)


@pytest.mark.parametrize(
    ("at", "record", "offset", "what"),
    [
        (0, 0, 0, "CRC of the record's length does not fit"),
        (22, 1, 21, "CRC of the record's length does not fit"),
        (29, 1, 21, "CRC of the record's length does not fit"),
        (34, 1, 21, "CRC of the record's payload of 14 bytes does not fit"),
        (len(DATA) - 1, 2, 51, "CRC of the record's payload of 5 bytes does not fit"),
    ],
)
def test_damage_is_found_and_placed(tmp_path: Path, at: int, record: int, offset: int, what: str) -> None:
    data = bytearray(DATA)
    data[at] ^= 0x10
    for suffix in SUFFIXES:
        path = tmp_path / f"bad{suffix}"
        path.write_bytes(stored(bytes(data), suffix))
        before, message = read_until_error(path)
        stream = " of the decompressed stream" if suffix else ""
        assert message.startswith(f"{path}: record {record}, byte offset {offset}{stream}: the {what}")
        assert before == RECORDS[:record]


def test_damage_in_a_range_is_placed_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "bad"
    path.write_bytes(DATA[:-1] + b"?")
    _, message = read_until_error(path, start=21, chunk_bytes=16)
    assert f"{path}: record 2, byte offset 51:" in message
    _, message = read_until_error(path, start=22)
    assert "record 1, byte offset 22:" in message
    assert "must begin where a record does" in message
    _, message = read_until_error(path, stop=20)
    assert "the byte range from 0 to 20 ends after 20 of the record's 21 bytes" in message


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_truncation_is_found(tmp_path: Path, suffix: str) -> None:
    boundaries = [0, 21, 51, 72]
    for size in range(len(DATA)):
        path = tmp_path / f"short{suffix}"
        path.write_bytes(stored(DATA[:size], suffix))
        whole = sum(b <= size for b in boundaries) - 1
        if size in boundaries:
            assert payloads_of(iter_chunks(str(path))) == RECORDS[:whole]
        else:
            before, message = read_until_error(path)
            assert before == RECORDS[:whole]
            assert f"record {whole}, byte offset {boundaries[whole]}" in message
            assert f"file ends after {size - boundaries[whole]} of" in message


@in_any_order
@given(st.integers(0, len(DATA) - 1), st.integers(1, 255), st.integers(1, 100))
def test_fuzz_no_changed_byte_goes_unseen(tmp_path: Path, at: int, change: int, chunk_bytes: int) -> None:
    path = tmp_path / "bad"
    path.write_bytes(DATA[:at] + bytes([DATA[at] ^ change]) + DATA[at + 1 :])
    before, message = read_until_error(path, chunk_bytes=chunk_bytes)
    assert before == RECORDS[: len(before)]
    assert f"record {len(before)}, byte offset" in message


@in_any_order
@given(st.sampled_from([".gz", ".deflate"]), st.data())
def test_fuzz_damaged_compressed_data(tmp_path: Path, suffix: str, draw: st.DataObject) -> None:
    path = tmp_path / f"bad{suffix}"
    data = bytearray(stored(DATA, suffix))
    at = draw.draw(st.integers(0, len(data) - 1))
    data[at] ^= draw.draw(st.integers(1, 255))
    path.write_bytes(data if draw.draw(st.booleans()) else data[:at])
    seen: list[Chunk] = []
    try:
        seen.extend(iter_chunks(str(path)))
    except DataError as error:
        assert "of the decompressed stream" in str(error)  # noqa: PT017
    else:
        # the time stamp in gzip's header may change; a file of no bytes is an empty one
        assert payloads_of(seen) == (RECORDS if at else [])


@settings(deadline=None)
@given(st.binary(max_size=80) | payload_lists.map(file_of), st.booleans(), st.integers(1, 40), st.data())
def test_fuzz_positions_stay_within_the_data(data: bytes, verify: bool, target: int, draw: st.DataObject) -> None:
    mutant = bytearray(data)
    for at in draw.draw(st.lists(st.integers(0, max(len(data) - 1, 0)), max_size=3 if data else 0)):
        mutant[at] = draw.draw(st.sampled_from([0, 1, 16, 0x7F, 0xFF]))
    room = len(mutant) // 16
    starts, lengths = np.empty(room, np.int64), np.empty(room, np.int64)
    array = octets(bytes(mutant))
    count, end, _ = frames.find_records(array, len(array), verify, starts, lengths)
    assert 0 <= end <= len(array)
    assert np.all(starts[:count] == np.cumsum([12, *(lengths[: count - 1] + 16)])[:count])
    assert end == (starts[count - 1] + lengths[count - 1] + 4 if count else 0)
    cuts = np.empty(len(array) // target + 1, np.int64)
    cut_count, _, end = frames.walk_records(array, target, cuts)
    assert 0 <= end <= len(array)
    assert np.all(np.diff(cuts[:cut_count]) >= target)


def test_verify_off_reads_past_wrong_checksums(tmp_path: Path) -> None:
    path = tmp_path / "part"
    path.write_bytes(DATA[:8] + b"????" + DATA[12:].replace(b"longer", b"Longer"))
    assert payloads_of(iter_chunks(str(path), verify=False)) == [b"first", b"second, Longer", b"third"]


@pytest.mark.parametrize("length", [1 << 31, 1 << 62, (1 << 64) - 1])
def test_an_absurd_length_takes_no_memory(tmp_path: Path, length: int) -> None:
    header = struct.pack("<Q", length)
    for suffix in SUFFIXES:
        path = tmp_path / f"part{suffix}"
        path.write_bytes(stored(framed(b"a") + header + masked(header) + b"short", suffix))
        before, message = read_until_error(path)
        assert before == [b"a"]
        assert f"record 1, byte offset 17{' of' if suffix else ':'}" in message
        assert f"the record's length is {length}, and no Example is over" in message
    with pytest.raises(DataError, match=f"record 1, byte offset 17: the record's length is {length}"):
        split_points(str(tmp_path / "part"), 1)


def test_a_long_record_that_is_not_there_takes_no_memory(tmp_path: Path) -> None:
    header = struct.pack("<Q", 1 << 30)
    path = tmp_path / "part"
    path.write_bytes(header + masked(header) + b"short")
    tracemalloc.start()
    _, message = read_until_error(path, chunk_bytes=16)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    assert "file ends after 17 of the record's 1073741840 bytes" in message
    with pytest.raises(DataError, match="file ends after 17 of the record's 1073741840 bytes"):
        split_points(str(path), 1)


@pytest.mark.parametrize(
    ("name", "content", "hint"),
    [
        ("a.tfrecord", gzip.compress(DATA, mtime=0), "give the file the suffix .gz"),
        ("a.tfrecord", zlib.compress(DATA), "give the file the suffix .deflate"),
        ("a.tfrecord", b"PAR1" + bytes(40), "like a Parquet file"),
        ("a.tfrecord", b"uid,response\n1,0\n" * 9, "no TFRecord file at all"),
        ("a.tfrecord.gz", DATA, "compressed data is corrupt or cut off"),
        ("a.tfrecord.deflate", zlib.compress(DATA) + b"more", "bytes follow the end"),
    ],
    ids=["gzip", "deflate", "Parquet", "CSV", "not compressed", "more bytes"],
)
def test_what_is_no_tfrecord_file_is_named(tmp_path: Path, name: str, content: bytes, hint: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert hint in read_until_error(path)[1]


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    for read in (lambda path: list(iter_chunks(path)), lambda path: split_points(path, 10)):
        for missing in (str(tmp_path / "none"), "memory://nowhere/none"):
            with pytest.raises(DataError, match="none: there is no such file"):
                read(missing)
    with pytest.raises(DataError, match="this is a directory"):
        list(iter_chunks(str(tmp_path)))
