"""The `gdmix` command as its users start it: a process of its own, without a terminal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

GDMIX = str(Path(sys.executable).with_name("gdmix"))


def gdmix(*arguments: Any, **how: Any) -> subprocess.CompletedProcess[str]:
    """Runs it to its end; how: of the process, as subprocess takes it."""
    command = [GDMIX, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, **how)
