"""The process that holds a lock, as other processes see it."""

from __future__ import annotations

import contextlib
import datetime
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any


@dataclass(frozen=True)
class Owner:
    """The holder of a lock.

    host, pid, command: of the process; since: when it took the lock, ISO, UTC; shared: whether others may, too
    space: which processes of the host it is one of: those of a container have numbers of their own.
    """

    host: str
    space: str
    pid: int
    command: str
    since: str
    shared: bool

    @classmethod
    def this(cls, *, shared: bool) -> Owner:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        return cls(socket.gethostname(), _space(), os.getpid(), _command(), now, shared)

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Owner:
        return cls(**{name: content[name] for name in cls.__dataclass_fields__})

    def content(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        which = "tasks, the last of them" if self.shared else "process"
        return f"{which} {self.pid} on {self.host} ({self.command}) since {self.since}"

    def is_dead(self) -> bool:
        """Return whether it surely is dead: a process of this machine that is not there. Of others nothing is known."""
        if self.host != socket.gethostname() or self.space != _space():
            return False
        try:
            # The state comes after the name in parentheses; Z: it has ended, and its parent has not looked yet.
            return open(f"/proc/{self.pid}/stat").read().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return os.path.exists("/proc/self/stat")
        except OSError:
            return False


@cache
def _space() -> str:
    """Name this boot of this machine, and the namespace of its process numbers."""
    found = []
    with contextlib.suppress(OSError):
        found.append(open("/proc/sys/kernel/random/boot_id").read().strip())  # noqa: SIM115
    with contextlib.suppress(OSError):
        found.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(found)


def _command() -> str:
    """Return the program and, of `gdmix run` and the like, its sub-command: what follows may hold secrets."""
    names = [os.path.basename(name) for name in sys.argv[:1]]
    return " ".join([*names, *(name for name in sys.argv[1:2] if name.isalpha())]) or "python"
