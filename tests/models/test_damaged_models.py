"""Model files that no training writes: scoring, export and initialize say so, and never read beyond an array's end."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import synthetic_input as synthetic
from hypothesis import given
from hypothesis import strategies as st
from run_directory import Rows, make_run, walk

from gdmix_core import storage
from gdmix_core.data import bags
from gdmix_core.data.scores import ScoreSum
from gdmix_core.errors import DataError, StepError
from gdmix_core.execution import dispatch
from gdmix_core.models.native import read_model
from gdmix_core.pipeline.run import Run
from gdmix_core.scoring.score_input import score_input

DATA = synthetic.make_rows(60, users=5, seed=1)
CONFIG = {
    "columns": {"label": "response"},
    "coordinates": {
        "global": {"fixed_effect": {}, "bag": "global"},
        "per_user": {"random_effect": {"entity": "user_id", "shards": 1}, "bag": "per_user"},
    },
}
NAMES = {name: [(f"{name}_{i}", "") for i in range(size)] for name, size in synthetic.FEATURES.items()}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    dense = {name: synthetic.dense(DATA[name], size) for name, size in synthetic.FEATURES.items()}
    rows = Rows(DATA["response"], ids={"user_id": DATA["user_id"]}, bags=dense)
    run = make_run(tmp_path_factory.mktemp("run"), CONFIG, rows, feature_names=NAMES)
    walk(run)
    return run


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(synthetic.write_directory(tmp_path_factory.mktemp("data") / "in", DATA))


def rewrite(path: Path, change: Callable[[dict[str, list]], None]) -> None:
    """The model file with other contents: lists by column."""
    table = pq.read_table(path)
    columns = table.to_pydict()
    change(columns)
    types = {"indices": pa.large_list(pa.int64()), "means": pa.large_list(pa.float64())}
    pq.write_table(
        pa.table({n: pa.array(v, types.get(n, table.schema.field("entity").type)) for n, v in columns.items()}), path
    )


@st.composite
def changes(draw: st.DrawFn) -> Callable[[dict[str, list]], None]:
    kind = draw(st.sampled_from(["far index", "negative", "order", "shorter", "longer", "nan", "no intercept", "null"]))
    pick = draw(st.integers(0, 2**31))
    far = draw(st.sampled_from([4, 5, 2**20, 2**31 - 1, 2**31, 2**40]))

    def change(columns: dict[str, list]) -> None:
        e = pick % len(columns["entity"])
        indices, means = columns["indices"][e], columns["means"][e]
        if kind == "far index":
            indices[-1] = 6 + far
        elif kind == "negative":
            indices[pick % len(indices)] = -1 - far
        elif kind == "order":
            indices[1], indices[2] = indices[2], indices[1]
        elif kind == "shorter":
            columns["means"][e] = means[:-1]
        elif kind == "longer":
            means.append(1.0)
        elif kind == "nan":
            means[pick % len(means)] = [np.nan, np.inf, -np.inf][pick % 3]
        elif kind == "no intercept":
            del indices[0], means[0]
        else:
            columns[["indices", "means"][pick % 2]][e] = None

    return change


@given(changes(), st.sampled_from(["global", "per_user"]))
def test_scoring_finds_any_change_that_no_training_makes(
    run: Run, source: str, tmp_path_factory: Any, change, name: str
):
    export = undigested(run, tmp_path_factory.mktemp("export") / "export")
    rewrite(export / name / "shard-00000.parquet", change)
    output = export.parent / "scores.parquet"
    with pytest.raises(DataError, match=f"{name}"):
        score_input(str(export), source, str(output))
    assert not output.exists()


def undigested(run: Run, export: Path) -> Path:
    """The export as earlier versions left it: its manifest has no digests that would tell of a change first."""
    shutil.copytree(run.path("export"), export)
    path = str(export / "manifest.json")
    storage.write_json(path, {key: value for key, value in storage.read_json(path).items() if key != "contents"})
    return export


def test_a_shorter_feature_list_is_found_by_export_scoring_and_initialize(run: Run, source: str, tmp_path: Path):
    export = undigested(run, tmp_path / "export")
    (export / "per_user" / "features.csv").write_text("per_user_0,\n")
    message = "a model has feature index 3, but the feature list has 1 features"
    with pytest.raises(DataError, match=message):
        score_input(str(export), source, str(tmp_path / "s.parquet"))
    dense = {name: synthetic.dense(DATA[name], size) for name, size in synthetic.FEATURES.items()}
    rows = Rows(DATA["response"], ids={"user_id": DATA["user_id"]}, bags=dense)
    later = make_run(tmp_path / "later", {**CONFIG, "initial_model": {"path": str(export)}}, rows, feature_names=NAMES)
    with pytest.raises(DataError, match=message):
        dispatch.execute(later, later.plan["initialize"])


def test_a_fixed_effect_without_its_model_is_not_scored_with(run: Run, source: str, tmp_path: Path):
    export = undigested(run, tmp_path / "export")
    file = export / "global" / "shard-00000.parquet"
    pq.write_table(pq.read_table(file).slice(0, 0), file)
    with pytest.raises(DataError, match="global"):
        score_input(str(export), source, str(tmp_path / "s.parquet"))


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ("indices", pa.large_list(pa.float64())),
        ("means", pa.large_list(pa.string())),
        ("indices", pa.int64()),
        ("entity", pa.float64()),
    ],
)
def test_columns_of_other_types(run: Run, tmp_path: Path, column: str, kind: pa.DataType):
    path = tmp_path / "shard.parquet"
    table = pq.read_table(run.path("export", "per_user", "shard-00000.parquet"))
    rows = table.num_rows
    listed = pa.types.is_large_list(kind)
    values = pa.array(
        [["1"]] * rows if kind == pa.large_list(pa.string()) else [[1.0]] * rows if listed else [1] * rows, kind
    )
    pq.write_table(table.set_column(table.column_names.index(column), column, values), path)
    with pytest.raises(DataError, match=r"shard\.parquet"):
        read_model(str(path))


def test_a_frame_whose_lists_do_not_fit_is_damaged():
    indices, values = pa.chunked_array([[[0, 1], [2]]]), pa.chunked_array([[[1.0], [2.0, 3.0]]])
    with pytest.raises(DataError, match="row 0 of a bag has not as many values as indices"):
        bags.from_arrow(indices, values)
    with pytest.raises(IndexError):
        bags.take(bags.from_arrow(indices, pa.chunked_array([[[1.0, 2.0], [3.0]]])), np.array([-1]))


@pytest.mark.parametrize("row", [-1, 60, 10**9])
def test_scores_are_not_gathered_for_rows_of_another_frame(run: Run, row: int):
    scores = ScoreSum(run, {"global": 1}, "training")
    assert len(scores.gather(np.array([0, 59]))) == 2
    with pytest.raises(StepError, match="the shards are of another frame: run partition again"):
        scores.gather(np.array([0, row]))
