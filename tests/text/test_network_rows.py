"""Rows as a network reads them, and which of them make up a batch: against plain loops."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gdmix_core.data.frame import Frame
from gdmix_core.text.network.network import TextNetwork
from gdmix_core.text.network_rows import RowReader
from gdmix_core.text.tokens.distinct_texts import distinct_texts, encode
from gdmix_core.text.training.inputs_of_data import inputs_of_data
from gdmix_core.text.training.packed_rows import RowsInGraph, pack
from gdmix_core.text.training.row_order import OrderOfGroups, OrderOfRows, permutation
from gdmix_core.training_context import TrainingContext
from gdmix_core.workers.prefetch import prefetch
from tests.effects.worker_processes import wait_until
from tests.text.text_runs import EVERYTHING, STEP, WORDS, text_rows, text_run

pytestmark = pytest.mark.tensorflow


def letters(texts: NDArray[np.object_]) -> NDArray[np.int32]:
    """A tokenizer: the letters a … e are 1 … 5, seven at most."""
    table = np.zeros((len(texts), 7), np.int32)
    for row, text in enumerate(texts):
        table[row, : len(text)] = [ord(letter) - ord("a") + 1 for letter in text]
    return table


@given(
    chunks=st.lists(st.lists(st.one_of(st.none(), st.text("abcde", max_size=7)), max_size=6), max_size=4),
    seed=st.integers(0, 99),
)
def test_distinct_texts_give_each_row_its_own_tokens(chunks: list[list[str | None]], seed: int) -> None:
    column = pa.chunked_array([encode(pa.chunked_array([chunk], pa.string())).combine_chunks() for chunk in chunks],
                              pa.dictionary(pa.int32(), pa.string()))  # fmt: skip
    texts = distinct_texts(column, letters)
    expected = [text or "" for chunk in chunks for text in chunk]
    assert len(texts.offsets) - 1 == len(set(expected))
    rows = np.random.default_rng(seed).integers(0, len(expected), 5) if expected else np.empty(0, np.int64)
    tokens, which = texts.of_rows(rows)
    assert len(tokens) == len({expected[row] for row in rows})
    assert tokens.shape[1] >= 1
    found = ["".join(chr(ord("a") + token - 1) for token in tokens[k] if token) for k in which]
    assert found == [expected[row] for row in rows]


@given(rows=st.integers(1, 60), batch=st.integers(1, 25), workers=st.integers(1, 5), seed=st.integers(0, 9))
def test_batches_of_rows_do_not_depend_on_the_workers(rows: int, batch: int, workers: int, seed: int) -> None:
    starts = [rows * rank // workers for rank in range(workers + 1)]
    orders = [OrderOfRows(rows, *starts[rank : rank + 2], batch, seed) for rank in range(workers)]
    order = permutation(rows, seed, 2)
    assert sorted(order) == list(range(rows))
    for one in orders:
        one.begin(2)
        assert one.steps == -(-rows // batch)
    for step in range(orders[0].steps):
        expected = order[step * batch : (step + 1) * batch]
        assert orders[0].size(step) == len(expected)
        found = [starts[rank] + own for rank, one in enumerate(orders) for own in one.own(step)]
        assert sorted(found) == sorted(expected)


@given(
    codes=st.lists(st.integers(0, 6), min_size=1, max_size=50),
    batch=st.integers(1, 20),
    workers=st.integers(1, 4),
    seed=st.integers(0, 9),
)
def test_groups_stay_together_in_batches_that_do_not_depend_on_the_workers(
    codes: list[int], batch: int, workers: int, seed: int
) -> None:
    _, inverse = np.unique(codes, return_inverse=True)
    of_row = inverse.astype(np.int64)
    orders = [OrderOfGroups(of_row, rank, workers, batch, seed) for rank in range(workers)]
    alone = OrderOfGroups(of_row, 0, 1, batch, seed)
    assert sorted(np.concatenate([order.rows for order in orders])) == list(range(len(codes)))
    for order in [*orders, alone]:
        order.begin(1)
        assert order.steps == min(-(-len(codes) // batch), len(set(codes)))
    seen: list[int] = []
    for step in range(alone.steps):
        expected = alone.rows[alone.own(step)]
        assert alone.size(step) == len(expected)
        found = np.concatenate([order.rows[order.own(step)] for order in orders])
        assert sorted(found) == sorted(expected)
        groups = set(of_row[expected])
        assert sorted(expected) == sorted(np.flatnonzero(np.isin(of_row, list(groups))))
        seen += list(expected)
    assert sorted(seen) == list(range(len(codes)))


def test_what_is_read_packed_and_batched_is_what_lies_in_the_frame(tmp_path: Path) -> None:
    data = text_rows(450, 30)
    run = text_run(tmp_path, data, **EVERYTHING)
    settings = run.config.coordinates["global"].text
    inputs = inputs_of_data(run.config, Frame(run), "global")
    assert sorted(inputs.tokens) == sorted(WORDS)
    assert inputs.bags == {"context": 2, "tags": 6}
    network = TextNetwork(settings, inputs)
    reader = RowReader(TrainingContext(run, run.plan[STEP]), network)
    whole = reader.read("training", np.arange(150, 430))
    picked = np.array([279, 3, 3, 100, 0])
    numbers = 150 + picked
    batch, targets = whole.batch(picked), whole.targets(picked)
    np.testing.assert_allclose(targets["weight"], np.asarray(data.weight)[numbers], rtol=1e-6)
    np.testing.assert_allclose(targets["offset"], np.asarray(data.offset)[numbers], rtol=1e-6)
    np.testing.assert_array_equal(targets["label"], np.asarray(data.label)[numbers])
    np.testing.assert_allclose(batch["dense/context"], data.bags["context"][numbers])
    tags = np.zeros((5, 6), np.float32)
    tags[batch["entry_rows/tags"], batch["indices/tags"]] = batch["values/tags"]
    np.testing.assert_array_equal(tags, data.bags["tags"][numbers])
    for field in ("title", "user"):
        texts = [data.ids[field][number] for number in numbers]
        tokens = batch[f"tokens/{field}"][batch[f"rows/{field}"]]
        expected = network.tokenize(field, texts).numpy()
        np.testing.assert_array_equal(tokens, expected[:, : tokens.shape[1]])
        assert not expected[:, tokens.shape[1] :].any()
    # The same rows by way of a file and TensorFlow's graph give the same scores.
    pack(whole, str(tmp_path / "rows.tfrecord"))
    tensors = {name: tf.constant(values) for name, values in batch.items()}

    @tf.function
    def scores_in_graph() -> tf.Tensor:
        rows = RowsInGraph.read(str(tmp_path / "rows.tfrecord"), settings, inputs.bags, None)
        return network(rows.batch(tf.constant(picked, tf.int32)), training=False)

    np.testing.assert_allclose(scores_in_graph(), network(tensors, training=False), atol=1e-6)
    # A worker without a row of a batch has an empty one.
    nothing = whole.batch(np.empty(0, np.int64))
    assert network({name: tf.constant(v) for name, v in nothing.items()}, training=False).shape == (0,)


@given(size=st.integers(1, 90), ends=st.tuples(st.integers(0, 450), st.integers(0, 450)))
def test_a_frame_is_streamed_in_pieces(frame_of_450_rows: Frame, size: int, ends: tuple[int, int]) -> None:
    start, stop = min(ends), max(ends)
    at = start
    for first, table in frame_of_450_rows.stream("training", ["uid"], size, start, stop):
        assert first == at
        assert 0 < table.num_rows <= size
        np.testing.assert_array_equal(table["uid"], np.arange(first, first + table.num_rows))
        at += table.num_rows
    assert at == stop


@pytest.fixture(scope="module")
def frame_of_450_rows(tmp_path_factory: pytest.TempPathFactory) -> Frame:
    return Frame(text_run(tmp_path_factory.mktemp("run"), text_rows(450, 31)))


def test_work_ahead_hands_on_what_was_made_and_what_went_wrong() -> None:
    threads = threading.active_count()

    def numbers() -> Iterator[int]:
        yield from range(10)
        raise ValueError("ten")

    made = prefetch(numbers())
    assert [next(made) for _ in range(10)] == list(range(10))
    with pytest.raises(ValueError, match="ten"):
        next(made)
    endless = prefetch(itertools.count())
    assert next(endless) == 0
    endless.close()  # type: ignore[attr-defined]
    wait_until(lambda: threading.active_count() == threads)
