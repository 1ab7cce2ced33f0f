"""Scores of new data by an export's coefficients."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gdmix_core import storage
from gdmix_core.config.pipeline import Config
from gdmix_core.data.feature_list import FeatureList, read_feature_list
from gdmix_core.data.feature_map import map_of_new_data
from gdmix_core.data.id_index import IdIndex
from gdmix_core.data.id_types import arrow_type
from gdmix_core.data.ingest.source import Layout
from gdmix_core.data.ragged import Bag
from gdmix_core.effects.scorer import Batch, Format
from gdmix_core.errors import DataError
from gdmix_core.models.avro.files import read_avro
from gdmix_core.models.exported import Export
from gdmix_core.models.native import concatenate, read_model
from gdmix_core.models.predict import predict
from gdmix_core.models.table import CoefficientTable


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
        if len(bag.indices):
            bag = replace(bag, indices=self.feature_map[bag.indices])
        begin = np.arange(rows)
        scores = predict(self.table, bag, model_of, begin, begin + 1, intercept=self.intercept)
        return scores, int(np.count_nonzero(model_of < 0))


def coefficient_scorer(export: Export, name: str, config: Config, layout: Layout, kind: Format) -> LinearScorer:
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
