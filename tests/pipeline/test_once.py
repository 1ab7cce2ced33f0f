"""A step that is killed at any line of its protocol leaves a result that is whole, or none."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

from gdmix_core.effects.linear import training
from gdmix_core.errors import ConfigError, StepError
from gdmix_core.execution.dispatch import execute
from gdmix_core.pipeline import markers, once
from gdmix_core.pipeline.run import Run
from gdmix_core.training_context import TrainingContext
from tests.run_directory import Rows, make_run

TRAIN = "pass_01.global.train"
PROTOCOL = {(once.__file__, "once"), (markers.__file__, "drop"), (markers.__file__, "commit")}


class Killed(BaseException):
    """Not an Exception: nobody catches a kill."""


def killed_at(line: int, work: Callable[[], Any]) -> bool:
    """Does the work up to so many lines of the protocol; whether it came that far."""
    left = line

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal left
        if (frame.f_code.co_filename, frame.f_code.co_name) not in PROTOCOL:
            return None
        if event == "line":
            left -= 1
            if left == 0:
                sys.settrace(None)
                raise Killed
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except Killed:
        return True
    finally:
        sys.settrace(before)
    return False


def with_l2(root: Path, l2: float) -> Run:
    content = Run.open(str(root)).config.model_dump(mode="json", exclude_none=True)
    content["coordinates"]["global"]["l2"] = l2
    return Run.create(Run.open(str(root)).config.model_validate(content))


def results_of(root: Path) -> dict[str, bytes]:
    """Models and scores."""
    files = [path for path in (root / "passes").rglob("*") if path.suffix in (".parquet", ".npy")]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


@pytest.mark.slow
def test_a_kill_at_every_line(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    rows = Rows((draw.random(40) < 0.5).astype(float), bags={"f": draw.normal(size=(40, 2))})
    settings = {"coordinates": {"global": {"fixed_effect": {}, "bag": "f", "l2": 1.0}}}
    root = Path(make_run(tmp_path, settings, rows).root)
    older = Run.open(str(root))
    training.train(TrainingContext(older, older.plan[TRAIN]))
    kept = shutil.copytree(root, tmp_path / "kept")
    first = results_of(root)
    newer = with_l2(root, 3.0)
    result = training.train(TrainingContext(newer, newer.plan[TRAIN]))
    whole = results_of(root)

    lines = 0
    while True:
        lines += 1
        shutil.rmtree(root)
        shutil.copytree(kept, root)
        again = with_l2(root, 3.0)
        killed = killed_at(lines, lambda: training.train(TrainingContext(again, again.plan[TRAIN])))  # noqa: B023
        # Under the older settings, too: its marker must not vouch for the newer files.
        back = with_l2(root, 1.0)
        if back.is_done(back.plan[TRAIN]):
            assert results_of(root) == first
        found = with_l2(root, 3.0)
        if found.is_done(found.plan[TRAIN]):
            assert found.result(TRAIN) == result
            assert results_of(root) == whole
        # What a checkpoint saves is not evaluated again.
        assert {**training.train(TrainingContext(found, found.plan[TRAIN])), "evaluations": 0} == {
            **result,
            "evaluations": 0,
        }
        assert results_of(root) == whole
        if not killed:
            break
    assert lines > 15


def test_what_it_reads_must_be_there(tmp_path: Path) -> None:
    rows = Rows(np.array([0.0, 1.0]), bags={"f": np.eye(2)})
    made = make_run(tmp_path, {"coordinates": {"global": {"fixed_effect": {}, "bag": "f"}}}, rows)
    with pytest.raises(StepError, match=rf"pass_01.global.evaluate needs {TRAIN}, which is missing"):
        execute(made, made.plan["pass_01.global.evaluate"])


def test_what_is_refused_before_leaves_the_older_result(tmp_path: Path) -> None:
    rows = Rows(np.array([0.0, 1.0, 1.0]), bags={"f": np.eye(3)[:, :2]})
    root = Path(make_run(tmp_path, {"coordinates": {"global": {"fixed_effect": {}, "bag": "f"}}}, rows).root)
    older = Run.open(str(root))
    training.train(TrainingContext(older, older.plan[TRAIN]))
    content = older.config.model_dump(mode="json", exclude_none=True)
    content["coordinates"]["global"]["bounds"] = [{"name": "nobody", "lower": 0.0}]
    newer = Run.create(type(older.config).model_validate(content))
    with pytest.raises(ConfigError, match="matches none of the 2 features"):
        training.train(TrainingContext(newer, newer.plan[TRAIN]))
    back = Run.create(older.config)
    assert back.is_done(back.plan[TRAIN])


def test_what_is_done_is_neither_checked_nor_finished_again(tmp_path: Path) -> None:
    rows = Rows(np.array([0.0, 1.0]), bags={"f": np.eye(2)})
    made = make_run(tmp_path, {"coordinates": {"global": {"fixed_effect": {}, "bag": "f"}}}, rows)
    step, said = made.plan[TRAIN], []
    training.train(TrainingContext(made, step))
    result = once.once(made, step, dict, before=lambda: said.append("before"), after=lambda _: said.append("after"))
    assert (said, result) == ([], made.result(TRAIN))
