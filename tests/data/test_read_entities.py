"""A shard is read in tables of whole entities, whatever the target, the batches and the row groups."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdmix_core.config.pipeline import Config
from gdmix_core.data import shards
from gdmix_core.errors import DataError
from gdmix_core.pipeline.run import Run

CONFIG = {
    "name": "test",
    "input": "nowhere",
    "coordinates": {"per_user": {"random_effect": {"entity": "user"}}},
}


def make_run(root: str) -> Run:
    return Run(root, Config.model_validate({**CONFIG, "output": root}))


def write(run: Run, sizes: list[int], row_group: int, text: bool) -> pa.Table:
    ids = np.repeat(np.arange(len(sizes)) * 3, sizes)
    entity = pa.array([f"{i:04d}" for i in ids]) if text else pa.array(ids)
    table = pa.table({"row": pa.array(np.arange(len(ids))), "entity": entity})
    path = Path(run.shard("per_user", "training", 0))
    path.parent.mkdir(parents=True)
    pq.write_table(table, path, row_group_size=row_group)
    return table


@settings(deadline=None, max_examples=150, derandomize=True)
@given(
    sizes=st.lists(st.one_of(st.integers(1, 4), st.integers(1, 60)), min_size=1, max_size=25),
    target=st.integers(1, 80),
    batch=st.integers(1, 30),
    row_group=st.integers(1, 50),
    text=st.booleans(),
)
def test_tables_hold_whole_entities_and_together_every_row(sizes, target, batch, row_group, text):
    with TemporaryDirectory() as root, patch.object(shards, "_BATCH_ROWS", batch):
        run = make_run(root)
        written = write(run, sizes, row_group, text)
        tables = list(shards.read_entities(run, "per_user", "training", 0, target))
    assert pa.concat_tables(tables).to_pydict() == written.to_pydict()
    seen: set = set()
    for table in tables:
        entities = set(table["entity"].to_pylist())
        assert not entities & seen
        seen |= entities
        # Full as soon as the target is reached: beyond it goes only what the last batch, or the last entity, brings.
        assert table.num_rows <= target + batch + max(sizes)
        assert table["entity"].num_chunks == 1
    assert all(table.num_rows >= target for table in tables[:-1])


def test_a_shard_without_rows(tmp_path: Path):
    assert list(shards.read_entities(make_run(str(tmp_path)), "per_user", "validation", 0, 10)) == []


def test_a_damaged_shard_is_named(tmp_path: Path):
    run = make_run(str(tmp_path))
    write(run, [3, 4], 10, False)
    path = Path(run.shard("per_user", "training", 0))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"shard-00000\.parquet"):
        list(shards.read_entities(run, "per_user", "training", 0, 10))
