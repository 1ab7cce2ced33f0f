"""Waiting in tests for what other processes do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(what: str, poll: Callable[[], T | None], timeout: float = 420, every: float = 0.5) -> T:
    """Calls poll `every` so many seconds until it returns something; fails with `what` after `timeout` seconds."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if (found := poll()) is not None:
            return found
        time.sleep(every)
    raise AssertionError(f"waited {timeout:.0f} s in vain for {what}")
