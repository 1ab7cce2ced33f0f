"""Fingerprints of what lies outside of the configuration, on which the keys of a run's steps depend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gdmix_core import storage
from gdmix_core.config.pipeline import Config
from gdmix_core.errors import DataError, StepError
from gdmix_core.pipeline.paths import RunPaths

Digests = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Fingerprints:
    """Fingerprints of a run's files.

    input: of the input's files; initial: of the initial models' files, None without any, and before initialize
    digests: by coordinate, digests of further files that its training reads: what a file is → SHA-256
    """

    input: str
    initial: str | None = None
    digests: Digests = field(default_factory=dict)


def recorded(paths: RunPaths, config: Config, known: Mapping[str, Any]) -> Fingerprints:
    """Return the fingerprints of a run: those that are known, the others as its files have them.

    Raises StepError before validate, unless that of the input is known.
    """
    return Fingerprints(
        known.get("input") or _input_of_frame(paths),
        known["initial"] if "initial" in known else _initial_of_run(paths, config),
        known["digests"] if "digests" in known else _digests_of_run(paths, config),
    )


def _input_of_frame(paths: RunPaths) -> str:
    path = paths.frame("manifest.json")
    if not storage.exists(path):
        raise StepError(f"{paths.root}: step validate has not been run ({path} is missing); run it first")
    manifest = storage.read_json(path)
    if not isinstance(manifest, dict) or "input_fingerprint" not in manifest:
        raise DataError(f"{path}: not a frame's; remove it and run the pipeline again")
    return str(manifest["input_fingerprint"])


def _initial_of_run(paths: RunPaths, config: Config) -> str | None:
    path = paths.shared("initial", "manifest.json")
    if config.initial_model is None or not storage.exists(path):
        return None
    return str(storage.read_json(path)["initial_fingerprint"])


def _digests_of_run(paths: RunPaths, config: Config) -> Digests:
    path = paths.file_digests()
    found: Digests = storage.read_json(path) if reads_files(config) and storage.exists(path) else {}
    return found


def reads_files(config: Config) -> bool:
    """Return whether some coordinate's training may depend on further files."""
    return any(coordinate.effect.reads_files for coordinate in config.coordinates.values())
