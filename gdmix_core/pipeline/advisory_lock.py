"""Locks on object stores, which have none: every owner keeps an object there, and renews it.

Whoever wants the lock writes an object of its own and then lists them all: of two that come at the same moment at
least one sees the other and steps back. An owner that has not renewed its object for STALE_SECONDS, by the store's
clock, counts as dead; so does, at once, one that was a process of this machine and is not there.

It is advisory: it keeps apart processes that ask for it, on a store whose listings show what was written before (S3,
GCS and Azure do). It cannot stop an owner that the network had cut off for longer than that from writing on when it is
back; that owner then fails with an error that says so.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

from gdmix_core.errors import StepError
from gdmix_core.paths import is_url
from gdmix_core.pipeline.lock_owner import Owner

log = logging.getLogger(__name__)

STALE_SECONDS = 120.0
RENEW_SECONDS = 20.0
# Processes that came at the same moment try again, at random times.
_TRIES = 6


@contextlib.contextmanager
def held_advisory(folder: str, what: str, *, shared: bool, wait: float) -> Iterator[None]:
    """Hold a lock. folder: for the owners' objects; what: the subject of an error's sentence.
    Who waits at all waits long enough to see a dead owner's lock become stale. Raises StepError, which names the owner,
    when the lock is not free in time; and at the end when it was lost.
    """
    lock = _Lock(folder, Owner.this(shared=shared))
    lock.acquire(what, max(wait, STALE_SECONDS + RENEW_SECONDS) if wait > 0 else 0.0)
    try:
        yield
    finally:
        lost = lock.release()
    if lost:
        raise StepError(
            f"{what} was taken over by another process, as this one did not renew its lock for {STALE_SECONDS:.0f} s: "
            "what is written there may be of both; end the other and run this again"
        )


class _Lock:
    def __init__(self, folder: str, owner: Owner) -> None:
        import fsspec.core

        self._files, self._folder = fsspec.core.url_to_fs(folder)
        if not is_url(folder):
            os.makedirs(self._folder, exist_ok=True)
        self._owner = owner
        self._own = f"{self._folder.rstrip('/')}/{uuid.uuid4().hex}.json"
        self._over = threading.Event()
        self._lost = False

    def acquire(self, what: str, wait: float) -> None:
        until = time.monotonic() + wait
        warned = False
        tries = 0
        while True:
            self._renew()
            rival = self._rival()
            if rival is None:
                break
            self._remove(self._own)
            tries += 1
            owner, silent = rival
            if tries >= _TRIES and time.monotonic() >= until:
                raise StepError(
                    f"{what} is being worked on by {owner}, which said so {max(silent, 0):.0f} s ago; wait until it "
                    f"ends, or end it; if it is dead, the lock is free {STALE_SECONDS:.0f} s after it last said so"
                )
            if wait and not warned:
                log.warning("%s is being worked on by %s; waiting up to %.0f s for its end", what, owner, wait)
                warned = True
            time.sleep(random.uniform(0.05, 0.4 if tries < _TRIES else 2.0))
        self._renewer = threading.Thread(target=self._keep, name="gdmix lock", daemon=True)
        self._renewer.start()

    def release(self) -> bool:
        """Release the lock; return whether it had been lost."""
        self._over.set()
        self._renewer.join()
        self._lost = self._lost or not self._is_there()
        self._remove(self._own)
        return self._lost

    def _keep(self) -> None:
        while not self._over.wait(RENEW_SECONDS):
            try:
                if not self._is_there():
                    self._lost = True
                    return
                self._renew()
            except Exception as error:  # The store may be back before the lock is stale; at the end it shows.
                log.warning("%s: the lock could not be renewed: %s: %s", self._folder, type(error).__name__, error)

    def _renew(self) -> None:
        content = self._owner.content() | {"renewed": time.time()}
        with self._files.open(self._own, "wb") as file:
            file.write(json.dumps(content).encode())

    def _is_there(self) -> bool:
        self._files.invalidate_cache(self._folder)
        return bool(self._files.exists(self._own))

    def _rival(self) -> tuple[Owner, float] | None:
        """Return an owner that is not dead, with whom the lock cannot be shared, and how long ago it was renewed."""
        self._files.invalidate_cache(self._folder)
        for path in map(str, self._files.ls(self._folder, detail=False)):
            if path.rsplit("/", 1)[-1] == self._own.rsplit("/", 1)[-1] or not path.endswith(".json"):
                continue
            try:
                content = json.loads(self._files.cat_file(path))
                owner, silent = Owner.of(content), self._age(path, content)
            except FileNotFoundError:  # gone since it was listed
                continue
            except (ValueError, TypeError, KeyError):
                continue
            if self._owner.shared and owner.shared:
                continue
            if silent > STALE_SECONDS or owner.is_dead():
                log.warning("%s: the lock of %s, which is dead, is taken over", self._folder, owner)
                self._remove(path)
                continue
            return owner, silent
        return None

    def _age(self, path: str, content: dict[str, Any]) -> float:
        """Return the seconds since the object was written, by the clock of the store: it has just written our own."""
        try:
            return float((self._files.modified(self._own) - self._files.modified(path)).total_seconds())
        except NotImplementedError:
            return time.time() - float(content["renewed"])

    def _remove(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._files.rm_file(path)
