"""Finding the worker processes of a step, for tests that kill them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def workers_of(parent: int, job: str = "worker") -> dict[int, int]:
    """rank → pid of the worker processes that `parent` has started and that have not ended."""
    found = {}
    for process in Path("/proc").iterdir():
        try:
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) != parent or fields[0] == "Z":
                continue
            environment = (process / "environ").read_bytes().split(b"\0")
        except (OSError, IndexError):  # no process, or ended meanwhile
            continue
        for entry in environment:
            if entry.startswith(b"TF_CONFIG="):
                task = json.loads(entry.partition(b"=")[2])["task"]
                if task["type"] == job:
                    found[task["index"]] = int(process.name)
    return found


def wait_until(condition: Callable[[], Any]) -> Any:
    """Its value, as soon as it is true."""
    deadline = time.monotonic() + 300
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return value
