"""One writer at a time: locks of a run and of its steps, in the run directory's hidden folder .locks.

On a file system, a shared one too, the kernel keeps them (flock): those of a process that dies are free at once. On an
object store, and where there is no flock, they are objects which their owners renew: see advisory_lock.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator

from gdmix_core import storage
from gdmix_core.errors import StepError
from gdmix_core.paths import local_path
from gdmix_core.pipeline.advisory_lock import held_advisory
from gdmix_core.pipeline.lock_owner import Owner

log = logging.getLogger(__name__)

# How long a step, or a task of Airflow, waits for one that is about to end, such as the one that it replaces.
PATIENCE = 30.0
_LOOK_SECONDS = 0.2
_LOOKS = 4  # for the name of who holds a lock
# Files of the locks that this process holds. A process forked off it would keep them, also when it outlives its parent.
_open: set[int] = set()
_NO_FLOCK = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EOPNOTSUPP)


@contextlib.contextmanager
def whole_run(root: str, *, shared: bool = False, wait: float = 0.0) -> Iterator[None]:
    """Hold the run: alone, or beside others who share it. The directory must be there.

    Raises StepError, which names the owner, when it is not free within `wait` seconds.
    """
    with _held(root, "run", f"{root}: the run", shared=shared, wait=wait):
        yield


@contextlib.contextmanager
def step(root: str, step_id: str, group: int | None = None, *, wait: float | None = None) -> Iterator[None]:
    """Hold a step, or one group of its shards, beside other groups; wait: PATIENCE by default.

    Raises StepError as whole_run does.
    """
    wait = PATIENCE if wait is None else wait
    what = f"{root}: step {step_id}"
    with contextlib.ExitStack() as held:
        held.enter_context(_held(root, step_id, what, shared=group is not None, wait=wait))
        if group is not None:
            held.enter_context(_held(root, f"{step_id}.{group}", f"{what}, group {group},", shared=False, wait=wait))
        yield


@contextlib.contextmanager
def _held(root: str, name: str, what: str, *, shared: bool, wait: float) -> Iterator[None]:
    folder = local_path(root)
    path = storage.join(folder or root, ".locks", name)
    file = None if folder is None else _acquired(path, what, shared=shared, wait=wait)
    if file is None:
        with held_advisory(path if folder is None else f"{path}.d", what, shared=shared, wait=wait):
            yield
        return
    _open.add(file)
    try:
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps(Owner.this(shared=shared).content()).encode(), 0)
        yield
    finally:
        _release(file, path)


def _acquired(path: str, what: str, *, shared: bool, wait: float) -> int | None:
    """Open and lock the file; return None where the file system has no locks."""
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    until = time.monotonic() + wait
    warned = False
    while True:
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            # Programs that this process starts do not inherit the file: what they write is their own step's.
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # The folder has just been removed by the last who had held a lock in it.
            if os.path.islink(path):
                raise StepError(f"{path} is a link to nothing; remove it") from None
            continue
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
            if _is_at(file, path):
                return file
            os.close(file)
        except BlockingIOError:
            os.close(file)
            owner = _owner(path)
            if time.monotonic() >= until:
                raise StepError(
                    f"{what} is being worked on by {owner}; wait until it ends, or end it, and start this again"
                ) from None
            if not warned:
                log.warning("%s is being worked on by %s; waiting up to %.0f s for its end", what, owner, wait)
                warned = True
            time.sleep(_LOOK_SECONDS)
        except OSError as error:
            os.close(file)
            if error.errno in _NO_FLOCK:
                return None
            if error.errno != errno.ESTALE:  # on NFS: removed meanwhile
                raise


def _is_at(file: int, path: str) -> bool:
    """Return whether the file still has its name: else its lock is one that no other process will ask for."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


def _release(file: int, path: str) -> None:
    """Release the lock and leave no file behind; of several who share a lock the last one removes it."""
    if file not in _open:  # in a process that was forked off meanwhile
        return
    _open.remove(file)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(file, path):
                os.unlink(path)
                os.rmdir(os.path.dirname(path))
    finally:
        os.close(file)


def _owner(path: str) -> str:
    """Return who holds the lock, as far as it says so: the last to begin, where several share it."""
    for _ in range(_LOOKS):
        try:
            with open(path, "rb") as file:
                return str(Owner.of(json.loads(file.read())))
        except (OSError, ValueError, TypeError, KeyError):
            time.sleep(_LOOK_SECONDS)  # who has just come is about to write it
    return "another process"


def _close_in_child() -> None:
    while _open:
        os.close(_open.pop())


os.register_at_fork(after_in_child=_close_in_child)
