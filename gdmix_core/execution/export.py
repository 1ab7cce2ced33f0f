"""The best pass's models, copied out of the run in the formats asked for; an export needs nothing else to score."""

from __future__ import annotations

import logging
from typing import Any

from gdmix_core import storage
from gdmix_core.data.feature_list import write_feature_list
from gdmix_core.data.frame import Frame
from gdmix_core.models.avro.files import write_avro
from gdmix_core.models.initial.written import features_of_bags, model_features
from gdmix_core.models.native import read_model, write_model
from gdmix_core.models.network_files import CLASSES, INPUTS, SAVED_MODEL, WEIGHTS, features_file
from gdmix_core.pipeline import run_directory
from gdmix_core.pipeline.once import once
from gdmix_core.pipeline.plan import Step, pass_of_model, train_id
from gdmix_core.pipeline.run import Run
from gdmix_core.search.selection import selected_run

# In a coordinate's model folder, what is exported of models that have no coefficients; external ones have none.
MODEL_FOLDERS = {"text": SAVED_MODEL, "python": "files"}
# What a later run starts from; a locked network may come from an export that has none.
_TO_START_FROM = (WEIGHTS, INPUTS)

log = logging.getLogger(__name__)


def export(run: Run, step: Step) -> dict[str, Any]:
    """Writes <run>/export and, last, its manifest.json; returns {path, pass, formats, models}."""

    def after(content: dict[str, Any]) -> None:
        log.info("exported pass %d to %s", content["pass"], run.path("export"))

    return _result(run, once(run, step, lambda: _export(run), after=after))


def _export(run: Run) -> dict[str, Any]:
    best, chosen = run.result("select"), selected_run(run)
    frame = Frame(run)
    run_directory.clear(run.path("export"))
    coordinates = {
        name: _export_coordinate(chosen, frame, best["pass"], name, run.path("export", name))
        for name in run.config.coordinates
    }
    return {
        "config": chosen.config.model_dump(mode="json", exclude_none=True),
        "pass": best["pass"],
        "metrics": best["metrics"],
        "formats": list(run.config.export.formats),
        "uid_type": frame.manifest["uid_type"],
        "coordinates": coordinates,
    }


def _export_coordinate(run: Run, frame: Frame, best: int, name: str, directory: str) -> dict[str, Any]:
    settings = run.config.coordinates[name]
    if not settings.has_coefficients:
        return _export_other(run, frame, best, name, directory)
    fixed = settings.fixed_effect is not None
    shards = 1 if fixed else int(run.result("partition")["coordinates"][name]["shards"])
    number_of_pass = pass_of_model(run.config, best, name)
    features = model_features(run, frame, name)
    if frame.bag_of(name):
        write_feature_list(storage.join(directory, "features.csv"), features)
    models = 0
    for number in range(shards):
        path = run.whole(run.model(number_of_pass, name, number), train_id(number_of_pass, name))
        table = read_model(path)
        table.check(path, features=len(features), intercept=settings.intercept)
        models += len(table.entities)
        if "native" in run.config.export.formats:
            write_model(storage.join(directory, f"shard-{number:05d}.parquet"), table)
        if "avro" in run.config.export.formats:
            path = storage.join(directory, f"part-{number:05d}.avro")
            threshold = run.config.export.sparsity_threshold
            write_avro(path, table, features, run.config.task, fixed=fixed, sparsity_threshold=threshold)
    entity = None if settings.random_effect is None else settings.random_effect.entity
    return {
        "kind": settings.kind,
        "entity": entity,
        "entity_type": frame.manifest["ids"][entity] if entity else None,
        "bag": settings.bag,
        "data": settings.data,
        "intercept": settings.intercept,
        "models": models,
    }


def _export_other(run: Run, frame: Frame, best: int, name: str, directory: str) -> dict[str, Any]:
    """A model that has no coefficients: what its training left in the run, and the features its indices mean."""
    settings = run.config.coordinates[name]
    number = pass_of_model(run.config, best, name)
    model = run.coordinate(number, name, "model")
    for path in storage.paths_within(model):
        run.whole(storage.join(model, path), train_id(number, name))
    for bag, features in features_of_bags(run, frame, name).items():
        write_feature_list(storage.join(directory, features_file(bag)), features)
    if label := frame.manifest.get("label_bag"):
        write_feature_list(storage.join(directory, CLASSES), frame.feature_list(label))
    folder = MODEL_FOLDERS.get(settings.kind)
    if folder is not None:
        storage.copy_directory(storage.join(model, folder), storage.join(directory, folder))
    for file in _TO_START_FROM if settings.kind == "text" else ():
        if storage.exists(storage.join(model, file)):
            storage.copy_file(storage.join(model, file), storage.join(directory, file))
    return {
        "kind": settings.kind,
        "entity": None,
        "entity_type": None,
        "bag": None,
        "data": settings.data,
        "intercept": False,
        "models": 0 if folder is None else 1,
    }


def _result(run: Run, content: dict[str, Any]) -> dict[str, Any]:
    models = {name: c["models"] for name, c in content["coordinates"].items()}
    return {"path": run.path("export"), "pass": content["pass"], "formats": content["formats"], "models": models}
