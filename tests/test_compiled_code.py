"""Where compiled kernels are kept when neither the code's folder nor a home can be written to."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
WITHOUT_POWERS = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search,-fowner,-chown"]
CODE = """
import logging, os
logging.basicConfig(level="INFO", format="%(message)s")
import numpy as np
from gdmix_core.data.hashing import hash_ids
import pyarrow as pa
print(len(set(hash_ids(pa.array([1, 2, 3])).tolist())), os.environ.get("NUMBA_CACHE_DIR"))
"""


@pytest.mark.parametrize("place", ["temporary", "memory"])
def test_kernels_run_where_nothing_beside_them_can_be_written(tmp_path: Path, place: str) -> None:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs to give up root's powers over files")
    ignored = shutil.ignore_patterns("__pycache__")
    package = shutil.copytree(REPOSITORY / "gdmix_core", tmp_path / "code/gdmix_core", ignore=ignored)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    for folder in (*package.rglob("*"), package, *([temporary] if place == "memory" else [])):
        folder.chmod(0o555)
    # Without a folder that can be written to, not even in shared memory, Numba compiles in memory.
    prelude = "import os\nos.access = lambda *arguments: False\nimport gdmix_core\n"
    code = (prelude if place == "memory" else "") + CODE
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path / "code"), "HOME": "/proc/nonexistent"}
    environment |= {"TMPDIR": str(temporary), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [*WITHOUT_POWERS, sys.executable, "-c", code], env=environment, cwd="/", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    kept = temporary / f"gdmix-compiled-{os.getuid()}"
    if place == "temporary":
        assert done.stdout.split() == ["3", str(kept)]
        assert any(kept.rglob("*.nbi"))
        assert kept.stat().st_mode & 0o077 == 0
    else:
        assert done.stdout.split()[0] == "3"
        assert "compiled code is kept in memory" in done.stderr
