"""Small inputs with known content, written in every form the layout allows; and runs over them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from run_directory import walk

from gdmix_core.config.pipeline import Config
from gdmix_core.data import partition as data_partition
from gdmix_core.data.bags import take
from gdmix_core.data.feature_list import FeatureList, write_feature_list
from gdmix_core.data.ingest import validate as ingest_validate
from gdmix_core.data.ragged import Bag
from gdmix_core.errors import GdmixError
from gdmix_core.execution import dispatch
from gdmix_core.pipeline.run import Run
from gdmix_core.samples.tfrecord_writer import write_tfrecord

DIRECTORIES = {"training": "trainingData", "validation": "validationData"}
FEATURES = {"global": 6, "per_user": 4}
COLUMNS = ("uid", "response", "weight", "offset", "user_id", "global", "per_user")


def make_rows(
    rows: int = 300, users: int = 12, *, seed: int = 0, first_uid: int = 1000, task: str = "logistic_regression"
) -> dict[str, Any]:
    """Columns of `rows` records in random uid order. Users beyond 0 get the fewer rows the higher their number."""
    rng = np.random.default_rng(seed)
    user = np.minimum(rng.geometric(2 / (users + 1), rows) - 1, users - 1)
    global_bag = random_bag(rng, rows, FEATURES["global"])
    user_bag = random_bag(rng, rows, FEATURES["per_user"])
    w = rng.normal(0, 1, FEATURES["global"])
    by_user = rng.normal(0, 1, (users, FEATURES["per_user"] + 1))
    z = dense(global_bag, FEATURES["global"]) @ w + by_user[user, 0]
    z += (dense(user_bag, FEATURES["per_user"]) * by_user[user, 1:]).sum(axis=1)
    if task == "logistic_regression":
        label = (rng.random(rows) < 1 / (1 + np.exp(-z))).astype(np.int64)
    elif task == "linear_regression":
        label = (z + rng.normal(size=rows)).astype(np.float32)
    else:
        label = rng.poisson(np.exp(np.clip(z, -2, 2))).astype(np.int64)
    return {
        "uid": rng.permutation(rows) + first_uid,
        "response": label,
        "weight": rng.choice(np.array([0.5, 1, 2], np.float32), rows),
        "offset": rng.normal(0, 0.2, rows).astype(np.float32),
        "user_id": user.astype(np.int64) * 7 - 3,
        "global": global_bag,
        "per_user": user_bag,
    }


def random_bag(rng: np.random.Generator, rows: int, features: int) -> Bag:
    """float32, some rows empty, indices ascending."""
    listed = rng.random((rows, features)) < 0.5
    offsets = np.concatenate([[0], np.cumsum(listed.sum(axis=1))]).astype(np.int64)
    indices = np.nonzero(listed)[1].astype(np.int32)
    return Bag(offsets, indices, rng.normal(size=len(indices)).astype(np.float32))


def dense(bag: Bag, features: int) -> NDArray[np.float64]:
    matrix = np.zeros((len(bag), features))
    np.add.at(matrix, (np.repeat(np.arange(len(bag)), np.diff(bag.offsets)), bag.indices), bag.values)
    return matrix


def select_rows(columns: Mapping[str, Any], positions: Any) -> dict[str, Any]:
    positions = np.asarray(positions, np.int64)
    return {name: _take(column, positions) for name, column in columns.items()}


def _take(column: Any, positions: NDArray[np.int64]) -> Any:
    if isinstance(column, Bag):
        return take(column, positions)
    if isinstance(column, list):
        return [column[i] for i in positions]
    return column[positions]


def as_text(columns: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The same with columns of ids as strings whose order is that of the numbers."""
    text = {name: [f"{name}-{value + 100:08d}" for value in columns[name]] for name in names}
    return {**columns, **text}


def describe(columns: Mapping[str, Any], **changes: Mapping[str, Any]) -> dict[str, Any]:
    """tensor_metadata.json of the columns; changes: column → keys that differ."""
    entries = []
    for name, column in columns.items():
        values = column.values if isinstance(column, Bag) else column
        kinds = {"int64": "long", "float32": "float", "float64": "double"}
        dtype = "string" if isinstance(column, list) else kinds[values.dtype.name]
        shape = [FEATURES[name]] if name in FEATURES else []
        entry = {"name": name, "dtype": dtype, "shape": shape, "isSparse": isinstance(column, Bag)}
        entries.append({**entry, **changes.get(name, {})})
    return {
        "features": [e for e in entries if e["name"] != "response"],
        "labels": [e for e in entries if e["name"] == "response"],
    }


