"""The models a run starts from, as the `initialize` step has laid them out: in this run's shards and features."""

from __future__ import annotations

import pyarrow as pa

from gdmix_core import storage
from gdmix_core.data.feature_list import FeatureList, read_feature_list
from gdmix_core.data.frame import Frame
from gdmix_core.models.native import concatenate, read_model
from gdmix_core.models.network_files import features_file
from gdmix_core.models.table import CoefficientTable
from gdmix_core.pipeline.run import Run


def read_initial(run: Run, coordinate: str, number: int) -> CoefficientTable | None:
    """Earlier models of one shard's entities (a fixed effect has shard 0 alone), sorted by entity; None without any.

    Feature indices refer to model_features, which begins with the coordinate's feature list of this run. Every model
    has an intercept where the coordinate has one, and none where it has none.
    """
    if run.config.initial_model is None:  # What lies there is left from a configuration that had one.
        return None
    path = run.initial(coordinate, number)
    return read_model(run.whole(path, "initialize")) if storage.exists(path) else None


def initial_network(run: Run, coordinate: str) -> str | None:
    """The folder with the network that a text coordinate starts from in the first pass, or, if it is locked, is."""
    if run.config.initial_model is None or not run.config.coordinates[coordinate].takes_initial_model:
        return None
    folder = run.initial_network(coordinate)
    return folder if storage.list_files(folder) else None


def features_of_bags(run: Run, frame: Frame, coordinate: str) -> dict[str, FeatureList]:
    """Return the feature list of every bag that a model without coefficients reads: its indices refer to it."""
    if run.config.coordinates[coordinate].locked:
        folder = run.initial_network(coordinate)
        bags = frame.bags_of(coordinate)
        return {
            bag: read_feature_list(run.whole(storage.join(folder, features_file(bag)), "initialize")) for bag in bags
        }
    return {bag: frame.feature_list(key) for bag, key in frame.bags_of(coordinate).items()}


def model_features(run: Run, frame: Frame, coordinate: str) -> FeatureList:
    """List the features a coordinate's models may have: its bag's, then those that only the initial models have."""
    extended = run.initial_features(coordinate)
    if frame.bag_of(coordinate) and run.config.initial_model is not None and storage.exists(extended):
        return read_feature_list(run.whole(extended, "initialize"))
    return frame.feature_list_of(coordinate)


def initial_table(run: Run, coordinate: str, number: int, entity_type: pa.DataType) -> CoefficientTable:
    """Return the initial models of a shard; an empty table where none of its entities has one."""
    return read_initial(run, coordinate, number) or concatenate([], entity_type)
