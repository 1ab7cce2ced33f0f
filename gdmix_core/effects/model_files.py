"""A coordinate's models of a pass, copied out of the run into an export's folder."""

from __future__ import annotations

from collections.abc import Iterable

from gdmix_core import storage
from gdmix_core.data.feature_list import write_feature_list
from gdmix_core.data.frame import Frame
from gdmix_core.models.avro.files import write_avro
from gdmix_core.models.initial.written import features_of_bags, model_features
from gdmix_core.models.native import read_model, write_model
from gdmix_core.models.network_files import CLASSES, features_file
from gdmix_core.pipeline.plan import train_id
from gdmix_core.pipeline.run import Run


def export_coefficients(run: Run, frame: Frame, pass_number: int, name: str, directory: str) -> int:
    """Writes coefficients in the configuration's formats, with the list of their features; returns their models."""
    settings = run.config.coordinates[name]
    features = model_features(run, frame, name)
    if frame.bag_of(name):
        write_feature_list(storage.join(directory, "features.csv"), features)
    sharded = settings.effect.is_sharded
    shards = int(run.result("partition")["coordinates"][name]["shards"]) if sharded else 1
    models = 0
    for number in range(shards):
        path = run.whole(run.model(pass_number, name, number), train_id(pass_number, name))
        table = read_model(path)
        table.check(path, features=len(features), intercept=settings.intercept)
        models += len(table.entities)
        if "native" in run.config.export.formats:
            write_model(storage.join(directory, f"shard-{number:05d}.parquet"), table)
        if "avro" in run.config.export.formats:
            path = storage.join(directory, f"part-{number:05d}.avro")
            threshold = run.config.export.sparsity_threshold
            write_avro(path, table, features, run.config.task, fixed=not sharded, sparsity_threshold=threshold)
    return models


def export_files(
    run: Run, frame: Frame, pass_number: int, name: str, directory: str, folder: str, beside: Iterable[str] = ()
) -> None:
    """Copies a model without coefficients: a folder of what its training left, files beside it, and feature lists.

    folder: empty where training leaves no model; beside: files that may be absent
    """
    model = run.coordinate(pass_number, name, "model")
    for path in storage.paths_within(model):
        run.whole(storage.join(model, path), train_id(pass_number, name))
    for bag, features in features_of_bags(run, frame, name).items():
        write_feature_list(storage.join(directory, features_file(bag)), features)
    if label := frame.manifest.get("label_bag"):
        write_feature_list(storage.join(directory, CLASSES), frame.feature_list(label))
    if folder:
        storage.copy_directory(storage.join(model, folder), storage.join(directory, folder))
    for file in beside:
        if storage.exists(storage.join(model, file)):
            storage.copy_file(storage.join(model, file), storage.join(directory, file))
