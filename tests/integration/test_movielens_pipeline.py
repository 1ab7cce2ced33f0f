"""The demo pipeline on real ratings: what the README shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from gdmix_command import gdmix

from gdmix_core.execution import dispatch
from gdmix_core.pipeline.loading import override, parse_config
from gdmix_core.pipeline.plan import evaluate_id
from gdmix_core.pipeline.run import Run

REPOSITORY = Path(__file__).resolve().parents[2]


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The demo pipeline, run on ml-latest-small."""
    folder = tmp_path_factory.mktemp("movielens")
    source, output = folder / "input", folder / "run"
    sample = gdmix("sample", "movielens", "--data", shared_data / "ml-latest-small", "--output", source)
    assert sample.returncode == 0, sample.stderr
    pipeline = ["run", REPOSITORY / "dags" / "movielens.yaml", "--var", "ds=2026-11-01"]
    done = gdmix(*pipeline, "--set", f"input={source}", "--set", f"output={output}")
    assert done.returncode == 0, done.stderr
    assert "best by auc" in done.stdout
    assert "λ by auto" in done.stdout
    return Run.open(str(output))


def auc(run: Run, number: int, coordinate: str) -> float:
    value = run.result(evaluate_id(number, coordinate))["metrics"]["validation"]["auc"]
    assert isinstance(value, float)
    return value


def test_every_coordinate_and_the_second_pass_raise_the_validation_auc(trained: Run) -> None:
    assert auc(trained, 1, "global") + 0.05 < auc(trained, 1, "per_user")
    assert auc(trained, 1, "per_user") + 0.01 < auc(trained, 1, "per_movie")
    assert auc(trained, 1, "per_movie") + 0.001 < auc(trained, 2, "per_movie")
    assert trained.result("select")["value"] > 0.82


def test_automatic_l2_is_as_good_as_the_best_of_a_grid(trained: Run) -> None:
    """docs/statistics.md's table, at its fourth pass; the frame and the shards are those of the demo's run."""

    def after_four_passes(l2: Any) -> float:
        changes: dict[str, Any] = {f"coordinates.{name}.l2": l2 for name in ("per_user", "per_movie")}
        content = trained.config.model_dump(mode="json") | {"output": trained.root}
        run = Run.create(parse_config(override(content, changes | {"passes.max": 4})))
        for step in run.plan.steps:
            if step.kind in ("train_fixed", "train_random", "evaluate", "accelerate"):
                dispatch.execute(run, step)
        return auc(run, 4, "per_movie")

    best_of_grid = max(after_four_passes(l2) for l2 in (0.1, 1.0, 3.0, 10.0, 30.0))
    assert after_four_passes("auto") >= best_of_grid
