"""A bag of the frame, read between any rows by any number of threads, into memory or into mapped files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from gdmix_core.data.frame import Frame
from gdmix_core.data.mapped_arrays import MappedArrays
from tests.run_directory import Rows, make_run

ROWS, FEATURES = 97, 7


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> tuple[Frame, sp.csr_matrix, np.ndarray]:
    random = np.random.default_rng(5)
    matrix = sp.random(ROWS, FEATURES, 0.3, format="csr", random_state=random, dtype=np.float32)
    label = random.normal(size=ROWS)
    pipeline = {
        "task": "linear_regression",
        "coordinates": {"global": {"fixed_effect": {}, "bag": "features"}},
    }
    rows = Rows(label=label, bags={"features": matrix})
    run = make_run(tmp_path_factory.mktemp("frame"), pipeline, rows, rows_per_block=10)
    return Frame(run), matrix, label


@given(bounds=st.tuples(st.integers(0, ROWS), st.integers(0, ROWS)), threads=st.integers(1, 3), mapped=st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_rows_by_any_number_of_threads(
    frame: tuple[Frame, sp.csr_matrix, np.ndarray],
    bounds: tuple[int, int],
    threads: int,
    mapped: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    read, matrix, label = frame
    start, stop = sorted(bounds)
    folder = tmp_path_factory.getbasetemp() / "mapped"
    empty = MappedArrays(folder).empty if mapped else np.empty
    bag = read.bag("training", "features", start, stop, threads, empty)
    wanted = matrix[start:stop]
    np.testing.assert_array_equal(bag.offsets, wanted.indptr)
    np.testing.assert_array_equal(bag.indices, wanted.indices)
    np.testing.assert_array_equal(bag.values, wanted.data)
    (labels,) = read.numbers("training", ["label"], start, stop, threads, empty)
    np.testing.assert_array_equal(labels, label[start:stop])
    assert not folder.exists()


def test_a_mapped_array_can_be_written_to_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "below" / "spill"
    arrays = MappedArrays(folder)
    array, other, none = arrays.empty(1000, np.int32), arrays.empty(10, np.float64), arrays.empty(0, np.float32)
    array[:] = np.arange(1000)
    other[:] = 0.5
    assert len(none) == 0
    np.testing.assert_array_equal(array, np.arange(1000, dtype=np.int32))
    assert not folder.exists()
