"""What gives the rows of new data their scores, one for each coordinate of an exported model."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gdmix_core import storage
from gdmix_core.config.external import ExternalModel
from gdmix_core.config.pipeline import Config
from gdmix_core.data.feature_list import FeatureList, read_feature_list
from gdmix_core.data.feature_map import map_of_new_data, with_features
from gdmix_core.data.id_index import IdIndex
from gdmix_core.data.id_types import arrow_type
from gdmix_core.data.ingest.external_scores import open_scores_of, read_part
from gdmix_core.data.ingest.records import Records
from gdmix_core.data.ingest.source import Layout
from gdmix_core.data.ragged import Bag
from gdmix_core.errors import DataError
from gdmix_core.models.avro.files import read_avro
from gdmix_core.models.exported import Export
from gdmix_core.models.native import concatenate, read_model
from gdmix_core.models.network_files import SAVED_MODEL, features_file
from gdmix_core.models.table import CoefficientTable
from gdmix_core.solvers.entity.local_index import look_up_local_index, score_rows
from gdmix_core.workers.tensorflow_import import import_tensorflow

if TYPE_CHECKING:
    from gdmix_core.text.serving.scorer import SavedModelScorer

log = logging.getLogger(__name__)

Format = Literal["native", "avro"]


@dataclass(frozen=True)
class Batch:
    """Records of the same uids, in the same order, of every directory of the input."""

    sides: Sequence[Records]

    def __len__(self) -> int:
        return len(self.sides[0].uid)

    @property
    def uid(self) -> pa.Array:
        return self.sides[0].uid

    def column(self, name: str) -> pa.Array:
        """An entity or text column, int64, uint64 or string [rows]."""
        return next(side.ids[name] for side in self.sides if name in side.ids)

    def bag(self, key: str) -> Bag:
        return next(side.bags[key] for side in self.sides if key in side.bags)


class Scorer(Protocol):
    """One coordinate."""

    @property
    def name(self) -> str: ...

    @property
    def entity(self) -> str | None: ...

    def score(self, batch: Batch) -> tuple[NDArray[np.float32], int]:
        """(float32 [rows], or [rows, classes]; rows whose entity has no model)."""


@dataclass(frozen=True)
class LinearScorer:
    """Coefficients, and where in the new data their features and entities are.

    feature_map: int32 [features of the new data's list] index in the model's list, or below 0
    entities: of the table, where there are several
    """

    name: str
    table: CoefficientTable
    entities: IdIndex | None
    entity: str | None
    bag: str | None
    intercept: bool
    feature_map: NDArray[np.int32]

    def score(self, batch: Batch) -> tuple[NDArray[np.float32], int]:
        rows = len(batch)
        if self.entity is None or self.entities is None:
            model_of = np.zeros(rows, np.int64)
        else:
            model_of = self.entities.positions(batch.column(self.entity))
        bag = Bag.empty(rows) if self.bag is None else batch.bag(self.bag)
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


@dataclass(frozen=True)
class GivenScores:
    """Scores that another system, or the user's own code, gave the new data. zero: what a uid without one gets is 0."""

    name: str
    uids: IdIndex
    values: NDArray[np.float32]
    zero: bool
    entity: None = None

    def score(self, batch: Batch) -> tuple[NDArray[np.float32], int]:
        at = self.uids.positions(batch.uid)
        absent = np.flatnonzero(at < 0)
        if len(absent) and not self.zero:
            missing = batch.uid[int(absent[0])].as_py()
            raise DataError(f"coordinate {self.name}: uid {missing} has no score ({len(absent)} of a batch have none)")
        scores = np.zeros(len(at), np.float32)
        scores[at >= 0] = self.values[at[at >= 0]]
        return scores, 0


@dataclass(frozen=True)
class NetworkScorer:
    """A text network. bags: by name, its key in the new data and its feature map, as LinearScorer's."""

    name: str
    network: SavedModelScorer
    fields: tuple[str, ...]
    bags: Mapping[str, tuple[str, NDArray[np.int32]]]
    entity: None = None

    def score(self, batch: Batch) -> tuple[NDArray[np.float32], int]:
        columns = {name: batch.column(name).cast(pa.string()) for name in self.fields}
        bags = {name: with_features(batch.bag(key), to) for name, (key, to) in self.bags.items()}
        return np.asarray(self.network.score(columns, bags, len(batch)), np.float32), 0


def load_scorer(
    export: Export,
    name: str,
    config: Config,
    layout: Layout,
    kind: Format,
    given: Sequence[str] | None,
) -> Scorer:
    """The scorer of a coordinate of an export; given: files with its scores of the new data, if any."""
    coordinate = config.coordinates[name].kind
    if coordinate in ("external", "python"):
        return _given(name, config, layout, given)
    if given is not None:
        raise DataError(
            f"coordinate {name}: its model is {coordinate} and scores the data itself; give no scores for it"
        )
    if coordinate == "text":
        export.coordinate_files(name)  # known to be whole before TensorFlow reads them by itself
        return _network(export.directory, name, config, layout)
    return _linear(export, name, config, layout, kind)


def _given(name: str, config: Config, layout: Layout, paths: Sequence[str] | None) -> GivenScores:
    if not paths:
        raise DataError(
            f"coordinate {name}: its model is not in the export, so the scores it gives the new data have to be given: "
            f"--external {name}=FILE (a uid and a score a row; Parquet, CSV or Avro)"
        )
    settings = config.coordinates[name].fixed_effect
    model = settings if isinstance(settings, ExternalModel) else ExternalModel(model="external", scores=list(paths))
    files = open_scores_of(name, model, config, paths)
    where = f"{', '.join(paths)}: scores of coordinate {name}"
    uid_type = arrow_type(layout.uid_type)
    parts = [batch for part in files.parts for batch in read_part(part, layout.uid_type)]
    uid = pa.concat_arrays([pa.array([], uid_type), *(uids for uids, _ in parts)])
    values = np.concatenate([np.empty(0), *(scores.to_numpy(zero_copy_only=False) for _, scores in parts)])
    counts = pc.value_counts(uid.drop_null())
    twice = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(twice):
        raise DataError(f"{where}: uid {twice[0]['values'].as_py()} has several ({len(twice)} uids have)")
    with np.errstate(over="ignore"):
        scores = values.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        raise DataError(f"{where}: uid {uid[int(bad[0])].as_py()} has {values[bad[0]]}, which is no finite float32")
    known = uid.is_valid()
    scores = scores[known.to_numpy(zero_copy_only=False)]
    return GivenScores(name, IdIndex(uid.filter(known)), scores, zero=model.missing == "zero")


def _network(directory: str, name: str, config: Config, layout: Layout) -> NetworkScorer:
    import_tensorflow(keras=False, gpus=True, extra="text", what=f"coordinate {name}: its text network")
    from gdmix_core.text.serving.scorer import open_network

    settings = config.coordinates[name].text
    bags = {}
    for bag in settings.bags:
        features = read_feature_list(storage.join(directory, name, features_file(bag)))
        key = layout.coordinate_bags[name][bag]
        bags[bag] = (key, map_of_new_data(name, features, layout.feature_lists[key]))
    network = open_network(storage.join(directory, name, SAVED_MODEL), settings)
    return NetworkScorer(name, network, settings.fields, bags)


def _linear(export: Export, name: str, config: Config, layout: Layout, kind: Format) -> LinearScorer:
    folder = storage.join(export.directory, name)
    described = export.manifest["coordinates"][name]
    files = export.model_files(name, kind)
    features = FeatureList([])
    if described["bag"]:
        features = read_feature_list(storage.join(folder, "features.csv"))
    entity_type = described["entity_type"] or "text"
    if entity_type != "text" and layout.id_types()[described["entity"]] == "text":
        raise DataError(
            f"{config.input}: column {described['entity']} holds strings, but the model of {name} has integer entities"
        )
    if kind == "native":
        tables = [read_model(path) for path in files]
        table = concatenate(tables, arrow_type(entity_type))
    else:
        fixed = described["entity"] is None
        table = read_avro(
            files,
            features,
            fixed=fixed,
            integer_entities=entity_type == "integer",
            unsigned_entities=entity_type == "unsigned",
        ).table
    export.check_models(name, len(table))
    table.check(folder, features=len(features), intercept=config.coordinates[name].intercept)
    if described["entity"] is None and len(table) != 1:
        raise DataError(f"{folder}: a fixed effect is one model, found {len(table)}")
    key = next(iter(layout.coordinate_bags[name].values()), None)
    mapped = np.empty(0, np.int32)
    if key is not None:
        mapped = map_of_new_data(name, features, layout.feature_lists[key])
    entities = None if described["entity"] is None else IdIndex(table.entities)
    return LinearScorer(name, table, entities, described["entity"], key, config.coordinates[name].intercept, mapped)
