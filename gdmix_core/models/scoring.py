"""Scoring new data, in the input layout, with an exported model in either format."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gdmix_core import storage
from gdmix_core.config import Config
from gdmix_core.config_file import parse_config
from gdmix_core.data import bags
from gdmix_core.data.feature_list import FeatureList, read_feature_list
from gdmix_core.data.ragged import Bag
from gdmix_core.data.record_checks import checks_of
from gdmix_core.data.records import Records, read_records
from gdmix_core.data.scalar_columns import number_columns
from gdmix_core.data.source import DIRECTORIES, Layout, Source, open_layout
from gdmix_core.errors import DataError
from gdmix_core.models.avro import read_avro
from gdmix_core.models.native import concatenate, read_model
from gdmix_core.models.score_files import ScoreColumns, open_scores
from gdmix_core.models.table import CoefficientTable
from gdmix_core.solvers.local_index import look_up_local_index, score_rows

log = logging.getLogger("gdmix_core.score")

Format = Literal["native", "avro"]
ScoresFormat = Literal["parquet", "gdmix", "photon"]


@dataclass(frozen=True)
class ScoringModel:
    """One coordinate: its coefficients, and where in the new data its features and entities are.

    feature_map: int32 [features of the new data's list] index in the model's list, or −1
    """

    name: str
    table: CoefficientTable
    entity: str | None
    bag: str | None
    source: int
    intercept: bool
    feature_map: NDArray[np.int32]

    def score(self, ids: pa.Array | None, bag: Bag | None, rows: int) -> tuple[NDArray[np.float32], int]:
        """(float32 [rows], rows whose entity has no model)."""
        if ids is None:
            model_of = np.zeros(rows, np.int64)
        else:
            found = pc.index_in(ids.cast(self.table.entities.type), value_set=self.table.entities)
            model_of = found.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        if bag is None:
            bag = Bag.empty(rows)
        indices = self.feature_map[bag.indices] if len(bag.indices) else bag.indices
        local = np.empty(len(indices), np.int32)
        begin = np.arange(rows)
        table = self.table
        look_up_local_index(
            self.intercept, model_of, begin, begin + 1, bag.offsets, indices, table.offsets, table.features, local
        )
        scores = np.empty(rows, np.float32)
        score_rows(
            self.intercept,
            model_of,
            begin,
            begin + 1,
            bag.offsets,
            local,
            bag.values,
            table.offsets,
            table.means,
            scores,
        )
        return scores, int(np.count_nonzero(model_of < 0))


def score_input(
    model: str,
    source: str,
    output: str,
    *,
    kind: Format = "native",
    split: str = "training",
    scores: ScoresFormat = "parquet",
) -> tuple[int, dict[str, int]]:
    """Writes a Parquet file with uid, score (with the data's offset) and each coordinate's own score.

    model: a run directory or its export; source: data in the input layout, labels not needed; split: which of its
    directories; scores: gdmix or photon writes these systems' Avro files instead, which hold the whole score, with
    label and weight where the data have them. Returns (rows, {random effect: rows of entities without a model}).
    Raises DataError when model and data do not fit, or a record cannot be read.
    """
    directory = storage.join(model, "export") if storage.exists(storage.join(model, "config.yaml")) else model
    path = storage.join(directory, "manifest.json")
    if not storage.exists(path):
        raise DataError(f"{model}: neither a finished run nor an export ({path} is missing)")
    manifest = storage.read_json(path)
    if kind not in manifest["formats"]:
        raise DataError(f"{directory}: has no {kind} models, only {', '.join(manifest['formats'])}")
    config = parse_config({**manifest["config"], "input": source, "metrics": []}, where=path)
    layout = open_layout(config, labelled=False)
    models = [_load(directory, name, manifest, config, layout, kind) for name in config.coordinates]
    if not any(piece.split == split for piece in layout.pieces):
        raise DataError(
            f"{source}: no {split} files to score; expected {DIRECTORIES[split]} with TFRecord or Parquet files"
        )
    joined = [_Everything(s, config, layout, split) for s in layout.sources[1:]]
    rows = 0
    unknown = {m.name: 0 for m in models if m.entity is not None}
    schema = pa.schema(
        [
            ("uid", pa.string() if layout.uid_type == "text" else pa.int64()),
            ("score", pa.float32()),
            *[(m.name, pa.float32()) for m in models],
        ]
    )
    labelled = scores != "parquet" and set(number_columns(config).values()) <= set(layout.sources[0].tensors)
    with _open_output(output, scores, schema, config) as write:
        for records in _batches(layout.sources[0], config, layout, split, labelled=labelled):
            sides = [records, *(other.of(records.uid) for other in joined)]
            total = records.numbers.get("offset", np.zeros(len(records.uid))).copy()
            columns: list[pa.Array] = []
            for scorer in models:
                own, without = _score(scorer, sides, len(records.uid))
                total += own
                columns.append(pa.array(own))
                if scorer.entity is not None:
                    unknown[scorer.name] += without
            write(
                pa.Table.from_arrays([records.uid, pa.array(total.astype(np.float32)), *columns], schema=schema),
                records,
            )
            rows += len(records.uid)
    return rows, unknown


@contextmanager
def _open_output(
    output: str, scores: ScoresFormat, schema: pa.Schema, config: Config
) -> Iterator[Callable[[pa.Table, Records], None]]:
    """A function that appends a batch's scores to the output."""
    if scores == "parquet":
        with storage.open_for_write(output) as file, pq.ParquetWriter(file, schema) as writer:
            yield lambda table, records: writer.write_table(table)
        return
    names = config.columns
    columns = ScoreColumns(uid=names.uid, label=names.label, weight=names.weight or "weight")
    with open_scores(output, scores, columns, model_id=config.name) as avro:

        def write(table: pa.Table, records: Records) -> None:
            score = table["score"].cast(pa.float64())
            offset = records.numbers.get("offset", np.zeros(len(table)))
            numbers: dict[str, pa.Array] = {
                role: pa.array(records.numbers[role], from_pandas=True)  # nan is null
                for role in ("label", "weight")
                if role in records.numbers
            }
            own = pa.array(score.to_numpy() - offset)
            avro.write(pa.table({"uid": table["uid"], "score": score, "score_per_coordinate": own, **numbers}))

        yield write


def _score(scorer: ScoringModel, sides: list[Records], rows: int) -> tuple[NDArray[np.float32], int]:
    ids = None
    if scorer.entity is not None:
        ids = next(side.ids[scorer.entity] for side in sides if scorer.entity in side.ids)
    bag = None if scorer.bag is None else sides[scorer.source].bags[scorer.bag]
    return scorer.score(ids, bag, rows)


def _load(
    directory: str, name: str, manifest: dict[str, Any], config: Config, layout: Layout, kind: Format
) -> ScoringModel:
    described = manifest["coordinates"][name]
    settings = config.coordinates[name]
    folder = storage.join(directory, name)
    features = FeatureList([])
    if described["bag"]:
        features = read_feature_list(storage.join(folder, "features.csv"))
    suffix = ".parquet" if kind == "native" else ".avro"
    files = [path for path, _, _ in storage.list_files(folder) if path.endswith(suffix)]
    integer = described["entity_type"] == "integer"
    if integer and layout.id_tensors()[described["entity"]].type == "text":
        raise DataError(
            f"{config.input}: column {described['entity']} holds strings, but the model of {name} has integer entities"
        )
    if kind == "native":
        tables = [read_model(path) for path in files]
        table = concatenate(tables, pa.int64() if integer else pa.string())
    else:
        fixed = described["entity"] is None
        table = read_avro(files, features, fixed=fixed, integer_entities=integer).table
    key = next(iter(layout.coordinate_bags[name].values()), None)
    feature_map = np.empty(0, np.int32)
    if key is not None:
        names = read_feature_list(layout.feature_lists[key]).names
        known = {feature: index for index, feature in enumerate(features.names)}
        feature_map = np.array([known.get(feature, -2) for feature in names], np.int32)
        lost = int(np.count_nonzero(feature_map == -2))
        if lost:
            log.warning(
                "%s: %d of %d features of the data are not in the model and count nothing", name, lost, len(names)
            )
    source = next(s.number for s in layout.sources if s.path == _path_of(config, settings.data))
    return ScoringModel(name, table, described["entity"], key, source, settings.intercept, feature_map)


def _path_of(config: Config, data: str) -> str:
    return config.input.rstrip("/") if data in {".", ""} else storage.join(config.input, data)


def _batches(
    source: Source, config: Config, layout: Layout, split: str, *, labelled: bool = False
) -> Iterator[Records]:
    """labelled: with label and weight, which may be absent or illegal in data that is only scored."""
    checks = checks_of(source, config, labelled=labelled)
    allowed = tuple(f"{column}." for column in (config.columns.label, config.columns.weight) if labelled and column)
    fatal = sum(1 << k for k, check in enumerate(checks) if not (allowed and check.name.startswith(allowed)))
    for piece in layout.pieces:
        if piece.source != source.number or piece.split != split:
            continue
        for records in read_records(piece, source, config, labelled=labelled):
            bad = np.flatnonzero(records.violations & fatal)
            if len(bad):
                first = int(bad[0])
                broken = [c for k, c in enumerate(checks) if (records.violations[first] & fatal) >> k & 1]
                raise DataError(
                    f"{piece.path}: uid {records.uid[first].as_py()} breaks '{broken[0].rule}'; {broken[0].advice}"
                )
            yield records


class _Everything:
    """All records of a further directory, to be joined to the first one's by uid."""

    def __init__(self, source: Source, config: Config, layout: Layout, split: str) -> None:
        found = list(_batches(source, config, layout, split))
        self._path = source.path
        uid_type = pa.string() if layout.uid_type == "text" else pa.int64()
        self._uid = pa.concat_arrays([pa.array([], uid_type), *(r.uid for r in found)])
        self._ids = {name: pa.concat_arrays([r.ids[name] for r in found]) for name in source.ids} if found else {}
        self._bags = {
            bag.key: bags.concatenate([r.bags[bag.key] for r in found], bag.numpy_dtype) for bag in source.bags
        }

    def of(self, uid: pa.Array) -> Records:
        """The records with these uids, in their order. Raises DataError for one that is absent."""
        at = pc.index_in(uid, value_set=self._uid)
        if at.null_count:
            missing = uid.filter(pc.is_null(at))[0].as_py()
            raise DataError(
                f"{self._path}: uid {missing} is missing ({at.null_count} are); every directory must have it"
            )
        rows = at.to_numpy(zero_copy_only=False).astype(np.int64)
        return Records(
            uid, {name: values.take(at) for name, values in self._ids.items()},
            bags={key: bags.take(bag, rows) for key, bag in self._bags.items()},
        )  # fmt: skip
