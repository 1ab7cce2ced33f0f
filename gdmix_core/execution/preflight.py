"""The checks of what a run needs beside its configuration, made before it starts: a step would fail hours later.

They are cheap: files are listed, and small ones read; neither Spark nor TensorFlow is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from gdmix_core import extras, storage
from gdmix_core.config.pipeline import Config
from gdmix_core.data.ingest.column_types import Schemas, unusable_types
from gdmix_core.data.ingest.input_files import input_files
from gdmix_core.data.ingest.pieces import DIRECTORIES, open_file
from gdmix_core.data.ingest.schema_check import input_directories, read_tensors, undescribed
from gdmix_core.effects.effect import effect_of
from gdmix_core.errors import DataError, GdmixError


def check(config: Config, *, data_here: bool = True) -> None:
    """Raises DataError, which names all that is missing: the configuration's key, the path, and what to do.

    Call it where the training steps will run: on a machine that sees what they see, with the Python path they have.
    data_here: whether validate sees the same files; else input and score files are left to it: it looks for
    them before it reads a record.
    """
    faults = [*_raised("input", partial(_of_input, config))] if data_here else []
    faults += _of_packages(config)
    for name, coordinate in config.coordinates.items():
        if coordinate.locked:  # taken from the initial model as it is
            continue
        looks = effect_of(coordinate.kind).preflight(name, coordinate, config, data_here=data_here)
        for key, look in looks:
            faults += _raised(f"coordinates.{name}.fixed_effect.{key}", look)
    if config.initial_model is not None:
        from gdmix_core.models.initial.locate import find_initial

        faults += _raised("initial_model", partial(find_initial, config))
    if len(faults) == 1:
        raise DataError(f"the run cannot start: {faults[0]}")
    if faults:
        raise DataError("\n  ".join([f"the run cannot start, for {len(faults)} reasons:", *faults]))


def _of_packages(config: Config) -> Iterator[str]:
    """A line for each package that is not installed, with the extra that brings it."""
    needed: list[tuple[str, str, str]] = []
    for name, coordinate in config.coordinates.items():
        needed += effect_of(coordinate.kind).packages(name, coordinate)
    if config.tune is not None and config.tune.method != "grid":
        needed.append(("optuna", "search", f"tune.method: {config.tune.method}"))
    yield from filter(None, (extras.missing(*one) for one in needed))


def _of_input(config: Config) -> None:
    paths = input_directories(config)
    tensors = read_tensors(paths)
    if faults := undescribed(config, paths, tensors):
        raise DataError("\n".join(faults))
    files = {path: _first_schemas(path) for path in paths.values()}
    if faults := unusable_types(config, {path: tensors[name] for name, path in paths.items()}, files):
        raise DataError("\n".join(faults))


def _first_schemas(path: str) -> Schemas:
    """Return the schema of each split's first Parquet file; validate looks at them all.

    Raises DataError as input_files does.
    """
    found: Schemas = {}
    for directory in DIRECTORIES.values():
        files = [file for file in input_files(storage.join(path, directory)) if file.path.endswith(".parquet")]
        schema = open_file(files[0]).schema if files else None
        if schema is not None:
            found[files[0].path] = schema
    return found


def _raised(key: str, look: Callable[[], object]) -> Iterator[str]:
    """A line for each fault that looking shows."""
    try:
        look()
    except DataError as error:
        for line in str(error).splitlines():
            yield line if line.startswith(key) else f"{key}: {line}"
    except GdmixError as error:
        yield f"{key}: {error}"
