"""An export as others read it: its manifest, and only the files that this names, once they are known to be whole."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from gdmix_core import storage
from gdmix_core.errors import DataError
from gdmix_core.pipeline import manifests

log = logging.getLogger(__name__)

_ADVICE = "copy the whole export again, or make it anew (take it away and run its pipeline)"
_DESCRIBED = {"entity", "entity_type", "bag", "models"}
SUFFIXES = {"native": ".parquet", "avro": ".avro"}


@dataclass(frozen=True)
class Export:
    """directory: a path or URL; manifest: the content of its manifest.json"""

    directory: str
    manifest: dict[str, Any]

    def coordinate_files(self, name: str) -> list[str]:
        """Return the paths of all files of a coordinate. Raises DataError for one that is missing or altered."""
        folder = storage.join(self.directory, name)
        files = self.manifest.get("contents")
        if files is None:  # written by a version whose manifests named no files
            return [storage.join(folder, path) for path in storage.paths_within(folder)]
        own = manifests.below(files, name)
        manifests.verify_all(folder, own, _ADVICE)
        return [storage.join(folder, path) for path in sorted(own)]

    def model_files(self, name: str, kind: str) -> list[str]:
        """Return the files with a coordinate's models, in their order. kind: native or avro.

        Raises DataError also where there is none, or, without a manifest of files, where one of a row is missing.
        """
        paths = [path for path in self.coordinate_files(name) if path.endswith(SUFFIXES[kind])]
        folder = storage.join(self.directory, name)
        if not paths:
            raise DataError(
                f"{folder}: the export's manifest names {name}, but no {SUFFIXES[kind]} file is here; {_ADVICE}"
            )
        if "contents" not in self.manifest:
            stem = paths[0].rpartition("-")[0]
            expected = [f"{stem}-{number:05d}{SUFFIXES[kind]}" for number in range(len(paths))]
            if paths != expected:
                odd = next(iter(sorted(set(expected) ^ set(paths))))
                raise DataError(f"{folder}: files are missing or too many: look for {odd}; {_ADVICE}")
            log.warning("%s names no digests of its files: only their numbers and models are checked", self.directory)
        return paths

    def check_models(self, name: str, found: int) -> None:
        """Raise DataError where another number of models was read than the manifest says."""
        models = self.manifest["coordinates"][name]["models"]
        if models != found:
            where = storage.join(self.directory, name)
            raise DataError(f"{where}: {found} models, but the export's manifest says {models}; {_ADVICE}")


def open_export(model: str) -> Export:
    """Return the export of a run, or the one in the folder itself. Raises DataError where there is none."""
    directory = storage.join(model, "export") if storage.exists(storage.join(model, "config.yaml")) else model
    path = storage.join(directory, "manifest.json")
    if not storage.exists(path):
        raise DataError(f"{model}: neither a finished run nor an export ({path} is missing)")
    manifest = storage.read_json(path)
    if not isinstance(manifest, dict) or not {"config", "formats", "coordinates"} <= set(manifest):
        raise DataError(f"{path}: not the manifest of an export; {_ADVICE}")
    described, config = manifest["coordinates"], manifest["config"]
    wanted = config.get("coordinates") if isinstance(config, dict) else None
    if (
        not isinstance(described, dict)
        or not isinstance(wanted, dict)
        or set(described) != set(wanted)
        or not all(isinstance(each, dict) and set(each) >= _DESCRIBED for each in described.values())
        or not isinstance(files := manifest.get("contents", {}), dict)
        or not all(isinstance(entry, dict) and {"bytes", "sha256"} <= set(entry) for entry in files.values())
    ):
        raise DataError(f"{path}: its coordinates are not those of its configuration: it is damaged; {_ADVICE}")
    return Export(directory, manifest)
