"""The embedded engine against Python's own sort; its bound of memory, its folder, and what ends it."""

from __future__ import annotations

import _thread
import signal
import threading
import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdmix_core.data.engines import embedded
from gdmix_core.data.engines.embedded import EmbeddedEngine
from gdmix_core.data.engines.interface import Feed
from gdmix_core.data.engines.uid_ranges import UidSample, range_of, range_starts
from gdmix_core.errors import DataError, StorageError

KINDS = {"int64": pa.int64(), "uint64": pa.uint64(), "string": pa.string()}
VALUES = {
    "int64": st.integers(-(2**63), 2**63 - 1),
    "uint64": st.integers(0, 2**64 - 1),
    "string": st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
}


def engine(folder: Path, memory: int = 1 << 30, cores: int = 2) -> EmbeddedEngine:
    return EmbeddedEngine("test", cores=cores, memory=memory, spill=str(folder / "spill" / "step"))


def feed(*tables: pa.Table) -> Feed:
    """A piece for each table, in batches of seven rows."""
    return Feed(
        tables[0].schema, [table.nbytes for table in tables], lambda number: tables[number].to_batches(max_chunksize=7)
    )


def in_bytes(value: Any) -> tuple[bool, Any]:
    """Null first, then numbers by value and texts by their bytes in UTF-8."""
    return value is not None, value.encode() if isinstance(value, str) else 0 if value is None else value


@st.composite
def tables(draw: st.DrawFn) -> list[pa.Table]:
    kind = draw(st.sampled_from(sorted(KINDS)))
    number = 0
    parts = []
    for _ in range(draw(st.integers(1, 4))):
        uids = draw(st.lists(st.none() | VALUES[kind], max_size=30))
        groups = draw(st.lists(st.integers(0, 4), min_size=len(uids), max_size=len(uids)))
        parts.append(
            pa.table(
                {
                    "Group": pa.array(groups, pa.int32()),
                    "uid": pa.array(uids, KINDS[kind]),
                    "group": pa.array(range(number, number + len(uids)), pa.int64()),
                    "bag_a.b%`": pa.array([bytes([n % 256]) * (n % 5) or None for n in range(len(uids))], pa.binary()),
                    "score": pa.array([float("nan") if n % 7 == 3 else n / 3 for n in range(len(uids))], pa.float64()),
                }
            )
        )
        number += len(uids)
    return parts


@given(tables())
def test_groups_by_a_column_are_sorted_and_whole(tmp_path_factory: pytest.TempPathFactory, parts: list[pa.Table]):
    found: dict[int, list[dict[str, Any]]] = {}

    def write(number: int, batches: Iterator[pa.RecordBatch]) -> dict[str, Any]:
        found[number] = pa.Table.from_batches(list(batches), parts[0].schema).to_pylist()
        return {"number": number}

    made = engine(tmp_path_factory.getbasetemp()).by_column(feed(*parts), "Group", 5, ("uid", "group"), write)
    rows = sorted(
        (row for part in parts for row in part.to_pylist()),
        key=lambda row: (row["Group"], in_bytes(row["uid"]), row["group"]),
    )
    expected = {group: list(some) for group, some in groupby(rows, key=lambda row: row["Group"])}
    # As text, in which a NaN is what it is.
    assert {number: repr(some) for number, some in found.items()} == {
        number: repr(some) for number, some in expected.items()
    }
    assert sorted(item["number"] for item in made) == sorted(expected)


@given(tables(), st.integers(1, 5))
def test_ranges_hold_the_uids_that_belong_there(
    tmp_path_factory: pytest.TempPathFactory, parts: list[pa.Table], ranges: int
):
    found: dict[int, list[Any]] = {}
    begins: list[pa.Array] = []

    def starts(sample: UidSample) -> pa.Array:
        uids = sample.uids()
        begins.append(pa.array([], parts[0]["uid"].type) if uids is None else range_starts(uids, ranges))
        return begins[0]

    def write(number: int, batches: Iterator[pa.RecordBatch]) -> dict[str, Any]:
        found[number] = pa.Table.from_batches(list(batches), parts[0].schema)["group"].to_pylist()
        return {}

    scores = feed(parts[0].slice(0, 5))
    engine(tmp_path_factory.getbasetemp()).by_range(feed(*parts), scores, lambda number: [], starts, write)
    whole = pa.concat_tables([*parts, parts[0].slice(0, 5)]).combine_chunks()
    numbers = range_of(whole["uid"].combine_chunks() if whole.num_rows else pa.array([], whole["uid"].type), begins[0])
    for number in set(numbers.tolist()) | found.keys():
        belonging = np.asarray(whole["group"])[numbers == number]
        assert sorted(found[number]) == sorted(belonging.tolist())


