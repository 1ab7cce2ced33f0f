"""The search for earlier models: in a run of ours, its export, a folder that Photon ML or GDMix wrote, or Avro files.

Text networks are found in exports only.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa

from gdmix_core import storage
from gdmix_core.config.coordinate import KINDS, Coordinate
from gdmix_core.config.pipeline import Config
from gdmix_core.data.feature_list import FeatureList, read_feature_list
from gdmix_core.data.ingest.input_files import flat_files
from gdmix_core.errors import DataError
from gdmix_core.models.avro.files import read_avro
from gdmix_core.models.exported import open_export
from gdmix_core.models.initial.network import InitialNetwork, find_network
from gdmix_core.models.initial.newest_run import Choice, choose
from gdmix_core.models.native import read_model
from gdmix_core.models.table import CoefficientTable

File = tuple[str, int, str]
"""(path, size in bytes, change stamp)"""

# What Photon ML calls a coordinate's folder, by whether its effect is fixed; below it lies the folder `coefficients`.
_PHOTON_FOLDERS = {True: "fixed-effect", False: "random-effect"}


@dataclass(frozen=True)
class InitialFiles:
    """Files with the models of one coordinate.

    where: the folder or file that was named
    files: all .parquet (our format) or all .avro
    features: the list that the indices of our format refer to; None for Avro, and for models of intercepts
    task: the task they were trained for; None where the files have to say
    models: how many there are in all files; None where no manifest says it
    """

    where: str
    files: list[File]
    features: File | None = None
    task: str | None = None
    models: int | None = None

    def read(
        self, *, task: str, fixed: bool, entity_type: pa.DataType
    ) -> Iterator[tuple[CoefficientTable, FeatureList]]:
        """Yield the models file by file, each with the list that its feature indices refer to.

        entity_type: what entities are here; models of our format keep the type that they have.
        Raises DataError for models of another task, and for whatever read_avro and read_model refuse.
        """
        paths = [path for path, _, _ in self.files]
        if self.task is not None:
            _check_task(self.where, self.task, task)
        if paths[0].endswith(".parquet"):
            features = read_feature_list(self.features[0]) if self.features else FeatureList([])
            found_models = 0
            for path in paths:
                table = read_model(path)
                table.check(path, features=len(features))
                found_models += len(table)
                yield table, features
            if self.models not in (None, found_models):
                raise DataError(f"{self.where}: {found_models} models, but the export's manifest says {self.models}")
            return
        # A fixed effect's one model may be in any of its files; the others are then empty.
        for part in [paths] if fixed else [[path] for path in paths]:
            found = read_avro(
                part,
                fixed=fixed,
                integer_entities=entity_type == pa.int64(),
                unsigned_entities=entity_type == pa.uint64(),
            )
            if found.task is not None:
                _check_task(", ".join(part), found.task, task)
            yield found.table, found.features


def _check_task(where: str, found: str, task: str) -> None:
    if found != task:
        raise DataError(f"{where}: models of {found}, but this pipeline's task is {task}; they cannot be started from")


def linear_coordinates(config: Config) -> dict[str, Coordinate]:
    """Return the coordinates whose models are coefficients, which every kind of earlier model may hold."""
    return {name: c for name, c in config.coordinates.items() if c.has_coefficients}


def find_initial(config: Config, choice: Choice | None = None) -> dict[str, InitialFiles | InitialNetwork]:
    """Return the earlier models of each coordinate that takes them and has any.

    choice: what the run has recorded of the path that is read; None: as it would choose now.
    Raises DataError when there is nothing at a path (it names every such path), or nothing of this pipeline, or nothing
    for a locked coordinate; and as find_network does.
    """
    initial = config.initial_model
    assert initial is not None
    found: dict[str, InitialFiles | InitialNetwork] = {}
    absent: list[str] = []
    choice = choice or choose(config)
    if choice is not None and choice.taken is not None:
        try:
            found.update(_in_folder(config, choice.taken))
        except DataError as error:
            absent.append(str(error))
    for name, path in initial.coordinates.items():
        files = _avro_files(path.rstrip("/"))
        _check_export_around(path.rstrip("/"))
        found[name] = InitialFiles(path, files)
        if not files:
            absent.append(f"initial_model.coordinates.{name}: {path}: no Avro file (*.avro) is there")
            continue
    if absent:
        raise DataError("\n".join(absent))
    wanted = [name for name, coordinate in config.coordinates.items() if coordinate.takes_initial_model]
    if not found and wanted and initial.required:
        raise DataError(
            f"initial_model: {initial.path} has none of this pipeline's coordinates ({', '.join(wanted)}); "
            "they are found by name; initial_model.coordinates can give Avro files for any name"
        )
    for name, earlier in found.items():
        if isinstance(earlier, InitialFiles) and config.coordinates[name].fixed_effect is not None:
            _check_single(earlier)
    for name, coordinate in config.coordinates.items():
        if coordinate.locked and name not in found:
            raise DataError(
                f"coordinate {name} is locked, but {initial.path or 'initial_model'} has no model of it (it has "
                f"{', '.join(found) or 'nothing'}); train it, or give its files in initial_model.coordinates"
            )
    return found


def _check_export_around(path: str) -> None:
    """Check a coordinate's folder in an export of ours. Raises DataError unless all of its files are whole."""
    export, _, name = path.rpartition("/")
    if not export or not storage.exists(storage.join(export, "manifest.json")):
        return
    content = storage.read_json(storage.join(export, "manifest.json"))
    if isinstance(content, dict) and name in content.get("coordinates", {}):
        open_export(export).coordinate_files(name)


