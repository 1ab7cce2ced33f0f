"""TFRecord files read and split, against an independent implementation."""

from __future__ import annotations

import gzip
from pathlib import Path

import fsspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tfrecord_oracle import DATA, RECORDS, SUFFIXES, file_of, payloads_of, stored

from gdmix_core.data.tfrecord.files import iter_chunks, records_before, split_points
from gdmix_core.errors import DataError

in_any_order = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
payload_lists = st.lists(st.binary(max_size=70), max_size=20)


@in_any_order
@given(payload_lists, st.sampled_from(SUFFIXES), st.integers(1, 400), st.booleans())
def test_reads_what_the_format_says(
    tmp_path: Path, payloads: list[bytes], suffix: str, chunk_bytes: int, verify: bool
) -> None:
    path = tmp_path / f"part.tfrecord{suffix}"
    path.write_bytes(stored(file_of(payloads), suffix))
    chunks = list(iter_chunks(str(path), chunk_bytes=chunk_bytes, verify=verify))
    assert payloads_of(chunks) == payloads
    largest = max((len(p) + 16 for p in payloads), default=0)
    done = 0
    for chunk in chunks:
        assert chunk.path == str(path)
        assert chunk.first_record == done
        assert chunk.data.dtype == np.uint8
        assert chunk.starts.dtype == chunk.lengths.dtype == np.int64
        assert 0 < len(chunk.data) <= max(chunk_bytes, 16, largest)
        done += len(chunk)


def test_records_much_larger_than_a_chunk(tmp_path: Path) -> None:
    payloads = [b"a" * 100_000, b"b", b"c" * 30_000, b"d" * 29_000, b"e"]
    for suffix in SUFFIXES:
        path = tmp_path / f"large{suffix}"
        path.write_bytes(stored(file_of(payloads), suffix))
        assert payloads_of(iter_chunks(str(path), chunk_bytes=1000)) == payloads


def test_gzip_of_several_members_with_padding(tmp_path: Path) -> None:
    payloads = [b"one" * 1000, b"two", b"three" * 500]
    parts = [gzip.compress(part) for part in (file_of(payloads[:1]), b"", file_of(payloads[1:]))]
    for padding in (b"", bytes(700_000)):
        path = tmp_path / "members.gz"
        path.write_bytes(padding.join(parts) + padding)
        assert payloads_of(iter_chunks(str(path), chunk_bytes=1000)) == payloads


def test_much_compressed_data_in_small_pieces(tmp_path: Path) -> None:
    # one block of compressed input holds many chunks; then many blocks hold one chunk
    alike, random = [bytes(1000)] * 5000, [np.random.default_rng(1).bytes(1_000_000)] * 3
    for payloads in (alike, random):
        for suffix in SUFFIXES:
            path = tmp_path / f"data{suffix}"
            path.write_bytes(stored(file_of(payloads), suffix))
            assert payloads_of(iter_chunks(str(path), chunk_bytes=1 << 22)) == payloads
            assert payloads_of(iter_chunks(str(path), chunk_bytes=3000)) == payloads


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_empty_files_hold_no_records(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"empty{suffix}"
    for content in (b"", stored(b"", suffix)):
        path.write_bytes(content)
        assert list(iter_chunks(str(path))) == []
        assert split_points(str(path), 100) == [(0, len(content))]


@in_any_order
@given(st.lists(st.binary(max_size=70), min_size=1, max_size=20), st.integers(1, 300))
def test_ranges_meet_at_records(tmp_path: Path, payloads: list[bytes], target: int) -> None:
    path = tmp_path / "part.tfrecord"
    path.write_bytes(file_of(payloads))
    ranges = split_points(str(path), target)
    assert [start for start, _ in ranges] == [0, *(stop for _, stop in ranges[:-1])]
    assert ranges[-1][1] == path.stat().st_size
    largest = max(map(len, payloads)) + 16
    assert all(target <= stop - start < target + largest for start, stop in ranges[:-1])
    parts = [list(iter_chunks(str(path), start=a, stop=b, chunk_bytes=50)) for a, b in ranges]
    assert [payload for part in parts for payload in payloads_of(part)] == payloads
    counts = [sum(map(len, part)) for part in parts]
    assert [records_before(str(path), start) for start, _ in ranges[1:]] == np.cumsum(counts)[:-1].tolist()
    places = [chunk.where(i) for part in parts for chunk in part for i in range(len(chunk))]
    offsets = np.cumsum([0, *(len(p) + 16 for p in payloads)])
    assert places == [f"{path}: record {i}, byte offset {offsets[i]}" for i in range(len(payloads))]


@pytest.mark.parametrize("suffix", [".gz", ".deflate"])
def test_a_compressed_file_is_one_range(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"part{suffix}"
    path.write_bytes(stored(file_of([b"x" * 100] * 100), suffix))
    (whole,) = split_points(str(path), 10)
    assert whole == (0, path.stat().st_size)
    assert len(payloads_of(iter_chunks(str(path), start=0, stop=whole[1]))) == 100
    for start, stop in ((0, 10), (10, whole[1])):
        with pytest.raises(DataError, match="no byte ranges"):
            list(iter_chunks(str(path), start=start, stop=stop))


def test_a_range_that_the_file_does_not_have(tmp_path: Path) -> None:
    path = tmp_path / "part"
    path.write_bytes(file_of([b"x"]))
    for start, stop in ((0, 18), (18, None), (-1, 5), (5, 4)):
        with pytest.raises(DataError, match=f"range from {start} to {stop} is not within the file's 17 bytes"):
            list(iter_chunks(str(path), start=start, stop=stop))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_urls(suffix: str) -> None:
    url = f"memory://urls{suffix}/part{suffix}"
    filesystem, name = fsspec.core.url_to_fs(url)
    filesystem.pipe_file(name, stored(DATA, suffix))
    assert payloads_of(iter_chunks(url, chunk_bytes=20)) == RECORDS
    assert split_points(url, 1) == [(0, filesystem.size(name))]


def test_a_range_of_a_url() -> None:
    url = "memory://ranges/part"
    fsspec.filesystem("memory").pipe_file("/ranges/part", DATA)
    assert payloads_of(iter_chunks(url, start=51)) == RECORDS[2:]
    assert payloads_of(iter_chunks(url, stop=51)) == RECORDS[:2]
    fsspec.filesystem("memory").pipe_file("/ranges/part", DATA[:-4] + b"????")
    with pytest.raises(DataError, match="part: record 1 of those from byte 21 on, byte offset 51:"):
        list(iter_chunks(url, start=21))
