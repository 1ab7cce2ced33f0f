"""Trainers as a user writes them, for the tests of `model: python`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np

from gdmix_core import TrainerInput

NOT_A_FUNCTION = 3


def ridge(given: TrainerInput) -> dict[str, Any]:
    """Weighted least squares of label − offset on a bag; leaves its coefficients, and what it saw, in the folder."""
    x, w = given.bag("training", "global"), given.weights("training")
    target = given.labels("training") - given.offsets["training"]
    weighted = x.T.multiply(w).tocsr()
    coefficients = np.linalg.solve(
        (weighted @ x).toarray() + given.settings["l2"] * np.eye(x.shape[1]), weighted @ target
    )
    np.save(given.folder / "coefficients.npy", coefficients)
    (given.folder / "within").mkdir()
    seen = {
        "previous": None if given.previous is None else np.load(given.previous / "coefficients.npy").tolist(),
        "pass_number": given.pass_number,
        "seed": given.seed,
        "features": given.features("global"),
        "titles": given.column("training", "title").to_pylist(),
        "files": given.files,
        "task": given.task,
    }
    (given.folder / "within" / "seen.json").write_text(json.dumps(seen))
    return {split: given.bag(split, "global") @ coefficients for split in given.splits}


def broken(given: TrainerInput) -> Any:
    """Returns, or does, what settings.what says."""
    rows = given.rows("training")
    scores: dict[str, Any] = {
        "nothing": None,
        "no split": {},
        "another split": {"training": np.zeros(rows), "test": np.zeros(3)},
        "too few": {"training": np.zeros(rows - 1)},
        "a column": {"training": np.zeros((rows, 1))},
        "texts": {"training": ["high"] * rows},
        "lists of different lengths": {"training": [[1.0]] * (rows - 1) + [[1.0, 2.0]]},
        "masked": {"training": np.ma.masked_where(np.arange(rows) == 2, np.zeros(rows))},
        "nan": {"training": np.where(np.arange(rows) == 2, np.nan, 0.0)},
        "too large": {"training": [1e39] * rows},
        "a list of ints": {"training": [1] * rows},
    }
    if given.settings["what"] == "raises":
        raise ValueError("the trainer's own words")
    if given.settings["what"] == "exits":
        raise SystemExit(3)
    if given.settings["what"] == "unknown bag":
        given.bag("training", "per_user")
    return scores[given.settings["what"]]


def kills(given: TrainerInput) -> dict[str, Any]:
    """Starts processes (one in a session of its own), prints, leaves the folder, then does what settings.what says."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    apart = given.settings["what"] == "returns"
    started = [subprocess.Popen(["sleep", "600"], start_new_session=new) for new in {False, apart}]
    forked = os.fork()
    if not forked:
        time.sleep(600)
        os._exit(0)
    pids = Path(given.settings["pids"])
    pids.with_suffix(".new").write_text(" ".join(map(str, [os.getpid(), forked, *(p.pid for p in started)])))
    pids.with_suffix(".new").rename(pids)
    print('{"outcome": "mine"}', flush=True)
    os.chdir("/")
    match given.settings["what"]:
        case "ends the process":
            os._exit(0)
        case "is killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stays":
            time.sleep(600)
    return {split: np.zeros(given.rows(split)) for split in given.splits}


def of_two(given: TrainerInput, settings: dict[str, Any]) -> dict[str, Any]:
    return {}
