"""The function of the user's own that trains a coordinate, found by its import path."""

from __future__ import annotations

import importlib
import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any

from gdmix_core.config.coordinate import Coordinate
from gdmix_core.config.external import PythonModel
from gdmix_core.effects.python.trainer_input import TrainerInput
from gdmix_core.errors import StepError

log = logging.getLogger(__name__)

Trainer = Callable[[TrainerInput], Mapping[str, Any]]


def settings_of(coordinate: Coordinate) -> PythonModel:
    assert isinstance(coordinate.effect, PythonModel)
    return coordinate.effect


def trainer_function(coordinate: str, path: str) -> Trainer:
    """Import the function at package.module:function. Raises StepError, which says why that fails."""
    module_name, _, function_name = path.partition(":")
    where = f"coordinate {coordinate}: {path}"
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{module_name}.".startswith(f"{error.name}."):
            raise StepError(
                f"{where}: there is no module {error.name}; install it, or put the folder it lies in on PYTHONPATH, "
                "wherever this step runs"
            ) from None
        log.exception("%s: the module cannot be imported", where)
        raise StepError(
            f"{where}: importing {module_name} raised {type(error).__name__}: {error}; its traceback is in the log"
        ) from error
    function = getattr(module, function_name, None)
    if function is None:
        its_own = [n for n, value in vars(module).items() if getattr(value, "__module__", None) == module_name]
        raise StepError(f"{where}: {module.__file__} has no {function_name}, only {', '.join(its_own) or 'nothing'}")
    if not callable(function):
        raise StepError(f"{where}: {function_name} is a {type(function).__name__}, not a function")
    if (fault := _fault_of_arguments(function)) is not None:
        raise StepError(f"{where}: {function_name} is called with one argument, a TrainerInput: {fault}")
    found: Trainer = function
    return found


def _fault_of_arguments(function: Callable[..., Any]) -> str | None:
    """Say why it cannot be called with one argument; None if it can, or does not tell (as some of C's do not)."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    try:
        signature.bind(None)
    except TypeError as error:
        return str(error)
    return None
