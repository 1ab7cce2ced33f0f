"""The amount of memory that data may use, and the folder for what is larger."""

from __future__ import annotations

import tempfile
from pathlib import Path

from gdmix_core.config.pipeline import Config
from gdmix_core.paths import local_path
from gdmix_core.pipeline.run import Run

_GROUPS, _CGROUP = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
_UNITS = {"m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def memory_bound(config: Config) -> int:
    """Bytes: engine.local.memory, or half of the machine's, where a container's limit is the machine's."""
    wanted = config.engine.local.memory
    return memory_of_machine() // 2 if wanted == "auto" else int(wanted[:-1]) * _UNITS[wanted[-1]]


def spill_folder(run: Run) -> Path:
    """Return a local folder, which need not exist, for what is larger: engine.local.spill, or the run directory."""
    base = local_path(run.config.engine.local.spill or run.root)
    return Path(base or tempfile.gettempdir()) / ".gdmix-spill"


def memory_of_machine() -> int:
    """Bytes of memory that this process can have: the machine's, or less where a control group limits it."""
    import psutil

    return min([psutil.virtual_memory().total, *limits_of_groups(_GROUPS, _CGROUP)])


def limits_of_groups(groups: Path, mounted: Path) -> list[int]:
    """Return the limits of the control groups that this process is in, from its own up to the root, in bytes.

    groups: the kernel's list of them; mounted: where cgroups v2, or v1's folders of controllers, are mounted
    """
    found = []
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        root, name = (mounted, "memory.max") if not controllers else (mounted / "memory", "memory.limit_in_bytes")
        folder = root / path.lstrip("/")
        # Inside a container the path is the host's, and its own group is mounted at the root.
        for place in dict.fromkeys([folder, *folder.parents, root]):
            if not place.is_relative_to(root):
                break
            try:
                text = (place / name).read_text().strip()
            except OSError:
                continue
            if text.isdigit():
                found.append(int(text))
    return found
