"""The owner of a run's directory: nothing is written to, or removed from, a directory that is not the pipeline's own.
A small file marks the directory of a run, with the pipeline's name; it is the first that is written there. All files
that a run writes lie below it. The folders that steps fill (frame, shards, passes, export, …) are theirs; other files
beside them stay as they are.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from gdmix_core import storage
from gdmix_core.config.model import paths_of
from gdmix_core.config.pipeline import Config
from gdmix_core.errors import ConfigError, DataError
from gdmix_core.paths import is_url, local_path

MARK = "gdmix-run.json"
_FORMAT = 1
# One service under several names.
_SCHEMES = {"s3a": "s3", "s3n": "s3", "gcs": "gs", "abfss": "abfs"}

# Files that steps write into frame, shards, initial and export, also those not whole yet when a step was killed.
_WRITTEN = re.compile(
    r"[^/]+/(saved_model|\.saved_model\.\w+|files|network|pieces)/.*"
    r"|([^/]+/)?features/.*\.csv(\.\w+)?"
    r"|(.*/)?\.?((block|shard|part)-\d{5}(-\d{5})?\.(parquet|avro|json|npy)|manifest\.json|features\.csv|classes\.csv"
    r"|weights\.npz|network_inputs\.json|(training|validation|leverage)\.npy)(\.\w+)?",
    re.DOTALL,
)


# The same as yaml.safe_load, several times faster where PyYAML was built with libyaml: every commit of a step reads it.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def root_of(config: Config) -> str:
    """Return the directory of the configuration's run, without a slash at the end."""
    output, local = config.output, local_path(config.output)
    if local is None:
        return output if not output.partition("://")[2].strip("/") else output.rstrip("/")  # s3:// stays a URL
    return output.rstrip("/") if local.strip("/") else "/"


def check(config: Config) -> None:
    """Raise ConfigError unless config.output is this pipeline's run, or a directory that is absent or empty.

    Only reads. A directory with nothing but hidden files in it counts as empty.
    """
    root = root_of(config)
    if not config.output.strip():
        raise ConfigError("output is empty; name the directory of the run")
    if _parts(root) == ():
        raise _refused(root, "is the root of a file system; name a directory in it")
    for key, path in paths_of(config):
        if key != "output" and path.strip():
            _check_apart(root, key, path)
    check_place(root)
    if (local := local_path(root)) is not None and os.path.isfile(local):
        raise _refused(root, "is a file; name a directory")
    owner = pipeline_of(root)
    if owner is not None:
        if owner != config.name:
            raise _refused(
                root,
                f"is the run of pipeline {owner}, and this one is {config.name}; name another directory, or remove "
                "that run first",
            )
        return
    if (above := run_around(posixpath.dirname(root) if is_url(root) else os.path.dirname(_real(root)))) is not None:
        raise _refused(root, f"lies in the directory of another run, {above}; name a directory outside of it")
    content = sorted(name for name in storage.names_in(root) if not name.startswith("."))
    if content:
        raise _refused(
            root,
            f"is not a run of gdmix, and holds {', '.join(content[:3])}{', …' if len(content) > 3 else ''}: nothing "
            "there is touched; name a directory that is new, or empty",
        )


def claim(config: Config) -> str:
    """Mark config.output as this pipeline's run, unless it is marked already; return the directory.

    Raises ConfigError, before anything is written, when the directory is somebody else's (see check).
    """
    check(config)
    root = root_of(config)
    if not storage.exists(storage.join(root, MARK)):
        _mark(root, config.name)
        # Another pipeline may have come first.
        if (owner := pipeline_of(root)) != config.name:
            raise _refused(root, f"is the run of pipeline {owner}, which has just begun; name another directory")
    return root


def pipeline_of(root: str) -> str | None:
    """Return the name of the pipeline whose run the directory is; None when it is not a run's.

    A run that an earlier version made has no mark, but its config.yaml says whose it is; a trial's does not count.
    """
    mark = storage.join(root, MARK)
    if storage.exists(mark):
        try:
            content = storage.read_json(mark)
        except DataError:
            content = None
        name = content.get("pipeline") if isinstance(content, dict) else None
        if not isinstance(name, str):
            raise _refused(root, f"has a {MARK} that does not name a pipeline; if the run is yours, remove that file")
        if content.get("format") != _FORMAT:
            raise _refused(root, f"was made by another version of gdmix (format {content.get('format')} in {MARK})")
        return name
    path = storage.join(root, "config.yaml")
    try:
        made = read_recorded(path) if storage.exists(path) else {}
    except DataError:
        return None
    if made.get("trial") is not None or not isinstance(made.get("versions"), dict) or "name" not in made["config"]:
        return None
    return str(made["config"]["name"])


