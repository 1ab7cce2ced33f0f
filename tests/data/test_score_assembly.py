"""Bringing the parts of a coordinate's scores together, and a kill in the midst of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from run_directory import Rows, make_run

from gdmix_core import storage
from gdmix_core.execution import dispatch

EXTERNAL = {"fixed_effect": {"model": "external", "scores": "anywhere"}}
PER_USER = {"random_effect": {"entity": "user"}}


def test_an_evaluation_killed_while_it_removed_the_parts_goes_on(tmp_path: Path):
    scores = np.random.default_rng(0).normal(size=250)
    rows = Rows(np.arange(250) % 2, ids={"user": np.arange(250) % 9}, scores={"global": scores})
    run = make_run(tmp_path, {"coordinates": {"global": EXTERNAL, "per_user": PER_USER}}, rows, rows_per_block=100)
    dispatch.execute(run, run.plan["pass_01.global.train"])
    parts = Path(run.coordinate(1, "global", "scores", "training"))
    shutil.copytree(parts, tmp_path / "parts")
    evaluation = run.plan["pass_01.global.evaluate"]
    expected = dispatch.execute(run, evaluation)

    shutil.copytree(tmp_path / "parts", parts)
    (parts / "part-00000.npy").unlink()
    storage.remove(run.marker(evaluation))
    assert dispatch.execute(run, evaluation) == expected
    assert not parts.exists()
    np.testing.assert_array_equal(storage.read_array(run.scores(1, "global", "training")), scores.astype(np.float32))
