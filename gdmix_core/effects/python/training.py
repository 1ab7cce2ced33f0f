"""A coordinate trained by a function of the user's own, whose scores are checked and kept like any other's.

The function is called in a process of its own: what it does to that, such as ending it, is not done to the run.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdmix_core import storage
from gdmix_core.config.external import PythonModel
from gdmix_core.data.frame import Frame
from gdmix_core.effects.python.trainer_function import Trainer, settings_of, trainer_function
from gdmix_core.effects.python.trainer_input import TrainerInput
from gdmix_core.errors import StepError
from gdmix_core.pipeline.run import SPLITS
from gdmix_core.training_context import TrainingContext
from gdmix_core.workers import processes

log = logging.getLogger(__name__)

FILES = "files"


def train(context: TrainingContext) -> dict[str, Any]:
    """Call the function, write the scores it returns and the files it leaves; return {function, rows, files}.

    Raises StepError when it cannot be imported, raises, or does not return a finite score for every row.
    """
    path = settings_of(context.settings).function
    return context.once(lambda: _train(context, path), before=lambda: trainer_function(context.name, path))


def _train(context: TrainingContext, path: str) -> dict[str, Any]:
    # The modules that are found here are found there, whatever has put their folders on the path.
    arguments = ["--run", context.run.root, "--step", context.id, "--path", json.dumps(sys.path)]
    worker = processes.start("gdmix_core.effects.python.worker", arguments, leads_group=True)
    told: dict[str, Any] = {}
    (code,) = processes.wait_all([worker], lambda _, event: told.update(event))
    where = f"coordinate {context.name}: {path}"
    if "error" in told:
        raise StepError(told["error"])
    if code != 0:
        raise processes.explain((code,), (), where)
    if "outcome" not in told:
        raise StepError(f"{where} ended its process before it returned any scores; let it return, or raise an error")
    outcome: dict[str, Any] = told["outcome"]
    return outcome


def make_scores(context: TrainingContext) -> dict[str, Any]:
    """Call the function in this process, write what it returns and leaves; return {function, rows, files}."""
    name, model = context.name, settings_of(context.settings)
    function = trainer_function(name, model.function)
    frame = context.frame
    with tempfile.TemporaryDirectory() as folder, _previous(context) as previous:
        given = _input(context, frame, model, Path(folder), previous)
        log.info("%s: calling %s for %s rows", context.id, model.function, {s: given.rows(s) for s in given.splits})
        scores = _checked(name, model.function, _call(name, model.function, function, given), given)
        storage.remove(context.model_file(FILES))
        files = storage.copy_directory(folder, context.model_file(FILES))
    context.remove_score_parts()
    for split, vector in scores.items():
        storage.write_array(context.score_part(split, 0), vector)
    rows = {split: len(vector) for split, vector in scores.items()}
    return {"function": model.function, "rows": rows, "files": files}


@contextlib.contextmanager
def _previous(context: TrainingContext) -> Iterator[Path | None]:
    if context.previous is None:
        yield None
        return
    with storage.local_copy(context.previous.model_file(FILES)) as folder:
        # Of a remote folder that does not exist the copy is an empty one.
        yield Path(folder) if Path(folder).is_dir() and any(Path(folder).iterdir()) else None


def _input(
    context: TrainingContext, frame: Frame, model: PythonModel, folder: Path, previous: Path | None
) -> TrainerInput:
    splits = tuple(split for split in SPLITS if frame.rows(split))
    identity = f"{context.config.name}/{context.name}/{context.pass_number}"
    return TrainerInput(
        splits=splits,
        files={split: [path for path, _, _ in frame.blocks(split)] for split in splits},
        offsets={
            split: frame.column(split, "offset") + context.other_scores(split).span(0, frame.rows(split))
            for split in splits
        },
        settings=copy.deepcopy(model.settings),
        folder=folder,
        previous=previous,
        pass_number=context.pass_number,
        seed=int.from_bytes(hashlib.sha256(identity.encode()).digest()[:4], "big") >> 1,  # below 2**31
        task=context.config.task,
        coordinate=context.name,
        _frame=frame,
    )


def _call(name: str, path: str, function: Trainer, given: TrainerInput) -> Any:
    folder, mask = os.getcwd(), os.umask(0)
    os.umask(mask)
    try:
        return function(given)
    except (Exception, SystemExit) as error:
        log.exception("coordinate %s: %s failed", name, path)
        raise StepError(
            f"coordinate {name}: {path} raised {type(error).__name__}: {error}; its traceback is in the log"
        ) from error
    finally:
        # Files of the run that are written after it lie where they would have, and are as readable.
        os.chdir(folder)
        os.umask(mask)


def _checked(name: str, path: str, returned: Any, given: TrainerInput) -> dict[str, NDArray[np.float32]]:
    where = f"coordinate {name}: {path}"
    if not isinstance(returned, Mapping) or set(returned) != set(given.splits):
        shown = f"the keys {sorted(map(str, returned))}" if isinstance(returned, Mapping) else type(returned).__name__
        raise StepError(f"{where} must return a mapping of scores for {' and '.join(given.splits)}, not {shown}")
    return {split: _vector(where, split, returned[split], given.rows(split)) for split in given.splits}


def _vector(where: str, split: str, scores: Any, rows: int) -> NDArray[np.float32]:
    try:
        array = np.asarray(scores)
    except ValueError as error:  # of rows of different lengths
        raise StepError(f"{where}: the {split} scores are no array of numbers ({error})") from None
    if np.ma.is_masked(scores):
        raise StepError(
            f"{where}: {np.ma.count_masked(scores)} of {rows} {split} scores are masked; each row has one, so fill them"
        )
    if array.dtype.kind not in "fiu":
        raise StepError(f"{where}: the {split} scores have the type {array.dtype}; they must be numbers")
    if array.shape != (rows,):
        raise StepError(
            f"{where}: the {split} scores have the shape {list(array.shape)}; there are {rows} rows, and each has one"
        )
    with np.errstate(over="ignore"):
        vector: NDArray[np.float32] = array.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(vector))
    if len(bad):
        raise StepError(
            f"{where}: {len(bad)} of {rows} {split} scores are no finite float32, first {array[bad[0]]} of row {bad[0]}"
        )
    return vector
