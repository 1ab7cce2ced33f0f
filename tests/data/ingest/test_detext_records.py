"""DeText's records, whose sparse features are X_indices0 and X_values or X_values0, are read as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import synthetic_input as synthetic
from click.testing import CliRunner
from validated_here import validate_here

from gdmix_core.cli.command import main
from gdmix_core.data.frame import Frame
from gdmix_core.data.ingest.source import open_layout
from gdmix_core.errors import DataError
from gdmix_core.execution import dispatch
from gdmix_core.models.native import read_model
from gdmix_core.pipeline.loading import load_config
from tests.data.tfrecord.example_oracle import serialize
from tests.data.tfrecord.tfrecord_oracle import file_of

ROWS = synthetic.make_rows(80)
NAMES = [("indices0", "values0"), ("indices0", "values"), ("indices", "values")]


def write(path: Path, rows: dict[str, Any], names: tuple[str, str], **more: str) -> None:
    """As Parquet or TFRecord, the bag `global` under the given names; more: columns to write again under new names."""
    synthetic.write_file(path.with_suffix(".parquet"), rows)
    table = pq.read_table(path.with_suffix(".parquet"))
    path.with_suffix(".parquet").unlink()
    new = {"global_indices": f"global_{names[0]}", "global_values": f"global_{names[1]}"}
    for name, copy in more.items():
        table = table.append_column(copy, table[name])
    table = table.rename_columns([new.get(name, name) for name in table.column_names])
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        path.write_bytes(file_of([example(row) for row in table.to_pylist()]))


def example(row: dict[str, Any]) -> bytes:
    """By protobuf's own writer: int64 lists of integers, float lists of the rest, as DeText's records have them."""

    def feature(name: str, value: Any) -> tuple[str, list[Any]]:
        values = value if isinstance(value, list) else [value]
        if isinstance(value, str):
            return "bytes", [value.encode()]
        return "int64" if name in ("uid", "user_id", "response") or "_indices" in name else "float", values

    return serialize({name: feature(name, value) for name, value in row.items()})


@pytest.mark.parametrize("suffix", [".parquet", ".tfrecord"])
@pytest.mark.parametrize("names", NAMES)
def test_the_bag_is_that_of_plain_records(tmp_path: Path, names: tuple[str, str], suffix: str):
    source = synthetic.write_directory(tmp_path / "input", ROWS)
    (source / "trainingData" / "part-000.tfrecord").unlink()
    write(source / "trainingData" / f"part{suffix}", ROWS, names)
    frame = Frame(validate_here(synthetic.make_config(source, tmp_path / "run")))
    order = np.argsort(ROWS["uid"])
    expected = synthetic.dense(ROWS["global"], 6)[order]
    assert np.array_equal(synthetic.dense(frame.bag("training", "global"), 6), expected.astype(np.float32))


@pytest.mark.parametrize("suffix", [".parquet", ".tfrecord"])
def test_files_of_either_kind_side_by_side(tmp_path: Path, suffix: str):
    source = synthetic.write_directory(tmp_path / "input", ROWS)
    more = synthetic.make_rows(50, seed=4, first_uid=7000)
    write(source / "trainingData" / f"more{suffix}", more, NAMES[0])
    frame = Frame(validate_here(synthetic.make_config(source, tmp_path / "run")))
    assert len(frame.bag("training", "global").indices) == len(ROWS["global"].indices) + len(more["global"].indices)


@pytest.mark.parametrize("suffix", [".parquet", ".tfrecord"])
def test_lists_of_documents_are_refused(tmp_path: Path, suffix: str):
    source = synthetic.write_directory(tmp_path / "input", ROWS)
    write(source / "trainingData" / f"more{suffix}", ROWS, NAMES[0], global_indices="global_indices1")
    with pytest.raises(DataError, match=r"more.*: global_indices1 is there: these are DeText's ranking records"):
        validate_here(synthetic.make_config(source, tmp_path / "run"))


def test_both_names_in_one_file_are_refused(tmp_path: Path):
    source = synthetic.write_directory(tmp_path / "input", ROWS)
    write(source / "trainingData" / "more.parquet", ROWS, NAMES[2], global_indices="global_indices0")
    with pytest.raises(DataError, match="both global_indices and global_indices0 are there"):
        open_layout(synthetic.make_config(source, tmp_path / "run"))


def test_indices_that_count_from_one_are_told(tmp_path: Path):
    source = synthetic.write_directory(tmp_path / "input", ROWS)
    (source / "trainingData" / "part-000.tfrecord").unlink()
    bag = ROWS["global"]
    shifted = {**ROWS, "global": type(bag)(bag.offsets, bag.indices + 1, bag.values)}
    write(source / "trainingData" / "part.tfrecord", shifted, NAMES[0])
    with pytest.raises(DataError, match=r"global\.index: .*indices are within 0 … 5.*DeText counts from 1"):
        validate_here(synthetic.make_config(source, tmp_path / "run"))


WORKFLOW = """\
output_dir: {run}
fixed_effect_config:
  global:
    gdmix_config: {{model_type: detext, label_column_name: response, uid_column_name: uid}}
    train_file: {input}/trainingData
    doc_text_column_names: title
    sparse_ftrs_column_names: global
    ftr_ext: cnn
