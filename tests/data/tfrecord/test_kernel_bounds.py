"""Compiled kernels check no bounds; uncompiled, the fuzz tests show that they need not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.slow
def test_fuzz_without_compilation_stays_in_bounds() -> None:
    files = [str(HERE / name) for name in ("test_example_decoder.py", "test_tfrecord_damage.py")]
    options = ["-q", "-p", "no:cacheprovider", "-k", "fuzz or wire or malformed"]
    command = [sys.executable, "-m", "pytest", *options, *files]
    root = Path(__file__).parents[3]
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    outcome = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert " passed" in outcome.stdout
