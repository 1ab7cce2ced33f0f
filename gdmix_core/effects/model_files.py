"""A coordinate's models of a pass, copied out of the run into an export's folder."""

from __future__ import annotations

from collections.abc import Iterable

from gdmix_core import storage
from gdmix_core.data.feature_list import write_feature_list
from gdmix_core.models.avro.files import write_avro
from gdmix_core.models.initial.written import features_of_bags, model_features
from gdmix_core.models.native import read_model, write_model
from gdmix_core.models.network_files import CLASSES, features_file
from gdmix_core.training_context import TrainingContext


def export_coefficients(context: TrainingContext, directory: str) -> int:
    """Write coefficients in the configuration's formats, with the list of their features; return their models."""
    settings, export, frame = context.settings, context.config.export, context.frame
    features = model_features(context.run, frame, context.name)
    if frame.bag_of(context.name):
        write_feature_list(storage.join(directory, "features.csv"), features)
    sharded = settings.effect.is_sharded
    models = 0
    for number in range(context.partition["shards"] if sharded else 1):
        path = context.whole(context.model(number))
        table = read_model(path)
        table.check(path, features=len(features), intercept=settings.intercept)
        models += len(table.entities)
        if "native" in export.formats:
            write_model(storage.join(directory, f"shard-{number:05d}.parquet"), table)
        if "avro" in export.formats:
            path = storage.join(directory, f"part-{number:05d}.avro")
            threshold = export.sparsity_threshold
            write_avro(path, table, features, context.config.task, fixed=not sharded, sparsity_threshold=threshold)
    return models


def export_files(context: TrainingContext, directory: str, folder: str, beside: Iterable[str] = ()) -> None:
    """Copy a model without coefficients: a folder of what its training left, files beside it, and feature lists.

    folder: empty where training leaves no model; beside: files that may be absent
    """
    for path in storage.paths_within(context.folder("model")):
        context.whole(context.model_file(path))
    for bag, features in features_of_bags(context.run, context.frame, context.name).items():
        write_feature_list(storage.join(directory, features_file(bag)), features)
    if label := context.frame.manifest.get("label_bag"):
        write_feature_list(storage.join(directory, CLASSES), context.frame.feature_list(label))
    if folder:
        storage.copy_directory(context.model_file(folder), storage.join(directory, folder))
    for file in beside:
        if storage.exists(context.model_file(file)):
            storage.copy_file(context.model_file(file), storage.join(directory, file))
