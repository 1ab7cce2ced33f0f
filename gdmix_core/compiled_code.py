"""The place where Numba keeps compiled kernels: beside the code, in the user's cache, or, in a container that allows
neither, in a folder for temporary files; where nothing can be written, in memory."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger(__name__)

_VARIABLE = "NUMBA_CACHE_DIR"


def choose_place() -> None:
    """Set NUMBA_CACHE_DIR where Numba by itself would find no place and refuse to load a kernel.

    Call it before Numba is imported. Child processes inherit the choice.
    """
    if os.environ.get(_VARIABLE) or _numba_finds_one():
        return
    for folder in _candidates():
        if _is_own(folder):
            os.environ[_VARIABLE] = str(folder)
            log.info("compiled code is kept in %s", folder)
            return
    from numba.core.dispatcher import Dispatcher

    log.warning("no folder can be written to: compiled code is kept in memory, and compiled anew by every process")
    Dispatcher.enable_caching = lambda self: None  # type: ignore[method-assign]


def _numba_finds_one() -> bool:
    """Return whether Numba's own locators find a place: beside the code, or in the user's cache."""
    if os.access(Path(__file__).parent, os.W_OK):
        return True
    home = os.path.expanduser("~")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or f"{home}/.cache") / "numba"
    there = next((folder for folder in (cache, *cache.parents) if os.path.exists(folder)), Path("/"))
    return home not in ("~", "/") and os.access(there, os.W_OK)


def _candidates() -> Iterator[Path]:
    roots = []
    with contextlib.suppress(FileNotFoundError):  # no folder for temporary files can be written to
        roots.append(tempfile.gettempdir())
    for root in (*roots, "/dev/shm"):
        if os.access(root, os.W_OK):
            yield Path(root) / f"gdmix-compiled-{os.getuid()}"


def _is_own(folder: Path) -> bool:
    """Make the folder. Its content is executed, so no other user may have made it, or may write to it."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
