"""The choice of the run that `initial_model.path` means if it need not exist (required: false).

A run that never finished is not a model. In its place comes the newest finished one of the same pipeline that is dated
before it, in the same folders: what the path's template would have named on an earlier day. Nothing later is taken, so
days that run side by side do not start from each other's future.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from gdmix_core import storage
from gdmix_core.config.pipeline import Config
from gdmix_core.errors import GdmixError
from gdmix_core.pipeline.run import Run, read_recorded

log = logging.getLogger(__name__)

_DATE = re.compile(r"(?<!\d)(\d{4})([-_]?)(\d{2})\2(\d{2})(?!\d{3})")

# What lies in a run's directory before its configuration does.
_OF_A_RUN_TO_BE = {"gdmix-run.json"}


@dataclass(frozen=True)
class Choice:
    """named: the configuration's path; taken: the path that is read, None for nothing; passed_over: runs without an
    export that would have come before it, newest first."""

    named: str
    taken: str | None
    passed_over: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.taken == self.named:
            return f"starts from {self.named}"
        why = ", ".join(f"{path} never finished" for path in self.passed_over) or f"nothing is at {self.named}"
        if self.taken is None:
            return f"{why}, and no earlier run has: everything starts from nothing (required: false)"
        return f"{why}: starts from {self.taken}, the newest finished run before (required: false)"


def choose(config: Config) -> Choice | None:
    """Choose the run to start from; None without an initial model that has a path.

    A required one is the one that is named, whatever is there. So is one that is not a run, such as models of another
    system.
    """
    initial = config.initial_model
    if initial is None or initial.path is None:
        return None
    named, output = initial.path.rstrip("/"), config.output.rstrip("/")
    if initial.required or named == output or _is_finished(named):
        return Choice(named, named)
    pipeline = _pipeline_at(named)
    if pipeline is None and set(storage.list_folder(named)) - _OF_A_RUN_TO_BE:
        return Choice(named, named)
    pipelines = {config.name, pipeline} - {_DAMAGED}
    passed_over = [] if pipeline is None else [named]
    for path in _earlier(named, output):
        if _pipeline_at(path) not in pipelines:
            continue
        if _is_finished(path):
            return Choice(named, path, tuple(passed_over))
        passed_over.append(path)
    return Choice(named, None, tuple(passed_over))


def record(run: Run) -> None:
    """Choose as a run begins, and keep that: a neighbour that finishes meanwhile changes nothing for later steps."""
    choice = choose(run.config)
    if choice is not None:
        storage.write_json(run.earlier_run(), asdict(choice))
        if choice.taken != choice.named:
            log.warning("initial_model: %s", choice)


def recorded(run: Run) -> Choice | None:
    """Return the run's choice; made now where it was not recorded, as by an earlier version."""
    initial, path = run.config.initial_model, run.earlier_run()
    if initial is None or initial.path is None or not storage.exists(path):
        return choose(run.config)
    content: dict[str, Any] = storage.read_json(path)
    if content["named"] != initial.path.rstrip("/"):
        return choose(run.config)
    return Choice(content["named"], content["taken"], tuple(content["passed_over"]))


def _earlier(named: str, output: str) -> Iterator[str]:
    """Yield paths like the one that is named, with an earlier date in place of its last one, newest first.

    They are earlier than the run's own output, too, if that is like them.
    """
    before, moment, below = _dated(named)
    if not moment:
        return
    parent, _, prefix = before.rpartition("/")
    parent = parent or ("/" if before.startswith("/") else ".")
    own_before, own_moment, _ = _dated(output)
    latest = min(moment, own_moment) if own_before == before and _shape(own_moment) == _shape(moment) else moment
    found = []
    for name in storage.list_folder(parent):
        start, other, _ = _dated(name)
        if start == prefix and _shape(other) == _shape(moment) and other < latest:
            found.append(other)
    for other in sorted(found, reverse=True):
        yield f"{before}{other}{below}"


def _dated(path: str) -> tuple[str, str, str]:
    """Split a path at its last date (YYYY-MM-DD, YYYY_MM_DD or YYYYMMDD).

    Returns the text before it, the date with what follows in its folder's name, such as an hour, and the folders
    below; "" for the date if there is none.
    """
    for match in reversed(list(_DATE.finditer(path))):
        with contextlib.suppress(ValueError):
            datetime.date(int(match[1]), int(match[3]), int(match[4]))
            end = path.find("/", match.start())
            end = len(path) if end < 0 else end
            return path[: match.start()], path[match.start() : end], path[end:]
    return path, "", ""


def _shape(text: str) -> str:
    return re.sub(r"\d", "0", text)


def _is_finished(path: str) -> bool:
    """Check whether the path holds a run with an export, or an export."""
    return any(storage.exists(storage.join(path, name)) for name in ("export/manifest.json", "manifest.json"))


# No pipeline is called so.
_DAMAGED = "(damaged)"


def _pipeline_at(path: str) -> str | None:
    """The name of the pipeline whose run, or export, lies there; "" for one that does not say, None for neither."""
    for folder in (path, path.removesuffix("/export")):
        file = storage.join(folder, "config.yaml")
        if storage.exists(file):
            try:
                return _name_in(read_recorded(file))
            except GdmixError as error:
                # A run that was killed while it wrote is not a model, and must not stop later ones.
                log.warning("initial_model: %s is passed over: %s", path, error)
                return _DAMAGED
    file = storage.join(path, "manifest.json")
    return _name_in(storage.read_json(file)) if storage.exists(file) else None


def _name_in(content: Any) -> str:
    config = content.get("config") if isinstance(content, dict) else None
    return str(config.get("name", "")) if isinstance(config, dict) else ""
