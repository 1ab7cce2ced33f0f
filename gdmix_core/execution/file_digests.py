"""Files beside the input that a training step's result depends on: what they hold is part of the step's key.

Digests of them are taken once, when a run starts, as of the input; so every process of the run has the same keys, and
sees a file of hundreds of megabytes read once. Whole contents, not sizes and times of change, which a copy changes.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import sys

from gdmix_core import storage
from gdmix_core.config.external import PythonModel
from gdmix_core.config.text import TextModel
from gdmix_core.config.text_files import encoder_files, encoder_folder, vocabulary_path
from gdmix_core.effects.python.trainer_function import trainer_function
from gdmix_core.pipeline.run import Run


def record(run: Run) -> None:
    """Takes the digests of all watched files, and leaves them in the run. They must be there: prerequisites.check."""
    found: dict[str, dict[str, str]] = {}
    for name, coordinate in run.config.coordinates.items():
        effect = None if coordinate.locked else coordinate.fixed_effect
        if isinstance(effect, TextModel):
            files = _of_text(effect)
        elif isinstance(effect, PythonModel):
            files = _of_trainer(name, effect)
        else:
            continue
        if files:
            found[name] = {what: _digest(path) for what, path in files.items()}
    run.watches(found)


def _of_text(model: TextModel) -> dict[str, str]:
    """What it is → path: the vocabulary, and those files of an encoder's folder that are read."""
    vocabulary, folder = vocabulary_path(model), encoder_folder(model)
    files = {} if vocabulary is None else {"vocabulary": vocabulary}
    read = [path for path in encoder_files(folder) if os.path.exists(path)] if folder is not None else []
    return files | {f"encoder: {os.path.basename(path)}": path for path in read}


def _of_trainer(coordinate: str, model: PythonModel) -> dict[str, str]:
    """The source of the module that is named, and of the one that the function comes from. Not of what these import."""
    function = inspect.unwrap(trainer_function(coordinate, model.function))
    modules = [model.function.partition(":")[0]]
    if inspect.isfunction(function) or inspect.isclass(function):
        modules.append(function.__module__)
    files = {name: getattr(sys.modules.get(name), "__file__", None) for name in modules}
    return {f"module: {name}": path for name, path in files.items() if path and os.path.exists(path)}


def _digest(path: str) -> str:
    with storage.open_for_read(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
