"""Scores of new data by an export's text network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gdmix_core import storage
from gdmix_core.config.pipeline import Config
from gdmix_core.data.feature_list import read_feature_list
from gdmix_core.data.feature_map import map_of_new_data, with_features
from gdmix_core.data.ingest.source import Layout
from gdmix_core.effects.scorer import Batch
from gdmix_core.models.network_files import SAVED_MODEL, features_file
from gdmix_core.workers.tensorflow_import import import_tensorflow

if TYPE_CHECKING:
    from gdmix_core.text.serving.scorer import SavedModelScorer


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


def network_scorer(directory: str, name: str, config: Config, layout: Layout) -> NetworkScorer:
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
