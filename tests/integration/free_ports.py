"""Ports for servers that tests start."""

from __future__ import annotations

import random
import socket

# Below what systems give to whoever asks for any port, so that nobody gets one between here and the server's start.
_RANGE = range(20_000, 30_000)


def free_ports(count: int) -> list[int]:
    """Different ports of 127.0.0.1 on which nobody listens."""
    found: list[int] = []
    # Not the generator that tests may have seeded: processes side by side must not agree.
    for port in random.SystemRandom().sample(_RANGE, len(_RANGE)):
        with socket.socket() as tried:
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise OSError(f"no {count} free ports between {_RANGE.start} and {_RANGE.stop}")
