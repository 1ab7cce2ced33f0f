"""After `gdmix compile` no process compiles anything: neither another run nor a worker."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from gdmix_command import gdmix

from gdmix_core.samples.generated import generate_sample, write_generated

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


def test_a_run_after_it_compiles_nothing(tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "compiled")}
    done = gdmix("compile", env=environment)
    assert done.returncode == 0, done.stderr
    assert "all kernels are compiled" in done.stdout
    assert done.stderr == ""
    compiled = {path: path.stat().st_mtime_ns for path in (tmp_path / "compiled").rglob("*.nb?")}
    assert len(compiled) > 100

    write_generated(str(tmp_path / "input"), generate_sample(users=200, movies=300, ratings=9000))
    settings = [f"input={tmp_path}/input", f"output={tmp_path}/run", "coordinates.per_movie.random_effect.shards=3"]
    command = ["run", REPOSITORY / "dags/movielens.yaml", "--var", "ds=2026-11-01"]
    run = gdmix(*command, *(part for setting in settings for part in ("--set", setting)), env=environment)
    assert run.returncode == 0, run.stderr
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "compiled").rglob("*.nb?")} == compiled