def wide(rows: int, seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    blob = rng.bytes(rows * 200)
    return pa.table(
        {
            "shard": pa.array(rng.integers(0, 3, rows), pa.int32()),
            "row": pa.array(rng.permutation(rows)),
            "bag": pa.array([blob[200 * n : 200 * n + 200] for n in range(rows)], pa.binary()),
        }
    )


def test_more_than_the_memory_is_spilled_streamed_and_cleaned_up(tmp_path: Path):
    """240 MB under a bound of 200: DuckDB spills, and groups are written while their rows come in."""
    parts = [wide(100_000, seed) for seed in range(12)]
    pieces = Feed(parts[0].schema, [1 << 26] * 12, lambda number: parts[number].to_batches(max_chunksize=5000))
    spilled = []
    largest = []

    def write(number: int, batches: Iterator[pa.RecordBatch]) -> dict[str, Any]:
        rows, last = 0, -1
        for batch in batches:
            spilled.append(sum(path.stat().st_size for path in (tmp_path / "spill").rglob("*") if path.is_file()))
            positions = batch["row"].to_numpy()
            assert (np.diff(positions) >= 0).all()
            assert positions[0] >= last
            last = positions[-1]
            rows += batch.num_rows
            largest.append(batch.nbytes)
        return {"number": number, "rows": rows}

    made = engine(tmp_path, memory=200 << 20).by_column(pieces, "shard", 3, ("row",), write)
    shards = np.concatenate([part["shard"].to_numpy() for part in parts])
    assert {item["number"]: item["rows"] for item in made} == dict(enumerate(np.bincount(shards).tolist()))
    assert max(spilled) > 50 << 20
    assert max(largest) < 16 << 20
    assert not (tmp_path / "spill").exists()


def test_what_a_killed_process_left_is_removed(tmp_path: Path):
    left = tmp_path / "spill" / "step"
    left.mkdir(parents=True)
    (left / "duckdb_temp_storage.tmp").write_bytes(b"left")
    engine(tmp_path).by_column(feed(wide(10, 0)), "shard", 3, ("row",), lambda number, batches: {})
    assert not left.exists()


@pytest.mark.parametrize("streamed", [False, True])
def test_what_writing_raises_is_raised_and_nothing_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streamed: bool
):
    if streamed:
        monkeypatch.setattr(embedded, "_WRITING", 0.0)

    def write(number: int, batches: Iterator[pa.RecordBatch]) -> dict[str, Any]:
        next(batches)
        raise DataError("this shard cannot be")

    threads = threading.active_count()
    with pytest.raises(DataError, match="this shard cannot be"):
        engine(tmp_path).by_column(feed(*[wide(20_000, k) for k in range(3)]), "shard", 3, ("row",), write)
    deadline = time.monotonic() + 10
    while threading.active_count() > threads and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threading.active_count() <= threads


def test_of_several_faults_in_the_input_the_first_is_named(tmp_path: Path):
    table = wide(1000, 0)

    def read(number: int) -> Iterator[pa.RecordBatch]:
        yield from table.to_batches(max_chunksize=100)
        if number >= 3:
            time.sleep(0.2 if number == 3 else 0)
            raise DataError(f"piece {number} is damaged")

    pieces = Feed(table.schema, [1 << 26] * 8, read)
    for _ in range(3):
        with pytest.raises(DataError, match="piece 3 is damaged"):
            engine(tmp_path, cores=4).by_column(pieces, "shard", 3, ("row",), lambda number, batches: {})


def test_no_room_to_spill_is_one_sentence(tmp_path: Path):
    (tmp_path / "spill").write_text("a file where the folder is to be")
    with pytest.raises(StorageError, match=r"spill.*engine\.local\.spill"):
        engine(tmp_path, memory=40 << 20).by_column(
            feed(*[wide(100_000, k) for k in range(6)]), "shard", 3, ("row",), lambda number, batches: {}
        )


def test_an_interrupt_ends_it_soon(tmp_path: Path):
    """Ctrl-C while rows are read, which would take for ever."""
    table = wide(1000, 0)

    def read(number: int) -> Iterator[pa.RecordBatch]:
        while True:
            time.sleep(0.01)
            yield from table.to_batches()

    # A job in the background ignores it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Timer(1.0, _thread.interrupt_main).start()
    began = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            engine(tmp_path).by_column(Feed(table.schema, [1], read), "shard", 3, ("row",), lambda number, batches: {})
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - began < 30  # and not for ever
    assert not (tmp_path / "spill").exists()
