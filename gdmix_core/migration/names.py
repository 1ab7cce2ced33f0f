"""Names and paths of other systems in the form that they have here."""

from __future__ import annotations

import re
from collections.abc import Iterable

from gdmix_core.errors import ConfigError


def valid_names(names: Iterable[str]) -> dict[str, str]:
    """Map each name to one that a coordinate may have (letters, digits, underscores; a letter first), all distinct."""
    found: dict[str, str] = {}
    for name in names:
        valid = re.sub(r"[^A-Za-z0-9_]", "_", name)[:60]
        valid = valid if re.match("[A-Za-z]", valid) else f"c_{valid}"[:60]
        stem, number = valid, 2
        while valid in found.values():
            valid, number = f"{stem[:56]}_{number}", number + 1
        found[name] = valid
    return found


def pipeline_name(path: str) -> str:
    """Name a pipeline after the last folder of an output path."""
    return valid_names([path.rstrip("/").rsplit("/", 1)[-1] or "pipeline"]).popitem()[1]


def common_folder(folders: Iterable[str]) -> tuple[str, dict[str, str]]:
    """Find the deepest folder that holds all of them, and each one's path below that ("." for the folder itself)."""
    listed = list(folders)
    parts = [folder.rstrip("/").split("/") for folder in listed]
    shared = 0
    while all(len(p) > shared for p in parts) and len({p[shared] for p in parts}) == 1:
        shared += 1
    common = "/".join(parts[0][:shared])
    if not common and any(folder.startswith("/") or "://" in folder for folder in listed):
        raise ConfigError(f"the input lies in unrelated places ({', '.join(listed)}); bring it together in one folder")
    return common or ".", {f: "/".join(p[shared:]) or "." for f, p in zip(listed, parts, strict=True)}


def number(value: object, key: str) -> float:
    """Read a number, also one that YAML 1.1 takes for text, such as 1e-12. Raises ConfigError for anything else."""
    try:
        if not isinstance(value, bool):
            return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        pass
    raise ConfigError(f"{key}: expected a number, found {value!r}")


def plain(value: float) -> int | float:
    """Make an integer of a number that is one, to be read more easily."""
    return int(value) if value.is_integer() and abs(value) < 1e15 else value
