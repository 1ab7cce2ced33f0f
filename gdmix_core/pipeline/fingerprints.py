"""Fingerprints of what lies outside of the configuration, on which the keys of a run's steps depend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gdmix_core import storage
from gdmix_core.config.pipeline import Config
from gdmix_core.errors import DataError, StepError
from gdmix_core.pipeline.paths import RunPaths

Digests = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Fingerprints:
    """input: of the input's files; initial: of the initial models' files, None without any, and before initialize

    watched: by coordinate, digests of further files that its training reads: what a file is → SHA-256
    """

    input: str
    initial: str | None = None
    watched: Digests = field(default_factory=dict)


def input_of_frame(paths: RunPaths) -> str:
    """Of the input that validate has read. Raises StepError before validate."""
    path = paths.frame("manifest.json")
    if not storage.exists(path):
        raise StepError(f"{paths.root}: step validate has not been run ({path} is missing); run it first")
    manifest = storage.read_json(path)
    if not isinstance(manifest, dict) or "input_fingerprint" not in manifest:
        raise DataError(f"{path}: not a frame's; remove it and run the pipeline again")
    return str(manifest["input_fingerprint"])


def initial_of_run(paths: RunPaths, config: Config) -> str | None:
    """Of the files that initialize has read."""
    path = paths.shared("initial", "manifest.json")
    if config.initial_model is None or not storage.exists(path):
        return None
    return str(storage.read_json(path)["initial_fingerprint"])


def watched_by(config: Config) -> bool:
    """Whether some coordinate's training may depend on further files."""
    return any(coordinate.effect.watches_files for coordinate in config.coordinates.values())


def watched_of_run(paths: RunPaths, config: Config) -> Digests:
    """As they were when the run started."""
    path = paths.shared("watched.json")
    found: Digests = storage.read_json(path) if watched_by(config) and storage.exists(path) else {}
    return found
