"""Progress of long work: whoever works reports, whoever shows (a bar, a log) listens."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextvars import ContextVar

log = logging.getLogger(__name__)

Listener = Callable[[int, int, str], None]


class LogListener:
    """A listener that writes a log line at most every `seconds`, and none for work that ends sooner."""

    def __init__(self, seconds: float = 10.0) -> None:
        self._seconds = seconds
        self._next = time.monotonic() + seconds

    def __call__(self, done: int, total: int, what: str) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + self._seconds
            log.info("%s: %d of %d (%.0f %%)", what, done, total, 100 * done / max(total, 1))


_listener: ContextVar[Listener | None] = ContextVar("gdmix_progress", default=None)


def listen(listener: Listener | None) -> None:
    """Set who is told of progress in this context; None: a log."""
    _listener.set(listener)


def reporter() -> Listener:
    """Return what to call with (done, total, what). Ask for it once, in the thread that was told to listen."""
    return _listener.get() or LogListener()
