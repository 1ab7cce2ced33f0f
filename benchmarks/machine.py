"""What every benchmark prints first, and how they time."""

from __future__ import annotations

import os
import platform
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil


def describe() -> str:
    """The machine in one line: a number without it says nothing."""
    return f"{cores()} cores, {processor()}, {memory_gib():.0f} GiB, Python {platform.python_version()}"


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor() or "unknown processor"


def memory_gib() -> float:
    return float(psutil.virtual_memory().total / 2**30)


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def median_seconds(work: Callable[[], object], runs: int = 5) -> float:
    """Median of several runs after one that is not counted (it compiles and warms caches)."""
    work()
    return statistics.median(once(work) for _ in range(runs))


def once(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


class PeakMemory:
    """The largest resident memory of a process and all below it together, in bytes, as seen twenty times a second.

    Pages that processes share count for each of them.
    """

    def __init__(self, pid: int | None = None) -> None:
        self.bytes = 0
        self._pid, self._over = pid or os.getpid(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            try:
                root = psutil.Process(self._pid)
                sizes = [process.memory_info().rss for process in [root, *root.children(recursive=True)]]
                self.bytes = max(self.bytes, sum(sizes))
            except psutil.NoSuchProcess:  # one has just ended
                pass
            if self._over.wait(0.05):
                return
