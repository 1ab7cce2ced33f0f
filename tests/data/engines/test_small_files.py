"""Small files: packed into tasks, and the frame and the report do not depend on how."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import synthetic_input as synthetic
from hypothesis import given
from hypothesis import strategies as st
from validated_here import validate_here

from gdmix_core.data.engines.interface import Feed
from gdmix_core.data.engines.packing import OPENING_BYTES, TASK_BYTES, pack
from gdmix_core.data.ingest.source import open_layout


@given(st.lists(st.integers(0, 4 * TASK_BYTES), max_size=60), st.integers(1, 64))
def test_every_piece_is_in_one_task_and_no_task_is_large(sizes: list[int], cores: int):
    tasks = pack(sizes, cores)
    assert [number for task in tasks for number in task] == list(range(len(sizes)))
    assert all(tasks)
    for task in tasks:
        assert len(task) == 1 or sum(sizes[number] + OPENING_BYTES for number in task) <= TASK_BYTES


@given(st.integers(1, 5000), st.integers(1, 64), st.integers(0, 9000))
def test_many_small_pieces_are_few_tasks_that_keep_all_cores_busy(count: int, cores: int, size: int):
    tasks = len(pack([size] * count, cores))
    assert tasks >= min(count, cores)
    assert tasks <= max(count * 3 * OPENING_BYTES // TASK_BYTES, 8 * cores) + 1


def test_a_large_file_is_still_a_task_for_each_of_its_pieces():
    assert pack([TASK_BYTES] * 5, 2) == [[0], [1], [2], [3], [4]]


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("text", [False, True])
def test_the_order_in_which_records_arrive_changes_no_byte(tmp_path: Path, text: bool):
    """With records of the same uid in several files, without uid, and that break rules: which ones are named, too."""
    rows = synthetic.make_rows(90)
    rows["uid"][[3, 40, 80]] = rows["uid"][3]
    rows["uid"][[7, 50]] = rows["uid"][7]
    rows["offset"][[10, 60]] = np.inf
    if text:
        rows = synthetic.as_text(rows, "uid")
    source = synthetic.write_directory(tmp_path / "input", rows, files=30)
    nameless = {name: column for name, column in rows.items() if name != "uid"}
    for number in (3, 4):
        some: dict[str, Any] = {name: column[:2] for name, column in nameless.items() if name in ("response", "weight")}
        synthetic.write_file(source / "trainingData" / f"nameless-{number}.tfrecord", some)
    found = []
    for number, order in enumerate((None, 1, 2)):
        config = synthetic.make_config(
            source,
            tmp_path / f"run{number}",
            frame={"rows_per_block": 25},
            checks={"on_error": "drop", "max_dropped": 1.0},
        )
        run = validate_here(config, order=order)
        found.append(content(Path(run.frame())) | content(Path(run.path("validate"))))
    assert found[0] == found[1] == found[2]
    assert len(found[0]) > 5


def test_small_row_groups_are_read_together(tmp_path: Path):
    source = synthetic.write_directory(tmp_path / "input", synthetic.make_rows(950), suffix=".parquet")  # groups of 100
    pieces = open_layout(synthetic.make_config(source, tmp_path / "run")).pieces
    assert [(piece.start, piece.stop) for piece in pieces] == [(0, 10)]


@given(st.lists(st.integers(0, 2000), max_size=20))
def test_small_batches_go_together_and_large_ones_as_they_are(rows: list[int]):
    numbers = pa.array(range(sum(rows)))
    starts = np.cumsum([0, *rows])
    batches = [pa.record_batch([numbers[a:b]], ["n"]) for a, b in pairwise(starts.tolist())]
    feed = Feed(
        batches[0].schema if batches else pa.schema([]),
        rows,
        lambda number: [batches[number]],
    )
    found = list(feed.rows(range(len(rows))))
    assert [n for batch in found for n in batch["n"].to_pylist()] == numbers.to_pylist()
    assert all(batch.num_rows >= 1024 for batch in found[:-1])
    assert len(found) <= 1 + sum(rows) // 1024