def run_around(path: str) -> str | None:
    """Return the directory of a run that the path lies in, or is; None when there is none."""
    for folder in _ancestors(path):
        if storage.exists(storage.join(folder, MARK)) or pipeline_of(folder) is not None:
            return folder
    return None


def lies_in(path: str, folder: str) -> bool:
    """Return whether the path is the folder, or something in it: by what both are, through links and `..`."""
    if (local_path(path) is None) != (local_path(folder) is None):
        return False
    outer, inner = _parts(folder), _parts(path)
    if inner[: len(outer)] == outer:
        return True
    if local_path(path) is None:
        return False
    try:
        same = os.stat(_real(folder))
    except OSError:
        return False
    # A directory may also be mounted twice, or its file system may not tell capital letters from small ones.
    return any(_is(ancestor, same) for ancestor in _ancestors(path))


def is_of_a_step(path: str) -> bool:
    """Return whether a file of frame, shards, initial or export is one that steps write; path: below that folder."""
    return _WRITTEN.fullmatch(path) is not None


def clear(folder: str) -> None:
    """Remove what steps wrote into one of these folders, its manifest first. What is not theirs stays."""
    storage.remove(storage.join(folder, "manifest.json"))
    storage.remove_files(folder, filter(is_of_a_step, storage.paths_within(folder, hidden=True)))


def _check_apart(root: str, key: str, path: str) -> None:
    """Raise ConfigError when the run would be made in what it reads, or around it."""
    holds, within = lies_in(path, root), lies_in(root, path)
    if within and not holds and key == "initial_model.path":
        # A run may be made in a folder that earlier runs are in.
        within = pipeline_of(path.rstrip("/") or "/") is not None
    if holds or within:
        how = ("is" if within else "holds") if holds else "lies in"
        raise _refused(root, f"{how} {key} ({path}), which the run reads; name a directory apart from it")


def check_place(path: str) -> None:
    """Raise ConfigError for a local path at which nothing can be: below a file, or a link to what is not there."""
    local = local_path(path)
    if local is None:
        return
    if os.path.islink(local) and not os.path.exists(local):
        raise _refused(path, f"is a link to {os.path.realpath(local)}, which is not there; make that first")
    above = next((folder for folder in _ancestors(os.path.dirname(_real(path))) if os.path.exists(folder)), "/")
    if not os.path.isdir(above):
        raise _refused(path, f"lies in {above}, which is a file; name another place")


def _mark(root: str, pipeline: str) -> None:
    mark = storage.join(root, MARK)
    content = {"format": _FORMAT, "pipeline": pipeline}
    local = local_path(root)
    if local is None:
        storage.write_json(mark, content)
        return
    aside = os.path.join(local, f".{MARK}.{uuid.uuid4().hex}")
    storage.write_json(aside, content)
    try:
        # Only one of two pipelines that begin at the same moment makes the name.
        os.link(aside, local_path(mark) or mark)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        storage.write_json(mark, content)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)


def read_recorded(path: str) -> dict[str, Any]:
    """Read a run's config.yaml. Raises DataError where it is damaged, or another file."""
    with storage.open_for_read(path) as file:
        try:
            content = yaml.load(file.read().decode(), _Loader)
        except (yaml.YAMLError, ValueError) as error:
            content = str(error).partition("\n")[0]
    if not isinstance(content, dict) or not isinstance(content.get("config"), dict):
        raise DataError(f"{path}: not what a run writes there; it is damaged, or another file: {str(content)[:80]!r}")
    return content


def _parts(path: str) -> tuple[str, ...]:
    """Return the names from the root of the file system, or service and bucket, on: the same for paths to one place."""
    if local_path(path) is not None:
        return tuple(part for part in _real(path).split("/") if part)
    scheme, _, rest = path.partition("://")
    names = tuple(part for part in posixpath.normpath("/" + rest).split("/") if part)
    return (f"{_SCHEMES.get(scheme, scheme)}:", *names) if names else ()


def _real(path: str) -> str:
    return os.path.realpath(local_path(path) or path)


def _ancestors(path: str) -> Iterator[str]:
    """Yield the path itself, and the folders around it, up to the root or bucket."""
    if local_path(path) is not None:
        real = Path(_real(path))
        yield from map(str, (real, *real.parents))
        return
    scheme, _, rest = path.partition("://")
    while rest.strip("/"):
        yield f"{scheme}://{rest.rstrip('/')}"
        rest = rest.rstrip("/").rpartition("/")[0]


def _is(path: str, found: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path), found)
    except OSError:
        return False


def _refused(root: str, why: str) -> ConfigError:
    return ConfigError(f"output {root or repr(root)} {why}")
