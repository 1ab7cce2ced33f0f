"""Paths and URLs as people write them. Nothing is read: Airflow parses DAG files with this."""

from __future__ import annotations

import os
import re

from gdmix_core.errors import ConfigError


def is_url(path: str) -> bool:
    return "://" in path


def local_path(path: str) -> str | None:
    """Return the plain path of a local file (also of file:// URLs), None for a remote one."""
    if path.startswith("file://"):
        return path[len("file://") :]
    return None if is_url(path) else path


def expanded(path: str) -> str:
    """Return the path with the home folder in place of ~.

    Raises ConfigError for an empty path, an environment variable, a URL with one slash, and for a user who has no home
    folder.
    """
    if not path.strip():
        raise ConfigError("the path is empty; name a file or directory")
    if variable := re.search(r"\$(\w+|\{[^}]*\})", path):
        raise ConfigError(
            f"{variable[0]} in {path!r}: environment variables are not read; use a template, such as "
            "{{ name }} with --var name=value"
        )
    if "\0" in path:
        raise ConfigError(f"{path!r} holds a null character, which no path can")
    if path.startswith("file://") and not path.startswith("file:///"):
        raise ConfigError(
            f"{path!r} names a host; a file of this machine is a plain path, or file:///… with three slashes"
        )
    if scheme := re.match(r"([a-z][a-z0-9+.-]+):/(?!/)", path):
        raise ConfigError(
            f"{path!r} is neither a URL, which has two slashes ({scheme[1]}://…), nor a usual path; a folder of that "
            f"name is ./{path}"
        )
    local = local_path(path)
    if local is None or not local.startswith("~"):
        return path
    home = os.path.expanduser(local)
    if home.startswith("~"):
        raise ConfigError(f"{path!r}: there is no home folder of this name; write the path in full")
    return home


def absolute(path: str) -> str:
    """Return a local path (also of a file:// URL) in full, for processes in other directories; a URL as it is."""
    local = local_path(path)
    return path if local is None else os.path.abspath(local)


def without_secrets(text: str) -> str:
    """Return the text with user and password, and signed queries, taken out of the URLs in it."""
    text = re.sub(r"(?<=://)[^/@\s]+@", "…@", text)
    return re.sub(r"\?[^\s'\"]*(?:sig|token|credential|key|password)[^\s'\"]*", "?…", text, flags=re.IGNORECASE)
