"""One run of a pipeline: its configuration, in its directory, with paths, markers and keys."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import platform
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import yaml

from gdmix_core import storage
from gdmix_core.config.model import leniently
from gdmix_core.config.pipeline import Config
from gdmix_core.errors import ReplacedRunError, StepError
from gdmix_core.pipeline import run_directory
from gdmix_core.pipeline.fingerprints import Digests, Fingerprints, reads_files, recorded
from gdmix_core.pipeline.loading import parse_config
from gdmix_core.pipeline.markers import Markers
from gdmix_core.pipeline.plan import build_plan
from gdmix_core.pipeline.run_directory import read_recorded

log = logging.getLogger(__name__)

SPLITS = ("training", "validation")

_LIBRARIES = ("gdmix-airflow", "numpy", "scipy", "numba", "pyarrow", "pyspark", "tensorflow", "apache-airflow")


class Run(Markers):
    """One run of a pipeline, in its directory: `Run.open` reads an existing one, `Run.create` starts one.

    Parameters
    ----------
    root
        Directory or URL.
    config
        The resolved configuration that it was made with.
    trial
        Of a trial of a search, its number, its parameters' values, and the trial it starts from, if any; frame, shards
        and whatever else all trials share lie in data_root, the run of the search.
    origin
        Who started the run, as far as it was said: {by: what a message calls it, passes and trials: of the pipeline, of
        which this run may make fewer}.
    """

    def __init__(
        self,
        root: str,
        config: Config,
        *,
        trial: Mapping[str, Any] | None = None,
        origin: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(root, root if trial is None else storage.grandparent(root), build_plan(config))
        self.config = config
        self.trial = trial
        self.origin = dict(origin or {})
        self._set: dict[str, Any] = {}
        self._keys: dict[str, str] | None = None

    @classmethod
    def create(
        cls, config: Config, *, trial: Mapping[str, Any] | None = None, origin: Mapping[str, Any] | None = None
    ) -> Run:
        """Start (or continue) the run in config.output, and write its config.yaml.

        Raises
        ------
        ConfigError
            Before anything is written, for a directory that is not this pipeline's own.
        """
        # A trial lies in the run of its search.
        root = run_directory.claim(config) if trial is None else run_directory.root_of(config)
        run = cls(root, config, trial=trial, origin=origin)
        for name, task in config.foreign_metrics.items() if trial is None else ():
            log.warning("metric %s is meant for %s: on the margins of %s it means little", name, task, config.task)
        content = {"config": _as_written(config), "versions": _versions()}
        if trial is not None:
            content["trial"] = dict(trial)
        if run.origin:
            content["origin"] = run.origin
        with storage.open_for_write(run.path("config.yaml")) as file:
            file.write(yaml.safe_dump(content, sort_keys=False).encode())
        return run

    @classmethod
    def open(cls, root: str, *, key: str | None = None) -> Run:
        """Open an existing run.

        Parameters
        ----------
        root
            Directory or URL.
        key
            The `config_key` that the run must have; None for any.

        Raises
        ------
        StepError
            When there is no run.
        ReplacedRunError
            When its configuration is not the one with this key.
        """
        root = root.rstrip("/")
        path = storage.join(root, "config.yaml")
        if not storage.exists(path):
            raise StepError(f"{root}: not a run directory (no config.yaml); start with `gdmix run CONFIG`")
        content = read_recorded(path)
        if key:
            _check_key(root, content, key)
        with leniently():
            config = parse_config(content["config"], where=path)
        run = cls(root, config, trial=content.get("trial"), origin=content.get("origin"))
        run.config_key = _key(content["config"])
        return run

    @cached_property
    def config_key(self) -> str:
        """A digest of the configuration as config.yaml has it: another one is another run."""
        return _key(_as_written(self.config))

    def check_not_replaced(self) -> None:
        """Raise ReplacedRunError when the directory's configuration is no longer this run's."""
        path = self.path("config.yaml")
        if storage.exists(path):
            _check_key(self.root, read_recorded(path), self.config_key)

    # Keys

    @property
    def fingerprints(self) -> Fingerprints:
        """The fingerprints as they were set, else as the run's files have them. Raises StepError before validate."""
        return recorded(self, self.config, self._set)

    def set_fingerprints(self, **changed: Any) -> None:
        """Set some of the fingerprints: fields of Fingerprints."""
        self._set |= changed
        self._keys = None

    def forget_input(self) -> None:
        """Take the input's fingerprint from the frame from now on."""
        self.set_fingerprints(input=None)

    def record_digests(self, digests: Digests) -> None:
        """Set and keep the digests of further files; they are taken when the run starts."""
        if reads_files(self.config):
            storage.write_json(self.file_digests(), digests)
            self.set_fingerprints(digests=digests)

    @property
    def keys(self) -> dict[str, str]:
        if self._keys is None:
            self._keys = self.plan.keys(self.fingerprints)
        return self._keys


def _as_written(config: Config) -> dict[str, Any]:
    return config.model_dump(mode="json", exclude_none=True)


def _key(config: Mapping[str, Any]) -> str:
    # A letter first: Airflow's native rendering would make a number of 12e45…
    return "k" + hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


def _check_key(root: str, content: Mapping[str, Any], key: str) -> None:
    if _key(content["config"]) != key:
        other = (content.get("origin") or {}).get("by", "a run of another origin, such as `gdmix run`")
        raise ReplacedRunError(
            f"{root}: another run has replaced the configuration there, {other}; their results would mix. When it is "
            "over, start this run anew (in Airflow clear validate with all that follows), or give it another output"
        )


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
