"""Markers of the steps that are done: they say that a result is whole, what it is of, and which files it has."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from gdmix_core import storage
from gdmix_core.errors import DataError, StepError
from gdmix_core.pipeline import manifests, run_directory
from gdmix_core.pipeline.paths import RunPaths
from gdmix_core.pipeline.plan import CoordinateStep, Plan, Step, evaluate_id

log = logging.getLogger(__name__)

# Steps that are not of one coordinate and write more than their marker.
_WITH_FILES = ("validate", "partition", "summarize", "initialize", "accelerate", "export")


class Markers(RunPaths):
    """The markers of a run. plan: the run's steps"""

    def __init__(self, root: str, data_root: str, plan: Plan) -> None:
        super().__init__(root, data_root)
        self.plan = plan
        self._described: dict[str, tuple[str, manifests.Files]] = {}

    @property
    def keys(self) -> dict[str, str]:
        """The key of every step, which a current result carries."""
        raise NotImplementedError

    def check_not_replaced(self) -> None:
        """Raise ReplacedRunError when the directory's configuration is no longer this run's."""
        raise NotImplementedError

    def result(self, step_id: str) -> dict[str, Any]:
        """Return the marker's content. Raises StepError when the step is not done."""
        path = self.marker(self.plan[step_id])
        if not storage.exists(path):
            raise StepError(f"{self.root}: step {step_id} has not been run ({path} is missing); run it first")
        return _mapping(path)

    def is_done(self, step: Step) -> bool:
        """Return whether the step's result is there, current, and has all its files; else it is made again."""
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
        folder = self._folder(step)
        return manifests.first_fault(folder, content.get("contents", {})) if folder else None

    def lost_scores(self, step: CoordinateStep, *, verified: bool = False) -> str | None:
        """Say which score vector of a trained coordinate is gone or of another size, after its evaluation made it of
        the parts that training left; None where nothing is wrong.

        verified: look at their contents, too, as is always done where they are about to be evaluated anew
        """
        evaluation = self._evaluation_of(step)
        path = self.marker(evaluation)
        if not storage.exists(path):
            return None
        try:
            content = _mapping(path)
            fault = self._fault(evaluation, content)
            if fault is None and (verified or content.get("key") != self.keys[evaluation.id]):
                manifests.verify_all(self._folder(evaluation), content.get("contents", {}), "it is made again")
        except DataError as error:
            return str(error)
        return fault

    def _evaluation_of(self, training: CoordinateStep) -> Step:
        return self.plan[evaluate_id(training.pass_number, training.coordinate)]

    def drop(self, step: Step) -> None:
        """Remove the marker of an older result, before any of the result's files is removed.

        With the marker of a training its evaluation's is removed, which is of the older scores.
        """
        dropped_steps = [step]
        if isinstance(step, CoordinateStep) and step.trains:
            dropped_steps.append(self._evaluation_of(step))
        for dropped in dropped_steps:
            storage.remove(self.marker(dropped))
            self._described.pop(dropped.id, None)

    def commit(self, step: Step, content: Mapping[str, Any]) -> dict[str, Any]:
        """Declare the step's result whole, and say which files it has; return what was written.

        Raises ReplacedRunError rather than vouch for what processes below may have made with another configuration.
        """
        folder = self._folder(step)
        marked = {"key": self.keys[step.id], "step": step.id, **content}
        if folder:
            marked["contents"] = manifests.describe(folder, self._files_in(folder, step))
        self.check_not_replaced()
        storage.write_json(self.marker(step), marked)
        self._described.pop(step.id, None)
        return marked

    def _folder(self, step: Step) -> str:
        """Return the folder whose files the step's marker lists; "" where the marker is the whole result."""
        if isinstance(step, CoordinateStep):
            return self.coordinate(step.pass_number, step.coordinate)
        return self.marker(step).rpartition("/")[0] if step.kind in _WITH_FILES else ""

    def _files_in(self, folder: str, step: Step) -> list[str]:
        """Return the files that are the step's result, but for the marker: their paths below the folder."""
        if isinstance(step, CoordinateStep):
            # A trained coordinate's scores are in parts until its evaluation brings them together.
            parts = ("model", "l2") if step.trains else ("scores",)
            found = [f"{part}/{path}" for part in parts for path in storage.paths_within(storage.join(folder, part))]
        else:
            found = storage.paths_within(folder)
            if step.kind not in ("summarize", "accelerate"):
                found = [path for path in found if run_directory.is_of_a_step(path)]
        markers = re.compile(r"model/shard-\d+\.json|" + re.escape(self.marker(step).removeprefix(f"{folder}/")))
        return [path for path in found if not markers.fullmatch(path)]

    def whole(self, path: str, step_id: str) -> str:
        """Return the path of a file of this run, once its content is known to be what the step has written.

        Raises DataError for a file that is missing or altered. A file that the step's manifest does not describe (it is
        not committed yet, or an earlier version did) is let pass.
        """
        folder, files = self._files_of(self.plan[step_id])
        entry = files.get(path.removeprefix(f"{folder}/"))
        if entry is not None:
            advice = f"remove what is left of it and run the pipeline again, which makes what {step_id} made anew"
            manifests.verify(path, entry, advice)
        return path

    def has(self, path: str, step_id: str) -> bool:
        """Return whether the step has written the file, by its manifest; by the file itself where none says so."""
        folder, files = self._files_of(self.plan[step_id])
        return path.removeprefix(f"{folder}/") in files if files else storage.exists(path)

    def _files_of(self, step: Step) -> tuple[str, manifests.Files]:
        if step.id not in self._described:
            folder, path = self._folder(step), self.marker(step)
            content = storage.read_json(path) if folder and storage.exists(path) else {}
            current = "key" in content and content["key"] == self.keys[step.id]
            self._described[step.id] = (folder, content.get("contents", {}) if current else {})
        return self._described[step.id]

    def require(self, step: Step) -> None:
        """Raise StepError unless every step that `step` reads is done and current."""
        for read in step.reads:
            if not self.is_done(self.plan[read]):
                raise StepError(f"{self.root}: {step.id} needs {read}, which is missing or out of date; run it first")


def _mapping(path: str) -> dict[str, Any]:
    content = storage.read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: not what a step writes there; remove it and run the pipeline again")
    return content
