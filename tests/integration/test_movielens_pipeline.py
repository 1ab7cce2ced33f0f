"""The demo pipeline on real ratings: what the README shows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gdmix_core.plan import evaluate_id
from gdmix_core.run import Run

REPOSITORY = Path(__file__).resolve().parents[2]
GDMIX = Path(sys.executable).with_name("gdmix")


@pytest.mark.spark
@pytest.mark.slow
def test_every_coordinate_and_the_second_pass_raise_the_validation_auc(shared_data: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "input", tmp_path / "run"
    sample = [GDMIX, "sample", "movielens", "--data", shared_data / "ml-latest-small", "--output", source]
    subprocess.run(sample, check=True)
    pipeline = [GDMIX, "run", REPOSITORY / "dags" / "movielens.yaml", "--var", "ds=2026-11-01"]
    done = subprocess.run(
        [*pipeline, "--set", f"input={source}", "--set", f"output={output}"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "best by auc" in done.stdout
    run = Run.open(str(output))

    def auc(number: int, coordinate: str) -> float:
        value = run.result(evaluate_id(number, coordinate))["metrics"]["validation"]["auc"]
        assert isinstance(value, float)
        return value

    assert auc(1, "global") + 0.05 < auc(1, "per_user")
    assert auc(1, "per_user") + 0.01 < auc(1, "per_movie")
    assert auc(1, "per_movie") + 0.001 < auc(2, "per_movie")
    assert run.result("select")["value"] > 0.82