"""


@pytest.mark.parametrize("suffix", [".parquet", ".tfrecord"])
def test_a_workflow_that_was_imported_reads_its_records(tmp_path: Path, suffix: str):
    rows = {**ROWS, "title": [f"title {uid}" for uid in ROWS["uid"]]}
    source = synthetic.write_directory(tmp_path / "input", rows)
    (source / "trainingData" / "part-000.tfrecord").unlink()
    write(source / "trainingData" / f"part{suffix}", rows, NAMES[0])
    (tmp_path / "detext.yaml").write_text(WORKFLOW.format(run=tmp_path / "run", input=source))
    imported = CliRunner().invoke(main, ["config", "import", str(tmp_path / "detext.yaml")])
    (tmp_path / "pipeline.yaml").write_text(imported.stdout)
    frame = Frame(validate_here(load_config(str(tmp_path / "pipeline.yaml"))))
    assert frame.bags_of("global") == {"global": "global"}
    assert len(frame.bag("training", "global").indices) == len(ROWS["global"].indices)
    assert set(frame.ids("training", "title").to_pylist()) == set(rows["title"])


@pytest.mark.parametrize("suffix", [".parquet", ".tfrecord"])
def test_a_model_of_these_records_is_that_of_plain_ones(tmp_path: Path, suffix: str):
    trained = []
    for number, names in enumerate((NAMES[0], NAMES[2])):
        source = synthetic.write_directory(tmp_path / f"input{number}", ROWS)
        (source / "trainingData" / "part-000.tfrecord").unlink()
        write(source / "trainingData" / f"part{suffix}", ROWS, names)
        coordinates = {"global": {"fixed_effect": {}, "bag": "global"}}
        config = synthetic.make_config(source, tmp_path / f"run{number}", coordinates=coordinates, metrics=["auc"])
        run = validate_here(config)
        for step in run.plan.steps[1:]:
            if step.kind != "partition":
                dispatch.execute(run, step)
            else:
                run.commit(step, {"coordinates": {}})
            if step.kind == "train_fixed_effect":
                break
        model = read_model(next(str(path) for path in Path(run.root).glob("passes/01/global/model/*.parquet")))
        trained.append(model.means)
    assert np.array_equal(trained[0], trained[1])
    assert np.abs(trained[0]).max() > 0.1


@pytest.mark.parametrize("name", ["global_indices0", "globe_indices"])
@pytest.mark.parametrize("first", ["usual", "other"])
def test_a_file_whose_records_have_either_name(tmp_path: Path, first: str, name: str):
    """As two files that were written under two names, and then brought into one."""
    source = synthetic.write_directory(tmp_path / "input", ROWS)
    path, other = source / "trainingData" / "part-000.tfrecord", tmp_path / "other.tfrecord"
    more = synthetic.make_rows(30, seed=3, first_uid=5000)
    if name.endswith("0"):
        write(other, more, ("indices0", "values0"))
    else:
        synthetic.write_file(other, {"globe" if key == "global" else key: value for key, value in more.items()})
    parts = [path.read_bytes(), other.read_bytes()]
    path.write_bytes(b"".join(parts if first == "usual" else reversed(parts)))
    with pytest.raises(DataError, match=rf"it has {name} in the place of global_indices"):
        validate_here(synthetic.make_config(source, tmp_path / "run"))
