"""Operators leave directories alone that are not their pipeline's, and share a run with each other alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from run_directory import Rows, make_run
from test_operators import context, execute

from gdmix_core.errors import ConfigError, DataError, StepError
from gdmix_core.pipeline import run_lock
from gdmix_core.pipeline.run import Run
from gdmix_operators.factory import build_dag
from gdmix_operators.operators.steps import EvaluateOperator

COORDINATES = {"global": {"fixed_effect": {}, "bag": "f"}}


def pipeline(folder: Path, **changes: Any) -> dict[str, Any]:
    content = {"name": "mine", "input": f"{folder}/in", "output": f"{folder}/out", "coordinates": COORDINATES}
    return {**content, **changes}


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def validate(content: dict[str, Any], conf: dict[str, Any] | None = None) -> Any:
    dag = build_dag(content)
    return execute(dag.get_task("validate"), context(dag, conf))


@pytest.mark.parametrize(
    ("output", "said"),
    [("other/../other", "is the run of pipeline theirs"), ("notes", "is not a run of gdmix, and holds a.txt"),
     ("in", "is input"), ("", "holds input"), ("in/out", "lies in input"), ("notes/a.txt", "is a file")],
)  # fmt: skip
def test_an_output_of_the_form_that_is_not_the_pipelines(tmp_path: Path, output: str, said: str):
    make_run(tmp_path / "made", {"name": "theirs", "coordinates": COORDINATES}, Rows([0, 1], bags={"f": [[1], [2]]}))
    (tmp_path / "made" / "run").rename(tmp_path / "other")
    for name in ("notes/a.txt", "in/trainingData/part-00000.parquet"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("mine")
    before = files_of(tmp_path)
    with pytest.raises(ConfigError, match=said):
        validate(pipeline(tmp_path), {"output": f"{tmp_path}/{output}"})
    assert files_of(tmp_path) == before


def test_a_run_that_cannot_start_keeps_what_an_earlier_one_wrote(tmp_path: Path):
    run = Run.create(make_run(tmp_path, pipeline(tmp_path), Rows([0, 1], bags={"f": [[1], [2]]})).config)
    before = files_of(tmp_path)
    with pytest.raises(DataError, match="the run cannot start: input: "):
        validate(pipeline(tmp_path, output=run.root, name=run.config.name, passes={"max": 3}))
    assert files_of(tmp_path) == before


def test_tasks_share_a_run_but_not_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run_lock, "PATIENCE", 0.5)
    content = pipeline(tmp_path)
    run = make_run(tmp_path, content, Rows([0, 1, 1], bags={"f": [[1], [2], [3]]}))
    dag = build_dag(content)
    seen: list[str] = []

    class Looking(EvaluateOperator):
        def carry_out(self, run: Run, step: Any, context: Any) -> dict[str, Any]:
            with run_lock.whole_run(run.root, shared=True):  # as another task does
                seen.append("shared")
            with pytest.raises(StepError, match="being worked on by"):
                run_lock.whole_run(run.root).__enter__()  # as `gdmix run` does
            return {}

    task = Looking(task_id="pass_01.global.evaluate", run=run.root)
    execute(task, context(dag))
    assert seen == ["shared"]
    with run_lock.whole_run(run.root), pytest.raises(StepError, match="the run is being worked on by process"):
        execute(task, context(dag))
    assert seen == ["shared"]
