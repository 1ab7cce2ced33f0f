"""Files beside the input decide whether a step is still done: vocabularies, encoders, a trainer's source."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_directory import Rows, make_run

from gdmix_core import storage
from gdmix_core.errors import DataError
from gdmix_core.execution import dispatch, file_digests
from gdmix_core.execution.local_run import carry_out_data_step
from gdmix_core.pipeline.fingerprints import Fingerprints
from gdmix_core.pipeline.plan import build_plan
from gdmix_core.pipeline.run import Run
from gdmix_core.search.trials import open_trial

PER_USER = {"random_effect": {"entity": "user", "shards": 1}}
ROWS = Rows(np.arange(6) % 2, ids={"user": np.arange(6) % 3, "title": ["a"] * 6})


def run_of(root: Path, effect: dict[str, Any], **config: Any) -> Run:
    coordinates = {"own": {"fixed_effect": effect}, "per_user": PER_USER}
    run = make_run(root, {"coordinates": coordinates, **config}, ROWS)
    file_digests.record(run)
    return run


def again(run: Run) -> Run:
    """The run as the command opens it another time, when it starts again."""
    opened = Run.open(run.root)
    file_digests.record(opened)
    return opened


def done(run: Run) -> list[str]:
    return [step.id for step in run.plan.steps if run.is_done(step)]


def text_run(root: Path, **config: Any) -> Run:
    """With a vocabulary and a BERT folder, whose contents do not matter here; its steps are said to be done."""
    (root / "bert").mkdir()
    for name in ("config.json", "model.safetensors", "vocab.txt"):
        (root / "bert" / name).write_text(name)
    (root / "words.txt").write_text("film\n")
    encoder = {"type": "transformer", "path": str(root / "bert")}
    vocabulary = {"tokenizer": "wordpiece", "file": str(root / "words.txt")}
    effect = {"model": "text", "document": "title", "encoder": encoder, "vocabulary": vocabulary}
    run = run_of(root, effect, **config)
    for step in run.plan.steps[2:]:
        run.commit(step, {})
    return run


def test_a_changed_vocabulary_or_encoder_trains_again(tmp_path: Path):
    run = text_run(tmp_path)
    everything = done(run)
    assert len(everything) == len(run.plan.steps)
    assert done(again(run)) == everything
    for name in ("words.txt", "bert/config.json", "bert/model.safetensors"):
        path = tmp_path / name
        before = path.read_text()
        path.write_text(before[::-1])
        # Its own training, and whatever reads its scores; not the data.
        assert done(again(run)) == ["validate", "partition"]
        path.write_text(before)
        assert done(again(run)) == everything
    (tmp_path / "bert" / "tokenizer_config.json").write_text("{}")  # read, too, once it is there
    assert done(again(run)) == ["validate", "partition"]


def test_what_is_not_read_and_times_of_change_decide_nothing(tmp_path: Path):
    run = text_run(tmp_path)
    everything = done(run)
    (tmp_path / "bert" / "README.md").write_text("new")
    (tmp_path / "bert" / "vocab.txt").write_text("vocabulary.file is read in its place")
    os.utime(tmp_path / "bert" / "model.safetensors", (1, 1))
    assert done(again(run)) == everything


def test_a_coordinate_before_the_network_is_kept(tmp_path: Path):
    (tmp_path / "words.txt").write_text("film\n")
    text = {"model": "text", "document": "title", "vocabulary": {"file": str(tmp_path / "words.txt")}}
    run = run_of(tmp_path, text, coordinates={"per_user": PER_USER, "titles": {"fixed_effect": text}})
    for step in run.plan.steps[2:]:
        run.commit(step, {})
    (tmp_path / "words.txt").write_text("films\n")
    assert done(again(run)) == ["validate", "partition", "pass_01.per_user.train", "pass_01.per_user.evaluate"]


def test_rounds_of_a_search_and_their_trials(tmp_path: Path):
    run = text_run(tmp_path, tune={"parameters": {"coordinates.per_user.l2": [1.0, 2.0]}})
    round_of = [step.id for step in run.plan.steps if step.kind == "trials"]
    train = "pass_01.own.train"
    trial_key = open_trial(run, 1, {"coordinates.per_user.l2": 1.0}).keys[train]
    assert set(round_of) < set(done(run))
    (tmp_path / "words.txt").write_text("films\n")
    changed = again(run)
    assert done(changed) == ["validate", "partition"]
    assert open_trial(changed, 1, {"coordinates.per_user.l2": 1.0}).keys[train] != trial_key


def test_an_earlier_network_is_laid_out_again_unless_it_is_locked(tmp_path: Path):
    (tmp_path / "words.txt").write_text("film\n")
    text = {"model": "text", "document": "title", "vocabulary": {"file": str(tmp_path / "words.txt")}}
    for locked in (False, True):
        coordinates = {"own": {"fixed_effect": text, "locked": locked}, "per_user": PER_USER}
        run = run_of(tmp_path / str(locked), text, coordinates=coordinates, initial_model="yesterday")
        (tmp_path / "words.txt").write_text(f"{locked}\n")
        before, after = run.keys, again(run).keys
        changed = {step for step in before if before[step] != after[step]}
        assert changed == (set() if locked else set(before) - {"validate", "partition"})


TRAINER = "def train(given):\n    return {split: [%s] * given.rows(split) for split in given.splits}\n"


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A folder for modules, which are imported anew in every `again`, as in another process."""
    (tmp_path / "watched_package").mkdir()
    (tmp_path / "watched_package" / "__init__.py").write_text("from watched_package.inner import train\n")
    (tmp_path / "watched_package" / "inner.py").write_text(TRAINER % 1)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def forget() -> None:
        for name in [name for name in sys.modules if name.startswith("watched_package")]:
            del sys.modules[name]

    yield forget
    forget()


@pytest.mark.parametrize("module", ["watched_package", "watched_package.inner"])
def test_a_trainer_whose_source_changes_is_called_again(tmp_path: Path, modules: Any, module: str):
    run = run_of(tmp_path, {"model": "python", "function": f"{module}:train"})
    train = run.plan["pass_01.own.train"]
    dispatch.execute(run, train)
    written = Path(run.marker(train)).stat().st_mtime_ns
    for number in (1, 2):
        (tmp_path / "watched_package" / "inner.py").write_text(TRAINER % number)
        modules()
        run = again(run)
        dispatch.execute(run, train)
        scores = storage.read_array(run.score_part(1, "own", "training", 0))
        assert scores.tolist() == [number] * 6
        assert (Path(run.marker(train)).stat().st_mtime_ns == written) == (number == 1)


def test_keys_of_runs_without_such_files_are_as_they_were(tmp_path: Path):
    run = run_of(tmp_path, {"model": "text", "document": "title"})
    assert run.keys == build_plan(run.config).keys(Fingerprints(run.fingerprints.input))
    linear = run_of(tmp_path / "linear", {}, coordinates={"own": {"fixed_effect": {}}})
    assert not Path(linear.path("watched.json")).exists()


def test_digests_are_taken_when_the_run_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = text_run(tmp_path)
    storage.remove(run.path("watched.json"))
    monkeypatch.setattr(
        "gdmix_core.execution.preflight.check", lambda config: None
    )  # the files are not what they are called
    with pytest.raises(DataError, match="no input there"):
        carry_out_data_step(run, run.plan["validate"])
    assert set(storage.read_json(run.path("watched.json"))["own"]) == {
        "vocabulary", "encoder: config.json", "encoder: model.safetensors",
    }  # fmt: skip