def _check_single(model: InitialFiles) -> None:
    """Raise DataError unless the files of a fixed effect hold exactly one model.

    They are small, and read here so that the fault is found before a run starts.
    """
    paths = [path for path, _, _ in model.files]
    if paths[0].endswith(".avro"):
        read_avro(paths, fixed=True)
    elif len(paths) > 1:
        raise DataError(
            f"{model.where}: a fixed effect is one model, but there are {len(paths)} files: {', '.join(paths)}"
        )


def fingerprint(models: Mapping[str, InitialFiles | InitialNetwork]) -> str:
    """Return a hash of names, sizes and change stamps of all files: a different one means different models."""
    content = {
        name: [(path.rsplit("/", 1)[-1], size, stamp) for path, size, stamp in _all_files(model)]
        for name, model in models.items()
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]


def _all_files(model: InitialFiles | InitialNetwork) -> list[File]:
    more = [model.features] if isinstance(model, InitialFiles) and model.features else []
    return [*model.files, *more]


def _in_folder(config: Config, path: str) -> Mapping[str, InitialFiles | InitialNetwork]:
    is_run = storage.exists(storage.join(path, "config.yaml"))
    export = storage.join(path, "export") if is_run else path
    if storage.exists(storage.join(export, "manifest.json")):
        return _in_export(config, export)
    if is_run:
        raise DataError(
            f"initial_model: {path} is a run without an export, begun and not finished; finish it (`gdmix run`, or "
            "clear its failed tasks), give the path of an earlier one, or say required: false, which takes the newest "
            "finished one before it"
        )
    if any(storage.exists(storage.join(path, folder)) for folder in _PHOTON_FOLDERS.values()):
        folders = {
            name: storage.join(path, _PHOTON_FOLDERS[c.fixed_effect is not None], name)
            for name, c in linear_coordinates(config).items()
        }
    else:
        folders = {name: storage.join(path, name, "models") for name in linear_coordinates(config)}  # GDMix's layout
    models = {name: InitialFiles(folder, _avro_files(folder)) for name, folder in folders.items()}
    found = {name: model for name, model in models.items() if model.files}
    if not found and not storage.list_folder(path):
        raise DataError(
            f"initial_model: nothing is at {path}; finish the run that should have left its models there, or say "
            "required: false to start from nothing where there is nothing"
        )
    if not found:
        raise DataError(
            f"initial_model: {path} is neither a run, nor an export (manifest.json), nor a folder of Photon ML "
            "(fixed-effect/NAME, random-effect/NAME) or GDMix (NAME/models) with a coordinate of this pipeline "
            f"({', '.join(config.coordinates)})"
        )
    return found


def _in_export(config: Config, export: str) -> dict[str, InitialFiles | InitialNetwork]:
    opened = open_export(export)
    manifest = opened.manifest
    kind_of_files = "native" if "native" in manifest["formats"] else "avro"
    found: dict[str, InitialFiles | InitialNetwork] = {}
    for name, coordinate in config.coordinates.items():
        described = manifest["coordinates"].get(name)
        kind = None if described is None else described.get("kind", "linear")
        if coordinate.takes_initial_model and coordinate.effect.is_network and kind == coordinate.kind:
            opened.coordinate_files(name)
            found[name] = find_network(export, manifest, name, config)
        if not coordinate.has_coefficients or kind not in KINDS or not KINDS[kind].has_coefficients:
            continue
        if (described["entity"] is None) != (coordinate.fixed_effect is not None):
            kind = "a fixed effect" if described["entity"] is None else f"a random effect of {described['entity']}"
            raise DataError(f"{export}: coordinate {name} is {kind} there, so it needs another name here")
        folder = storage.join(export, name)
        paths = set(opened.model_files(name, kind_of_files))
        files = storage.list_files(folder)
        lists = [file for file in files if file[0].endswith("/features.csv")]
        found[name] = InitialFiles(
            folder,
            [file for file in files if file[0] in paths],
            lists[0] if lists and kind_of_files == "native" else None,
            manifest["config"]["task"],
            described["models"],
        )
    return found


def _avro_files(path: str) -> list[File]:
    """Return a file itself, or the Avro files of a folder or of its folder `coefficients`."""
    if path.endswith(".avro"):
        parent, _, name = path.rpartition("/")
        return [file for file in storage.list_files(parent or ".") if file[0].rsplit("/", 1)[-1] == name]
    for folder in (path, storage.join(path, "coefficients")):
        # Of our own export the other format's files lie beside them.
        own = [name for name in storage.names_in(folder) if re.fullmatch(r"shard-\d{5}\.parquet|features\.csv", name)]
        files = flat_files(folder, (".avro",), harmless=("coefficients", "id-info", *own))
        if files:
            return files
    return []
