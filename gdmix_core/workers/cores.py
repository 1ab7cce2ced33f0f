"""The number of cores that training may use."""

from __future__ import annotations

import os

from gdmix_core.config.pipeline import Config


def core_count(config: Config) -> int:
    """Return the cores to use at once on this machine: engine.local.processes, or those this process may run on."""
    wanted = config.engine.local.processes
    if wanted != "auto":
        return wanted
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
