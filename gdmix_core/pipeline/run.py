"""One run of a pipeline: its directory, its configuration, and which steps are already done.

Every path of the run directory is spelled here and nowhere else.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import platform
import re
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import yaml

from gdmix_core import storage
from gdmix_core.config.model import as_recorded
from gdmix_core.config.pipeline import Config
from gdmix_core.errors import DataError, ReplacedRunError, StepError
from gdmix_core.pipeline import manifests, run_directory
from gdmix_core.pipeline.loading import parse_config
from gdmix_core.pipeline.plan import CoordinateStep, Plan, Step, build_plan, evaluate_id

log = logging.getLogger(__name__)

SPLITS = ("training", "validation")

_LIBRARIES = ("gdmix-airflow", "numpy", "scipy", "numba", "pyarrow", "pyspark", "tensorflow", "apache-airflow")


class Run:
    """root: directory or URL; config: the resolved configuration it was made with.

    trial: of a trial of a search, its number, its parameters' values, and the trial it starts from, if any; frame,
    shards and whatever else all trials share lie in data_root, the run of the search.
    origin: who started the run, as far as it was said: {by: what a message calls it, passes and trials: of the
    pipeline, of which this run may make fewer}.
    """

    def __init__(
        self,
        root: str,
        config: Config,
        *,
        trial: Mapping[str, Any] | None = None,
        origin: Mapping[str, Any] | None = None,
    ) -> None:
        self.root = root
        self.config = config
        self.trial = trial
        self.origin = dict(origin or {})
        self.data_root = root if trial is None else storage.grandparent(root)
        self.plan: Plan = build_plan(config)
        self._described: dict[str, tuple[str, manifests.Files]] = {}

    @classmethod
    def create(
        cls, config: Config, *, trial: Mapping[str, Any] | None = None, origin: Mapping[str, Any] | None = None
    ) -> Run:
        """Starts (or continues) the run in config.output and writes its config.yaml.

        Raises ConfigError, before anything is written, for a directory that is not this pipeline's own.
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
        """An existing run. Raises StepError when there is none; ReplacedRunError when its configuration is not the one
        with this key."""
        root = root.rstrip("/")
        path = storage.join(root, "config.yaml")
        if not storage.exists(path):
            raise StepError(f"{root}: not a run directory (no config.yaml); start with `gdmix run CONFIG`")
        content = read_recorded(path)
        if key:
            _check_key(root, content, key)
        with as_recorded():
            config = parse_config(content["config"], where=path)
        run = cls(root, config, trial=content.get("trial"), origin=content.get("origin"))
        run.config_key = _key(content["config"])
        return run

    @cached_property
    def config_key(self) -> str:
        """A digest of the configuration as config.yaml has it: another one is another run."""
        return _key(_as_written(self.config))

    def check_not_replaced(self) -> None:
        """Raises ReplacedRunError when the directory's configuration is no longer this run's."""
        path = self.path("config.yaml")
        if storage.exists(path):
            _check_key(self.root, read_recorded(path), self.config_key)

    # Paths

    def path(self, *parts: str) -> str:
        return storage.join(self.root, *parts)

    def shared(self, *parts: str) -> str:
        """What a trial has in common with the others of its search."""
        return storage.join(self.data_root, *parts)

    def frame(self, *parts: str) -> str:
        return self.shared("frame", *parts)

    def shard(self, coordinate: str, split: str, number: int) -> str:
        return self.shared("shards", coordinate, split, f"shard-{number:05d}.parquet")

    def summary(self, bag: str) -> str:
        return self.shared("summary", f"{bag}.parquet")

    def initial(self, coordinate: str, number: int) -> str:
        return self.shared("initial", coordinate, f"shard-{number:05d}.parquet")

    def trial_root(self, number: int) -> str:
        return self.shared("trials", f"{number:03d}")

    def initial_network(self, coordinate: str, *parts: str) -> str:
        return self.shared("initial", coordinate, "network", *parts)

    def earlier_run(self) -> str:
        """Which run `initial_model` stands for, as it was chosen when this one began."""
        return self.shared("initial_model.json")

    def initial_features(self, coordinate: str) -> str:
        return self.shared("initial", coordinate, "features.csv")

    def coordinate(self, pass_number: int, coordinate: str, *parts: str) -> str:
        return self.path("passes", f"{pass_number:02d}", coordinate, *parts)

    def l2(self, pass_number: int, coordinate: str, name: str) -> str:
        """What l2: auto found: used.npz, evidence-00000.npy, next.npy."""
        return self.coordinate(pass_number, coordinate, "l2", name)

    def model(self, pass_number: int, coordinate: str, number: int) -> str:
        return self.coordinate(pass_number, coordinate, "model", f"shard-{number:05d}.parquet")

    def score_part(self, pass_number: int, coordinate: str, split: str, number: int) -> str:
        return self.coordinate(pass_number, coordinate, "scores", split, f"part-{number:05d}.npy")

    def scores(self, pass_number: int, coordinate: str, split: str) -> str:
        """pass_number 0: the initial model's, before any training."""
        if pass_number == 0:
            return self.shared("initial", coordinate, "scores", f"{split}.npy")
        return self.coordinate(pass_number, coordinate, "scores", f"{split}.npy")

    def marker(self, step: Step) -> str:
        """The file whose presence, with the step's key in it, says that the step's result is whole."""
        if step.pass_number is None or step.coordinate is None:
            return {
                "validate": self.frame("manifest.json"),
                "partition": self.shared("shards", "manifest.json"),
                "summarize": self.shared("summary", "manifest.json"),
                "initialize": self.shared("initial", "manifest.json"),
                "trials": self.path("trials", f"{step.id}.json"),
                "select": self.path("best.json"),
                "export": self.path("export", "manifest.json"),
            }[step.kind]
        name = "metrics.json" if step.kind == "evaluate" else "model/manifest.json"
        return self.coordinate(step.pass_number, step.coordinate, name)

    # What is done

    @cached_property
    def input_fingerprint(self) -> str:
        """Of the input files validate read. Raises StepError before validate."""
        manifest = self.result("validate")
        if "input_fingerprint" not in manifest:
            raise DataError(f"{self.frame('manifest.json')}: not a frame's; remove it and run the pipeline again")
        return str(manifest["input_fingerprint"])

    def reads_input(self, fingerprint: str) -> None:
        """Sets the fingerprint of the input's files as they are now, on which all keys depend."""
        self.input_fingerprint = fingerprint
        self.__dict__.pop("keys", None)

    def forget_input(self) -> None:
        """From now on the fingerprint is that of the frame."""
        self.__dict__.pop("input_fingerprint", None)
        self.__dict__.pop("keys", None)

    @cached_property
    def initial_fingerprint(self) -> str | None:
        """Of the files that initialize read; None before it, and without an initial model."""
        path = self.shared("initial", "manifest.json")
        if self.config.initial_model is None or not storage.exists(path):
            return None
        return str(storage.read_json(path)["initial_fingerprint"])

    def starts_from(self, fingerprint: str) -> None:
        """Sets the fingerprint of the initial models' files, on which the keys of initialize and of training depend."""
        self.initial_fingerprint = fingerprint
        self.__dict__.pop("keys", None)

    @cached_property
    def watched(self) -> dict[str, dict[str, str]]:
        """Digests of further files, by coordinate, on which its training's key depends; taken when the run starts."""
        path = self.shared("watched.json")
        found: dict[str, dict[str, str]] = storage.read_json(path) if self._may_watch and storage.exists(path) else {}
        return found

    def watches(self, digests: Mapping[str, dict[str, str]]) -> None:
        """Sets and keeps them."""
        if not self._may_watch:
            return
        storage.write_json(self.shared("watched.json"), digests)
        self.watched = dict(digests)
        self.__dict__.pop("keys", None)

    @property
    def _may_watch(self) -> bool:
        return any(coordinate.effect.watches_files for coordinate in self.config.coordinates.values())

    @cached_property
    def keys(self) -> dict[str, str]:
        return self.plan.keys(self.input_fingerprint, self.initial_fingerprint, self.watched)

    def result(self, step_id: str) -> dict[str, Any]:
        """The marker's content. Raises StepError when the step is not done."""
        path = self.marker(self.plan[step_id])
        if not storage.exists(path):
            raise StepError(f"{self.root}: step {step_id} has not been run ({path} is missing); run it first")
        return _mapping(path)

    def is_done(self, step: Step) -> bool:
        """Whether the step's result is there, current, and has all its files; one that has not is made again."""
        path = self.marker(step)
        if not storage.exists(path):
            return False
        try:
            content = _mapping(path)
        except DataError as error:
            log.warning("%s will be made again: %s", step.id, error)
            return False
        if content.get("key") != self.keys[step.id]:
            return False
        fault = self._fault(step, content)
        if fault is None and isinstance(step, CoordinateStep) and step.trains:
            fault = self.lost_scores(step)
        if fault is not None:
            log.warning("%s is not whole and will be made again: %s", step.id, fault)
        return fault is None

    def _fault(self, step: Step, content: Mapping[str, Any]) -> str | None:
        root, _ = self._holds(step)
        return manifests.first_fault(root, content.get("contents", {})) if root else None

    def lost_scores(self, step: CoordinateStep, *, verified: bool = False) -> str | None:
        """Which score vector of a trained coordinate is gone or of another size, after its evaluation made it of the
        parts that training left; None where there is nothing wrong.

        verified: also looks at their contents, as is always done where they are about to be evaluated anew
        """
        evaluation = self._evaluation_of(step)
        path = self.marker(evaluation)
        if not storage.exists(path):
            return None
        try:
            content = _mapping(path)
        except DataError as error:
            return str(error)
        fault = self._fault(evaluation, content)
        if fault is None and (verified or content.get("key") != self.keys[evaluation.id]):
            root, _ = self._holds(evaluation)
            try:
                manifests.verify_all(root, content.get("contents", {}), "it is made again")
            except DataError as error:
                return str(error)
        return fault

    def _evaluation_of(self, training: CoordinateStep) -> Step:
        return self.plan[evaluate_id(training.pass_number, training.coordinate)]

    def drop(self, step: Step) -> None:
        """Removes the marker of an older result: it goes before any of the result's files does.

        With that of a training goes its evaluation's, which is of the older scores.
        """
        dropped_steps = [step]
        if isinstance(step, CoordinateStep) and step.trains:
            dropped_steps.append(self._evaluation_of(step))
        for dropped in dropped_steps:
            storage.remove(self.marker(dropped))
            self._described.pop(dropped.id, None)

    def commit(self, step: Step, content: Mapping[str, Any]) -> dict[str, Any]:
        """Declares the step's result whole, and says which files it has; returns what was written.

        Raises ReplacedRunError rather than vouch for what processes below may have made with another configuration.
        """
        root, files = self._holds(step)
        marked = {"key": self.keys[step.id], "step": step.id, **content}
        if root:
            marked["contents"] = manifests.describe(root, files())
        self.check_not_replaced()
        storage.write_json(self.marker(step), marked)
        self._described.pop(step.id, None)
        return marked

    def _holds(self, step: Step) -> tuple[str, Callable[[], list[str]]]:
        """The folder that a step's marker describes, and which files in it are the result's; "" without files."""
        if step.kind in ("validate", "partition", "summarize", "initialize", "export"):
            root, folders = self.marker(step).rsplit("/", 1)[0], [""]
        elif not isinstance(step, CoordinateStep):
            return "", list
        else:
            root = self.coordinate(step.pass_number, step.coordinate)
            # A trained coordinate's scores are in parts until its evaluation brings them together.
            folders = ["scores"] if step.kind == "evaluate" else ["model", "l2"]
        own = re.compile(r"model/shard-\d+\.json|" + re.escape(self.marker(step).removeprefix(f"{root}/")))

        def paths() -> list[str]:
            found = [
                storage.join(folder, path) if folder else path
                for folder in folders
                for path in storage.paths_within(storage.join(root, folder) if folder else root)
            ]
            if step.kind in ("validate", "partition", "initialize", "export"):
                found = [path for path in found if run_directory.is_of_a_step(path)]
            return [path for path in found if not own.fullmatch(path)]

        return root, paths

    def whole(self, path: str, step_id: str) -> str:
        """The path of a file of this run, once its content is known to be what the step has written.

        Raises DataError for a file that is missing or altered. A file that the step's manifest does not describe (it is
        not committed yet, or an earlier version did) is let pass.
        """
        root, files = self._files_of(self.plan[step_id])
        entry = files.get(path.removeprefix(f"{root}/"))
        if entry is not None:
            advice = f"remove what is left of it and run the pipeline again, which makes what {step_id} made anew"
            manifests.verify(path, entry, advice)
        return path

    def has(self, path: str, step_id: str) -> bool:
        """Whether the step has written the file, by its manifest; by the file itself where none says so."""
        root, files = self._files_of(self.plan[step_id])
        return path.removeprefix(f"{root}/") in files if files else storage.exists(path)

    def _files_of(self, step: Step) -> tuple[str, manifests.Files]:
        if step.id not in self._described:
            root, _ = self._holds(step)
            path = self.marker(step)
            content = storage.read_json(path) if root and storage.exists(path) else {}
            current = "key" in content and content["key"] == self.keys[step.id]
            self._described[step.id] = (root, content.get("contents", {}) if current else {})
        return self._described[step.id]

    def require(self, step: Step) -> None:
        """Raises StepError unless every step that `step` reads is done and current."""
        for read in step.reads:
            if not self.is_done(self.plan[read]):
                raise StepError(f"{self.root}: {step.id} needs {read}, which is missing or out of date; run it first")


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


def _mapping(path: str) -> dict[str, Any]:
    content = storage.read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: not what a step writes there; remove it and run the pipeline again")
    return content


def read_recorded(path: str) -> dict[str, Any]:
    """The content of a run's config.yaml. Raises DataError where it is damaged."""
    with storage.open_for_read(path) as file:
        try:
            content = yaml.safe_load(file.read().decode())
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            content = str(error).partition("\n")[0]
    if not isinstance(content, dict) or not isinstance(content.get("config"), dict):
        raise DataError(f"{path}: not what a run writes there; it is damaged, or another file: {str(content)[:80]!r}")
    return content


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
