"""Statistics of the features against NumPy's over the dense matrix, and the scaling that follows from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gdmix_core import storage
from gdmix_core.data.feature_summary import _Stored
from gdmix_core.data.ragged import Bag
from gdmix_core.effects.normalization import scaling
from gdmix_core.errors import StepError
from gdmix_core.execution.dispatch import execute
from gdmix_core.pipeline.plan import build_plan
from gdmix_core.pipeline.run import Run
from gdmix_core.training_context import TrainingContext
from tests.run_directory import Rows, make_run


def config(normalization: str = "standardization", processes: int = 2) -> dict[str, Any]:
    coordinate = {"fixed_effect": {}, "bag": "global", "normalization": normalization}
    return {"coordinates": {"global": coordinate}, "engine": {"local": {"processes": processes}}}


def matrix(n: int = 2300, features: int = 12) -> sp.csr_matrix:
    random = np.random.default_rng(1)
    X = sp.random(n, features, density=0.3, format="lil", random_state=random)
    X = sp.csr_matrix(X.multiply(np.logspace(-3, 3, features))).tolil()
    X[:, 3] = 0.0  # never seen
    X[:, 4] = 0.1  # a constant
    X[:, 5] = 1e6 + random.random((n, 1))  # cancels, when sums of squares are subtracted
    X[:, 6] = -X[:, 7]
    return sp.csr_matrix(X).astype(np.float64)


def summarized(root: Path, content: dict[str, Any], X: sp.csr_matrix) -> Run:
    rows = Rows(label=np.zeros(X.shape[0]), bags={"global": X})
    run = make_run(root, content, rows, Rows(label=np.ones(50), bags={"global": X[:50] * 1000}))
    execute(run, run.plan["summarize"])
    return run


def test_as_numpy_over_the_dense_training_rows(tmp_path: Path) -> None:
    X = matrix()
    run = summarized(tmp_path, config(), X)
    dense = X.toarray()
    table = pq.read_table(run.summary("global")).to_pydict()
    assert list(zip(table["name"], table["term"], strict=True)) == [("feature", str(j)) for j in range(12)]
    np.testing.assert_array_equal(table["min"], dense.min(axis=0))
    np.testing.assert_array_equal(table["max"], dense.max(axis=0))
    np.testing.assert_allclose(table["mean"], dense.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(table["norm_l1"], np.abs(dense).sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(table["norm_l2"], np.sqrt((dense**2).sum(axis=0)), rtol=1e-12)
    np.testing.assert_array_equal(table["nonzeros"], (dense != 0).sum(axis=0))
    np.testing.assert_allclose(table["variance"], dense.var(axis=0, ddof=1), rtol=1e-9, atol=1e-20)
    assert table["variance"][4] == 0.0
    assert run.result("summarize")["bags"] == {"global": {"features": 12, "never_seen": 1, "constant": 2}}


def test_the_same_bytes_on_any_number_of_cores(tmp_path: Path) -> None:
    written = [
        Path(summarized(tmp_path / str(n), config(processes=n), matrix()).summary("global")).read_bytes()
        for n in (1, 3)
    ]
    assert written[0] == written[1]


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.float64, st.tuples(st.integers(1, 12), st.just(3)), elements=st.sampled_from([0.0, -2.5, 1.0, 7.0])),
    st.integers(0, 12),
)
def test_parts_join_to_the_whole(dense: np.ndarray, cut: int) -> None:
    def stored(rows: np.ndarray) -> _Stored:
        X = sp.csr_matrix(rows)
        return _Stored.of(Bag(X.indptr.astype(np.int64), X.indices.astype(np.int32), X.data), 3)

    total = stored(dense[:cut])
    total.add(stored(dense[cut:]))
    found = total.over(len(dense))
    expected = dense.var(axis=0, ddof=1) if len(dense) > 1 else np.zeros(3)
    np.testing.assert_allclose(found.variance, expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found.mean, dense.mean(axis=0), rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(found.min, dense.min(axis=0))
    np.testing.assert_array_equal(found.max, dense.max(axis=0))


@pytest.mark.parametrize("normalization", ["none", "standard_deviation", "max_magnitude", "standardization"])
def test_scaling(tmp_path: Path, normalization: str) -> None:
    X = matrix()
    dense = X.toarray()
    content = config("standardization")
    run = summarized(tmp_path, content, X)
    context = TrainingContext(run, run.plan["pass_01.global.train"])
    context.settings = context.settings.model_copy(update={"normalization": normalization})
    factor, shift = scaling(context)
    scaled = (dense - shift) * factor
    varying = np.ones(12, bool)
    varying[[3, 4]] = False
    if normalization == "none":
        np.testing.assert_array_equal(scaled, dense)
    elif normalization == "max_magnitude":
        np.testing.assert_allclose(np.abs(scaled).max(axis=0)[dense.any(axis=0)], 1.0)
    else:
        np.testing.assert_allclose(scaled.std(axis=0, ddof=1)[varying], 1.0, rtol=1e-8)
        np.testing.assert_array_equal(factor[~varying], 1.0)
    if normalization == "standardization":
        np.testing.assert_allclose(scaled.mean(axis=0), 0.0, atol=1e-8)
    else:
        np.testing.assert_array_equal(shift, 0.0)


def test_scaling_needs_the_summary(tmp_path: Path) -> None:
    run = make_run(tmp_path, config(), Rows(label=np.zeros(20), bags={"global": matrix(20)}))
    with pytest.raises(StepError, match="step summarize has not been run"):
        scaling(TrainingContext(run, run.plan["pass_01.global.train"]))


def test_in_the_plan_only_where_something_is_scaled(tmp_path: Path) -> None:
    rows = Rows(label=np.zeros(20), bags={"global": matrix(20)})
    plan = make_run(tmp_path, config("standard_deviation"), rows).plan
    assert [step.id for step in plan.steps[:4]] == ["validate", "partition", "summarize", "pass_01.global.train"]
    assert "summarize" in plan["pass_01.global.train"].reads
    without = build_plan(make_run(tmp_path, config("none"), rows).config)
    assert "summarize" not in [step.id for step in without.steps]


def test_is_made_again_when_the_input_changes(tmp_path: Path) -> None:
    run = summarized(tmp_path, config(), matrix())
    before = storage.read_json(run.marker(run.plan["summarize"]))
    assert execute(run, run.plan["summarize"]) == before
    again = summarized(tmp_path, config(), matrix() * 2)
    assert again.result("summarize")["key"] != before["key"]
