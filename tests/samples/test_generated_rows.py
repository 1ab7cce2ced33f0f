"""The large generator: shape of the rows, determinism, and memory that the number of rows does not move."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdmix_core.errors import ConfigError
from gdmix_core.samples.generated_rows import RowShape, _non_zeros, generate_rows
from tests.samples.reading import read_names, read_rows

SMALL = RowShape(nnz=4, features=50, entities=30, entity_nnz=2, entity_features=5)


@settings(deadline=None)
@given(st.integers(1, 60), st.data())
def test_indices_ascend_within_range(features: int, data: st.DataObject) -> None:
    nnz = data.draw(st.integers(1, features))
    indices, values = _non_zeros(np.random.default_rng(0), 200, nnz, features)
    assert indices.shape == values.shape == (200, nnz)
    assert (indices.dtype, values.dtype) == (np.int32, np.float32)
    assert (np.diff(indices, axis=1) > 0).all()
    assert indices.min() >= 0
    assert indices.max() < features


def test_every_feature_occurs() -> None:
    indices, _ = _non_zeros(np.random.default_rng(0), 2000, 7, 50)
    assert len(np.unique(indices)) == 50


def test_rows(tmp_path: Path) -> None:
    generate_rows(str(tmp_path), rows=1000, validation_rows=120, shape=SMALL, rows_per_file=300)
    assert len(list((tmp_path / "trainingData").iterdir())) == 4
    training, validation = read_rows(tmp_path, "training"), read_rows(tmp_path, "validation")
    assert [row["uid"] for row in training + validation] == list(range(1120))
    for row in training + validation:
        assert len(row["features_indices"]) == len(row["features_values"]) == 4
        assert len(row["per_entity_indices"]) == 2
        assert row["response"] in (0, 1)
        assert 0 <= row["entity_id"] < 30
    assert len({tuple(row["features_values"]) for row in training + validation}) == 1120
    assert len(read_names(tmp_path, "features")) == 50
    assert len(read_names(tmp_path, "per_entity")) == 5


def test_entities_are_not_equally_frequent(tmp_path: Path) -> None:
    shape = RowShape(nnz=1, features=1, entities=1000, entity_nnz=1, entity_features=1)
    generate_rows(str(tmp_path), rows=20_000, shape=shape)
    counts = np.bincount([row["entity_id"] for row in read_rows(tmp_path, "training")], minlength=1000)
    counts = np.sort(counts)[::-1]
    assert counts[:100].sum() > 0.4 * counts.sum()
    assert np.count_nonzero(counts) > 900


def test_the_response_follows_a_model(tmp_path: Path) -> None:
    """With few coefficients and many rows, logistic regression per entity does far better than chance."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    metrics = pytest.importorskip("sklearn.metrics")
    shape = RowShape(nnz=3, features=6, entities=1, entity_nnz=1, entity_features=1)
    generate_rows(str(tmp_path), rows=4000, validation_rows=1000, shape=shape)
    X, y = {}, {}
    for split in ("training", "validation"):
        rows = read_rows(tmp_path, split)
        X[split], y[split] = np.zeros((len(rows), 7)), np.array([row["response"] for row in rows])
        for i, row in enumerate(rows):
            X[split][i, row["features_indices"]] = row["features_values"]
            X[split][i, 6] = row["per_entity_values"][0]
    model = linear_model.LogisticRegression().fit(X["training"], y["training"])
    assert metrics.roc_auc_score(y["validation"], model.decision_function(X["validation"])) > 0.65


def test_the_same_arguments_give_the_same_files(tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        generate_rows(str(tmp_path / name), rows=200, shape=SMALL, seed=seed)
    first, again, other = ((tmp_path / n / "trainingData" / "part-00000.tfrecord").read_bytes() for n in "abc")
    assert first == again != other


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    def peak(rows: int) -> int:
        tracemalloc.start()
        generate_rows(str(tmp_path / "rows"), rows=rows, shape=SMALL, rows_per_file=20_000)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak(20_000)  # compiles the kernels
    assert peak(160_000) < 1.3 * peak(20_000)


@pytest.mark.parametrize("wrong", [{"nnz": 0}, {"nnz": 101, "features": 100}, {"entity_nnz": 21}, {"entities": 0}])
def test_impossible_shapes(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="non-zeros must be between 1 and"):
        RowShape(**wrong)
