"""Builds a run directory as validate and partition leave it, without Spark: for tests of the steps that follow.

rows = Rows(label=y, bags={"global": X}, ids={"user": users})
run = make_run(tmp_path, {"coordinates": {...}}, training=rows, validation=more_rows)
walk(run)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp
from numpy.typing import ArrayLike
from validated_here import LoopEngine

from gdmix_core import storage
from gdmix_core.data.feature_list import Feature, FeatureList, write_feature_list
from gdmix_core.data.ingest.blocks import block_name
from gdmix_core.data.partition import partition
from gdmix_core.execution import dispatch
from gdmix_core.pipeline.loading import parse_config
from gdmix_core.pipeline.run import SPLITS, Run
from gdmix_core.pipeline.run_directory import clear
from gdmix_core.training_context import TrainingContext
from gdmix_core.workers.checkpoint import IterateCheckpoint


@dataclass
class Rows:
    """The rows of a split, in the order they get in the frame.

    label, weight, offset: [n]; uid: integers or strings, ascending; by default 0 … n − 1
    ids: entity and group columns by name, integers or strings [n]
    scores: of external coordinates by their names [n]
    bags: [n, features] by their name in the frame, dense or sparse; float32 and float64 keep their type
    """

    label: ArrayLike
    weight: ArrayLike | None = None
    offset: ArrayLike | None = None
    uid: Any = None
    ids: Mapping[str, Any] = field(default_factory=dict)
    bags: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, ArrayLike] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(np.asarray(self.label))

    def matrix(self, bag: str) -> sp.csr_matrix:
        """The bag as validate keeps it: indices ascending, without duplicates; stored zeros stay."""
        matrix = sp.csr_matrix(self.bags[bag])
        if matrix.dtype not in (np.float32, np.float64):
            matrix = matrix.astype(np.float32)
        matrix.sum_duplicates()
        return matrix


def make_run(
    root: Path | str,
    config: Mapping[str, Any],
    training: Rows,
    validation: Rows | None = None,
    *,
    rows_per_block: int = 1000,
    feature_names: Mapping[str, list[Feature]] | None = None,
) -> Run:
    """Writes config.yaml, the frame and, where there are random effects, their shards; returns the run.

    config: as in a pipeline's YAML; name, input and output have defaults, and the steps train in this process
    feature_names: of each bag; by default feature,0 feature,1 …
    rows_per_block: small, so that the rows of any but the smallest test lie in several blocks
    """
    # Not by Path, which makes another path of a URL.
    defaults = {"name": "test", "input": storage.join(str(root), "input"), "output": storage.join(str(root), "run")}
    run = Run.create(parse_config({**defaults, "engine": {"local": {"processes": 1}}, **config}))
    splits = {"training": training} | ({"validation": validation} if validation is not None else {})
    for old in (run.frame(), run.path("shards")):
        clear(old)
    _write_frame(run, splits, rows_per_block, feature_names or {})
    partition(run, run.plan["partition"], LoopEngine())
    return run


def walk(run: Run, upto: str = "export") -> dict[str, Any]:
    """Carries out every step after partition, as `gdmix run` does, upto the one of this id; returns its result."""
    stopped = False
    result: dict[str, Any] = {}
    for step in run.plan.steps[2:]:
        if stopped and step.pass_number:
            continue
        result = dispatch.execute(run, step)
        stopped |= step.kind == "gate" and not result["continue"]
        if step.id == upto:
            break
    return result


def _write_frame(
    run: Run, splits: Mapping[str, Rows], rows_per_block: int, feature_names: Mapping[str, list[Feature]]
) -> None:
    training = splits["training"]
    bags = {name: training.matrix(name) for name in training.bags}
    manifest: dict[str, Any] = {
        # Other rows are another input: a run made again with other rows must not take old results for its own.
        "input_fingerprint": _fingerprint(splits),
        "splits": {split: {"rows": 0, "blocks": []} for split in SPLITS},
        "uid_type": _type_name(_uid(training)),
        "ids": {name: _type_name(pa.array(values)) for name, values in training.ids.items()},
        "bags": {name: {"features": m.shape[1], "dtype": str(m.dtype)} for name, m in bags.items()},
        "coordinates": {
            name: {
                "bags": {bag: bag for bag in c.bags},
                "entity": c.random_effect.entity if c.random_effect else None,
            }
            for name, c in run.config.coordinates.items()
        },
        "scores": {name: f"score.{name}" for name in training.scores},
    }
    for split, rows in splits.items():
        table = _frame_table(rows, bags)
        described = manifest["splits"][split]
        for start in range(0, len(rows), rows_per_block):
            block = table.slice(start, rows_per_block)
            name = block_name(start // rows_per_block)
            with storage.open_for_write(run.frame(split, name)) as file:
                pq.write_table(block, file, row_group_size=max(1, rows_per_block // 3))
            entries = {key: sum(map(len, block[f"{key}_indices"].to_pylist())) for key in bags}
            described["blocks"].append({"file": name, "start": start, "rows": block.num_rows, "entries": entries})
        described["rows"] = len(rows)
    for name, matrix in bags.items():
        numbered = [("feature", str(index)) for index in range(matrix.shape[1])]
        features = FeatureList(feature_names.get(name, numbered))
        assert len(features) == matrix.shape[1]
        write_feature_list(run.frame("features", f"{name}.csv"), features)
    run.set_fingerprints(input=manifest["input_fingerprint"])
    run.commit(run.plan["validate"], manifest)


def _frame_table(rows: Rows, bags: Mapping[str, sp.csr_matrix]) -> pa.Table:
    def number(values: ArrayLike | None, default: float) -> pa.Array:
        return pa.array(np.full(len(rows), default) if values is None else np.asarray(values, np.float64))

    columns: dict[str, pa.Array] = {
        "uid": _uid(rows),
        "label": number(rows.label, 0.0),
        "weight": number(rows.weight, 1.0),
        "offset": number(rows.offset, 0.0),
        **{name: pa.array(values) for name, values in rows.ids.items()},
        **{f"score.{name}": pa.array(np.asarray(values, np.float32)) for name, values in rows.scores.items()},
    }
    for name, like in bags.items():
        matrix = rows.matrix(name).astype(like.dtype)
        offsets = pa.array(matrix.indptr.astype(np.int64))
        columns[f"{name}_indices"] = pa.LargeListArray.from_arrays(offsets, pa.array(matrix.indices.astype(np.int32)))
        columns[f"{name}_values"] = pa.LargeListArray.from_arrays(offsets, pa.array(matrix.data))
    return pa.table(columns)


def _uid(rows: Rows) -> pa.Array:
    return pa.array(np.arange(len(rows)) if rows.uid is None else rows.uid)


def _type_name(column: pa.Array) -> str:
    if not pa.types.is_integer(column.type):
        return "text"
    return "unsigned" if pa.types.is_uint64(column.type) else "integer"


def _fingerprint(splits: Mapping[str, Rows]) -> str:
    digest = hashlib.sha256()
    for split, rows in splits.items():
        digest.update(split.encode())
        for column in _frame_table(rows, {name: rows.matrix(name) for name in rows.bags}).columns:
            digest.update(json.dumps(column.to_pylist()).encode())
    return digest.hexdigest()[:24]


def checkpoint_of(run: Run, step_id: str = "pass_01.global.train") -> IterateCheckpoint:
    """Of a fixed effect's training."""
    context = TrainingContext(run, run.plan.of_coordinate(step_id))
    return IterateCheckpoint(context.folder("checkpoint"), context.key)


def mark_initialized(run: Run) -> None:
    """Commits the step `initialize`, whose models a test has written by itself."""
    run.set_fingerprints(initial="by hand")
    run.commit(run.plan["initialize"], {"coordinates": {}, "initial_fingerprint": "by hand"})