def write_directory(
    directory: Path,
    training: Mapping[str, Any],
    validation: Mapping[str, Any] | None = None,
    *,
    suffix: str = ".tfrecord",
    files: int = 1,
    metadata: Mapping[str, Any] | None = None,
    reverse: bool = False,
) -> Path:
    """One input directory. files: of each split; reverse: the first rows go to the file with the last name."""
    shutil.rmtree(directory, ignore_errors=True)
    for name, size in FEATURES.items():
        if name in training:
            write_feature_list(
                str(directory / "featureList" / name), FeatureList([(f"{name}_{i}", "") for i in range(size)])
            )
    (directory / "metadata").mkdir(parents=True, exist_ok=True)
    content = describe(training) if metadata is None else metadata
    (directory / "metadata" / "tensor_metadata.json").write_text(json.dumps(content))
    for split, columns in (("training", training), ("validation", validation)):
        if columns is None:
            continue
        folder = directory / DIRECTORIES[split]
        folder.mkdir(parents=True)
        rows = len(columns["uid"])
        for number in range(files):
            part = select_rows(columns, np.arange(rows * number // files, rows * (number + 1) // files))
            name = files - 1 - number if reverse else number
            write_file(folder / f"part-{name:03d}{suffix}", part)
    return directory


def write_file(path: Path, columns: Mapping[str, Any]) -> None:
    if path.suffix != ".parquet":
        write_tfrecord(str(path), columns)
        return
    arrays: dict[str, Any] = {}
    for name, column in columns.items():
        if isinstance(column, Bag):
            offsets = pa.array(column.offsets.astype(np.int32))
            indices = pa.array(column.indices.astype(np.int64))
            arrays[f"{name}_indices"] = pa.ListArray.from_arrays(offsets, indices)
            arrays[f"{name}_values"] = pa.ListArray.from_arrays(offsets, pa.array(column.values))
        elif isinstance(column, np.ndarray) and column.ndim == 2:
            arrays[name] = pa.array(list(column))
        else:
            arrays[name] = pa.array(column)
    pq.write_table(pa.table(arrays), path, row_group_size=100)


def make_config(source: Path | str, output: Path | str, **changes: Any) -> Config:
    """Two coordinates over one directory; changes: top-level keys to replace."""
    content: dict[str, Any] = {
        "name": "synthetic",
        "input": str(source),
        "output": str(output),
        "columns": {"label": "response", "weight": "weight", "offset": "offset"},
        "coordinates": {
            "global": {"fixed_effect": {}, "bag": "global"},
            "per_user": {"random_effect": {"entity": "user_id", "shards": 3}, "bag": "per_user"},
        },
        "passes": {"max": 2},
        "metrics": ["auc", "logloss", "auc@user_id"],
        "engine": {"local": {"processes": 1}},
    }
    return Config.model_validate({**content, **changes})


def validate(config: Config) -> Run:
    """Validates in Spark, in this process's session; and, in a directory beside it, with the embedded engine: both must
    leave the same, to the byte, or fail with the same message."""
    run = Run.create(config)
    twin = Run.create(config.model_copy(update={"output": _twin(config.output)}))
    _with_both("validate", run, twin)
    return Run.open(run.root)


def partition(run: Run) -> Run:
    """As validate does."""
    twin = Run.open(_twin(run.root)) if Path(_twin(run.root)).exists() else copy_run(run, Path(_twin(run.root)))
    _with_both("partition", run, twin)
    return Run.open(run.root)


def _twin(output: str) -> str:
    return f"{output.rstrip('/')}-embedded"


def _with_both(step_id: str, run: Run, twin: Run) -> None:
    error = _error_of(lambda: _in_spark(step_id, run))
    other = _error_of(lambda: dispatch.execute(twin, twin.plan[step_id]))
    assert str(other).replace(twin.root, run.root) == str(error)
    assert isinstance(other, type(error))
    for folder in ("validate", "frame", "shards"):
        assert _content(twin.path(folder)) == _content(run.path(folder)), folder
    if error is not None:
        raise error


def _error_of(work: Callable[[], object]) -> GdmixError | None:
    try:
        work()
    except GdmixError as error:
        return error
    return None


def _in_spark(step_id: str, run: Run) -> None:
    from spark_jobs.application import _workers_errors
    from spark_jobs.spark_engine import SparkEngine

    work = {"validate": ingest_validate.validate, "partition": data_partition.partition}[step_id]
    with _workers_errors(), SparkEngine("test") as engine:
        work(run, run.plan[step_id], engine)


def _content(folder: str) -> dict[str, bytes]:
    """Of all files, by their paths in the folder."""
    files = (path for path in Path(folder).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def report_of(run: Run) -> dict[str, Any]:
    """What validate has written of the input."""
    found: dict[str, Any] = json.loads(Path(run.path("validate", "report.json")).read_text())
    return found


def whole_run(config: Config) -> Run:
    run = partition(validate(config))
    walk(run)
    return Run.open(run.root)


def copy_run(run: Run, root: Path, **changes: Any) -> Run:
    """The run's directory copied, with another output and other top-level keys."""
    shutil.copytree(run.root, root)
    content = {**run.config.model_dump(mode="json", exclude_none=True), **changes, "output": str(root)}
    return Run.create(Config.model_validate(content))
