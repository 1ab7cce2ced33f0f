"""Kernels that several processes have compiled have no symbol in common, so that none is taken for another's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

# Brings along Numba's own quicksort, whose functions are the same in name, and not in what they do, as np.argsort's.
KERNEL = """
import numpy as np
from gdmix_core.jit import njit

@njit(cache=True)
def ordered(a):
    return np.sort(a)
"""
CALL = "import numpy as np, kernel; assert kernel.ordered(np.arange(9.0)[::-1].copy())[0] == 0.0"


def symbols_compiled(folder: Path, cache: Path) -> set[bytes]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path]), "NUMBA_CACHE_DIR": str(cache)}
    subprocess.run([sys.executable, "-c", CALL], env=environment, check=True)
    (compiled,) = cache.rglob("*.nbc")
    return {name for name in re.findall(rb"_ZN[\w$.]+", compiled.read_bytes()) if b"quicksort" in name}


@pytest.mark.slow
def test_the_same_kernel_compiled_by_two_processes_has_two_sets_of_symbols(tmp_path: Path) -> None:
    (tmp_path / "kernel.py").write_text(KERNEL)
    one, other = (symbols_compiled(tmp_path, tmp_path / name) for name in ("one", "other"))
    assert one
    assert other
    assert not one & other
