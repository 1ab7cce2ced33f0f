"""The form of a line of the log, whoever writes it: the command, one of its steps, or a worker process of a step."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Callable

_TIME = "%H:%M:%S"
_LINE = re.compile(r"\d\d:\d\d:\d\d (DEBUG|INFO|WARNING|ERROR|CRITICAL) (.*)")


class LineFormatter(logging.Formatter):
    """`14:03:05 INFO pass_01.global.train, worker 1: message`; other libraries' messages end with the logger's name.

    step, worker: of a worker process, such as "worker 1"; messages that begin with the step's id do not repeat it
    """

    def __init__(self, step: str = "", worker: str = "") -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", _TIME)
        self._step = step
        self._source = ", ".join(part for part in (step, worker) if part)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's own name)
        message = record.message
        if self._source:
            if self._step and message.startswith(self._step):
                message = message.removeprefix(self._step).lstrip(": ")
            message = f"{self._source}: {message}"
        if record.name.partition(".")[0] not in ("gdmix_core", "gdmix_operators", "root"):
            message = f"{message} ({record.name})"
        return f"{record.asctime} {record.levelname} {message}"


def to_standard_error(level: int, step: str = "", worker: str = "") -> None:
    """Send this process's log there, unless it goes somewhere already; step, worker: as in LineFormatter."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(step, worker))
    logging.basicConfig(level=level, handlers=[handler])


def into(log: logging.Logger) -> Callable[[str], None]:
    """Take a worker's lines, as LineFormatter makes them, into a log of another look: each at its own level.

    A line without a level, as of a traceback, has that of the line before.
    """
    level = logging.INFO

    def take(line: str) -> None:
        nonlocal level
        if found := _LINE.fullmatch(line):
            level, line = logging.getLevelNamesMapping()[found[1]], found[2]
        elif line.startswith("Traceback "):
            level = logging.ERROR
        if line:
            log.log(level, "%s", line)

    return take


def step_line(name: str) -> str:
    """Return the line that says that a step begins, now."""
    return f"{time.strftime(_TIME)} INFO {name}"
