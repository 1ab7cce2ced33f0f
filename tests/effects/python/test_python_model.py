"""A trainer of the user's own: what it is given, what becomes of its scores and files, and every way it can fail."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from run_directory import Rows, make_run, walk
from waiting import wait_for

from gdmix_core import storage
from gdmix_core.data.frame import Frame
from gdmix_core.effects.python import training as python_training
from gdmix_core.errors import StepError
from gdmix_core.execution import dispatch
from gdmix_core.pipeline.run import Run
from gdmix_core.training_context import TrainingContext

ROWS, FEATURES = 90, 5


@pytest.fixture(autouse=True)
def own_trainers_are_importable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def rows_of(rows: int, seed: int) -> Rows:
    rng = np.random.default_rng(seed)
    x = np.where(rng.random((rows, FEATURES)) < 0.6, rng.normal(size=(rows, FEATURES)), 0.0)
    label = x @ np.arange(FEATURES) + rng.normal(size=rows)
    ids = {"user": rng.integers(0, 8, rows), "title": [f"title {i % 7}" if i % 3 else "" for i in range(rows)]}
    return Rows(
        label, rng.choice([0.5, 2.0], rows), rng.normal(size=rows), ids=ids, bags={"global": x, "per_user": x[:, :2]}
    )


def run_of(root: Path | str, function: str, passes: int = 1, validation: bool = True, **settings: Any) -> Run:
    effect = {"model": "python", "function": function, "bags": ["global"], "columns": ["title"], "settings": settings}
    config = {
        "task": "linear_regression",
        "coordinates": {
            "own": {"fixed_effect": effect},
            "per_user": {"random_effect": {"entity": "user", "shards": 2}, "bag": "per_user"},
        },
        "passes": {"max": passes},
    }
    return make_run(root, config, rows_of(ROWS, 0), rows_of(30, 1) if validation else None, rows_per_block=40)


def ridge_oracle(rows: Rows, offset: np.ndarray, l2: float) -> np.ndarray:
    x, root = np.asarray(rows.bags["global"], np.float32).astype(float), np.sqrt(np.asarray(rows.weight))
    target = np.asarray(rows.label) - offset
    a = np.vstack([x * root[:, None], np.sqrt(l2) * np.eye(FEATURES)])
    return np.linalg.lstsq(a, np.concatenate([target * root, np.zeros(FEATURES)]), rcond=None)[0]


@pytest.mark.parametrize("remote", [False, True])
def test_two_passes_with_offsets_files_and_export(tmp_path: Path, monkeypatch, remote: bool):
    root: Path | str = tmp_path
    if remote:  # whose files no other process sees
        root = f"memory://own-trainer/{tmp_path.name}"
        monkeypatch.setattr(python_training, "_train", lambda context, path: python_training.make_scores(context))
    run = run_of(root, "own_trainers:ridge", passes=2, l2=0.7)
    training, validation = rows_of(ROWS, 0), rows_of(30, 1)
    walk(run, "pass_01.own.evaluate")
    walk(run, "export")
    user = storage.read_array(run.scores(1, "per_user", "training"))
    before: list[float] | None = None
    for number, offset in ((1, training.offset), (2, training.offset + user)):
        expected = ridge_oracle(training, np.asarray(offset), 0.7)
        for split, rows in (("training", training), ("validation", validation)):
            scores = storage.read_array(run.scores(number, "own", split))
            assert scores.dtype == np.float32
            np.testing.assert_allclose(scores, np.asarray(rows.bags["global"]) @ expected, rtol=2e-4, atol=2e-4)
        files = run.coordinate(number, "own", "model", "files")
        np.testing.assert_allclose(storage.read_array(f"{files}/coefficients.npy"), expected, rtol=1e-4, atol=1e-5)
        seen = storage.read_json(f"{files}/within/seen.json")
        assert (seen["previous"], seen["pass_number"], seen["task"]) == (before, number, "linear_regression")
        assert seen["titles"] == training.ids["title"]
        assert seen["features"] == [["feature", str(i)] for i in range(FEATURES)]
        assert [storage.exists(path) for path in seen["files"]["training"]] == [True] * 3
        assert 0 <= seen["seed"] < 2**31
        before = storage.read_array(f"{files}/coefficients.npy").tolist()
    assert run.result("pass_02.own.train")["files"] == ["coefficients.npy", "within/seen.json"]
    best = run.result("select")["pass"]
    exported = storage.read_array(run.path("export", "own", "files", "coefficients.npy"))
    kept = storage.read_array(run.coordinate(best, "own", "model", "files", "coefficients.npy"))
    assert exported.tolist() == kept.tolist()
    described = run.result("export")["coordinates"]["own"]
    assert (described["kind"], described["models"], described["entity"]) == ("python", 1, None)
    assert storage.exists(run.path("export", "own", "features", "global.csv"))


def test_a_pass_before_that_left_nothing(tmp_path: Path):
    """Neither here nor on an object store, which has no empty folders."""
    for root in (str(tmp_path), f"memory://own-trainer-without-files/{tmp_path.name}"):
        run = run_of(root, "own_trainers:constant", passes=2)
        with python_training._previous(TrainingContext(run, run.plan["pass_02.own.train"])) as previous:
            assert previous is None


def test_what_is_done_is_not_done_again_and_older_files_go(tmp_path: Path):
    run = run_of(tmp_path, "own_trainers:ridge", l2=0.7)
    step = run.plan["pass_01.own.train"]
    dispatch.execute(run, step)
    marker = Path(run.marker(step))
    stamp = marker.stat().st_mtime_ns
    dispatch.execute(run, step)
    assert marker.stat().st_mtime_ns == stamp
    files = Path(run.coordinate(1, "own", "model", "files"))
    (files / "stale").touch()
    run = run_of(tmp_path, "own_trainers:ridge", l2=0.8)
    dispatch.execute(run, run.plan["pass_01.own.train"])
    assert sorted(path.name for path in files.iterdir()) == ["coefficients.npy", "within"]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("nothing", "must return a mapping of scores for training, not NoneType"),
        ("no split", r"must return a mapping of scores for training, not the keys \[\]"),
        ("another split", r"must return .* for training, not the keys \['test', 'training'\]"),
        ("too few", r"the training scores have the shape \[89\]; there are 90 rows"),
        ("a column", r"the training scores have the shape \[90, 1\]"),
        ("texts", "the training scores have the type <U4; they must be numbers"),
        ("lists of different lengths", "the training scores are no array of numbers"),
        ("masked", "1 of 90 training scores are masked; each row has one, so fill them"),
        ("nan", "1 of 90 training scores are no finite float32, first nan of row 2"),
        ("too large", r"90 of 90 training scores are no finite float32, first 1e\+39 of row 0"),
        ("raises", "raised ValueError: the trainer's own words; its traceback is in the log"),
        ("exits", "raised SystemExit: 3"),
        ("unknown bag", "raised KeyError: .*per_user is none of the bags of coordinate own: global"),
    ],
)
def test_a_trainer_that_fails(tmp_path: Path, capfd: pytest.CaptureFixture[str], what: str, message: str):
    run = run_of(tmp_path, "own_trainers:broken", validation=False, what=what)
    step = run.plan["pass_01.own.train"]
    with pytest.raises(StepError, match=message) as error:
        dispatch.execute(run, step)
    assert str(error.value).startswith("coordinate own: own_trainers:broken")
    assert not run.is_done(step)
    if "raised" in message:
        assert "in broken\n" in capfd.readouterr().err  # the line of the user's code


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("ends the process", "own_trainers:kills ended its process before it returned any scores"),
        ("is killed", r"own_trainers:kills: worker 0: killed by SIGKILL \(out of memory\?\)"),
    ],
)
def test_a_trainer_whose_process_ends_before_it(tmp_path: Path, what: str, message: str):
    run = run_of(tmp_path, "own_trainers:kills", validation=False, what=what, pids=str(tmp_path / "pids"))
    step = run.plan["pass_01.own.train"]
    with pytest.raises(StepError, match=message):
        dispatch.execute(run, step)
    assert not run.is_done(step)
    assert_ended(tmp_path / "pids")


def test_what_a_trainer_starts_and_prints(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """Nothing that it has started outlives it, and what it prints is taken for nothing else."""
    run = run_of(tmp_path, "own_trainers:kills", validation=False, what="returns", pids=str(tmp_path / "pids"))
    step = run.plan["pass_01.own.train"]
    before = Path.cwd()
    assert dispatch.execute(run, step)["rows"] == {"training": ROWS}
    assert_ended(tmp_path / "pids")
    assert Path.cwd() == before
    assert '{"outcome": "mine"}' in capfd.readouterr().err


def test_a_trainer_ends_with_the_run(tmp_path: Path):
    """kill -9 of the process that waits for it; the trainer ignores the signal that it gets then."""
    run = run_of(tmp_path, "own_trainers:kills", validation=False, what="stays", pids=str(tmp_path / "pids"))
    code = (
        "from gdmix_core.execution import dispatch; from gdmix_core.pipeline.run import Run; "
        f"run = Run.open({run.root!r}); dispatch.execute(run, run.plan['pass_01.own.train'])"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", code], env=environment) as process:
        wait_for("the trainer", lambda: (tmp_path / "pids").exists() or None, every=0.05)
        process.kill()
    assert_ended(tmp_path / "pids")


def assert_ended(pids: Path) -> None:
    for pid in map(int, pids.read_text().split()):
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            wait_for(
                f"the end of {pid}",
                lambda process=process: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE or None,
                every=0.05,
            )


def test_other_numbers_than_floats_are_scores_too(tmp_path: Path):
    run = run_of(tmp_path, "own_trainers:broken", validation=False, what="a list of ints")
    walk(run, "pass_01.own.evaluate")
    assert np.load(run.scores(1, "own", "training")).tolist() == [1.0] * ROWS
    assert Frame(run).rows("validation") == 0


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("absent_module:train", "there is no module absent_module; install it, or put the folder .* on PYTHONPATH"),
        ("own_trainers.inner:train", "there is no module own_trainers.inner;"),
        ("own_trainers:absent", r"own_trainers\.py has no absent, only ridge, broken"),
        ("own_trainers:NOT_A_FUNCTION", "NOT_A_FUNCTION is a int, not a function"),
        ("own_trainers:of_two", "of_two is called with one argument, a TrainerInput: missing .* 'settings'"),
        ("needs_absent:train", "importing needs_absent raised ModuleNotFoundError: No module named 'really_absent'"),
        ("does_not_parse:train", "importing does_not_parse raised SyntaxError"),
    ],
)
def test_a_function_that_cannot_be_imported(tmp_path: Path, monkeypatch, function: str, message: str):
    (tmp_path / "needs_absent.py").write_text("import really_absent\n")
    (tmp_path / "does_not_parse.py").write_text("def train(:\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    run = run_of(tmp_path / "run", function)
    with pytest.raises(StepError, match=message):
        dispatch.execute(run, run.plan["pass_01.own.train"])
    for name in ("needs_absent", "does_not_parse"):
        sys.modules.pop(name, None)
