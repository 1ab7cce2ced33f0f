"""Steps that are too small for a task of their own: the task beside them carries them out, resumes or refuses them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from airflow.sdk.exceptions import AirflowSkipException
from run_directory import Rows, make_run
from test_dag_structure import in_fresh_process

from gdmix_core.errors import ConfigError, StepError
from gdmix_core.execution import dispatch
from gdmix_core.pipeline.run import Run
from gdmix_operators.operators.steps import ExportOperator, TrainFixedEffectOperator, TrainRandomEffectOperator

NO_CONTEXT: Any = SimpleNamespace()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2))
    rows = Rows((X[:, 0] > 0).astype(float), ids={"user": rng.integers(0, 5, 60)}, bags={"g": X})
    coordinates = {
        "global": {"fixed_effect": {}, "bag": "g", "l2": 2.0},
        "per_user": {"random_effect": {"entity": "user", "shards": 2}, "l2": 3.0},
    }
    return make_run(tmp_path, {"coordinates": coordinates, "passes": {"max": 3, "min_delta": 1.0}}, rows, rows)


def train(run: Run, pass_number: int, name: str) -> Any:
    """The task as the factory makes it."""
    operator = TrainFixedEffectOperator if name == "global" else TrainRandomEffectOperator
    at = f"pass_{pass_number:02d}"
    gate = [f"{at}.gate"] if pass_number > 1 and name == "global" else []
    after = [f"{at}.{name}.evaluate"]
    return operator(task_id="train", step=f"{at}.{name}.train", before=gate, after=after, run=run.root)


def test_what_the_steps_return_is_in_one(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    found = train(run, 1, "global").execute(NO_CONTEXT)
    written = run.result("pass_01.global.evaluate")["metrics"]["validation"]
    assert found.items() >= {"pass": 1, "coordinate": "global", **written}.items()
    assert found["iterations"] == run.result("pass_01.global.train")["iterations"]
    log = capsys.readouterr().out
    for said in ("Training the fixed effect", "pass_01.global.train done in", "Evaluating", "evaluate done in"):
        assert log.count(said) == 1
    json.dumps(found)


def test_a_retry_resumes_at_the_step_that_is_missing(run: Run) -> None:
    """The first try ended between the two, or lost what the second had written."""
    step = run.plan["pass_01.global.train"]
    dispatch.execute(run, step)
    before = Path(run.marker(step)).stat().st_mtime_ns
    found = train(run, 1, "global").execute(NO_CONTEXT)
    Path(run.marker(run.plan["pass_01.global.evaluate"])).unlink()
    assert train(run, 1, "global").execute(NO_CONTEXT) == found
    assert Path(run.marker(step)).stat().st_mtime_ns == before


def test_a_gate_that_stops_skips_the_task(run: Run) -> None:
    for number in (1, 2):
        for name in ("global", "per_user"):
            train(run, number, name).execute(NO_CONTEXT)
    with pytest.raises(AirflowSkipException, match="no further pass: pass 2 improved"):
        train(run, 3, "global").execute(NO_CONTEXT)
    assert not Path(run.path("passes", "03")).exists()
    best = ExportOperator(task_id="export", before=["select"], run=run.root).execute(NO_CONTEXT)
    assert best["value"] == run.result("select")["value"]
    assert Path(best["path"], "manifest.json").exists()


def test_what_fails_is_named(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(StepError, match=r"pass_02\.gate needs pass_01\.per_user\.evaluate"):
        train(run, 2, "global").execute(NO_CONTEXT)
    assert "pass_02.gate failed after" in capsys.readouterr().out
    task = TrainFixedEffectOperator(
        task_id="mine", step="pass_01.global.train", after=["pass_01.globl.evaluate"], run=run.root
    )
    with pytest.raises(ConfigError, match=r"task mine: there is no step pass_01\.globl\.evaluate in the plan"):
        task.execute(NO_CONTEXT)
    assert not Path(run.marker(run.plan["pass_01.global.train"])).exists(), "nothing is begun that cannot be ended"


@pytest.mark.slow
def test_a_random_effect_imports_what_it_needs(run: Run) -> None:
    """Arrow, Numba and NumPy, and nothing large that it does not work with."""
    pytest.importorskip("pandas")
    train(run, 1, "global").execute(NO_CONTEXT)
    code = f"""
import sys
from gdmix_operators import TrainRandomEffectOperator
TrainRandomEffectOperator(
    task_id="train", step="pass_01.per_user.train", after=["pass_01.per_user.evaluate"], run={run.root!r}
).execute(None)
print(*sorted({{name.partition(".")[0] for name in sys.modules}}))
"""
    loaded = set(in_fresh_process(code).splitlines()[-1].split())
    assert loaded >= {"numpy", "numba", "pyarrow", "gdmix_core"}
    assert loaded.isdisjoint(
        {"pandas", "matplotlib", "duckdb", "fastavro", "tensorflow", "pyspark", "optuna", "sklearn"}
    )
