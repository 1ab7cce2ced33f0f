"""What a run needs beside its configuration, looked at before it starts: not after hours, by the step that reads it.

Cheap: files are listed, and small ones read; neither Spark nor TensorFlow is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from gdmix_core import extras, storage
from gdmix_core.config.coordinate import FixedEffect
from gdmix_core.config.external import ExternalModel, PythonModel
from gdmix_core.config.pipeline import Config
from gdmix_core.config.text import TextModel
from gdmix_core.config.text_files import faults_of_text_files
from gdmix_core.data.ingest.column_types import Schemas, unusable_types
from gdmix_core.data.ingest.external_scores import score_files_at
from gdmix_core.data.ingest.input_files import input_files
from gdmix_core.data.ingest.pieces import DIRECTORIES, open_file
from gdmix_core.data.ingest.schema_check import input_directories, read_tensors, undescribed
from gdmix_core.effects.python.trainer_function import trainer_function
from gdmix_core.errors import DataError, GdmixError
from gdmix_core.models.initial.locate import find_earlier


def check(config: Config, *, spark_reads_here: bool = True) -> None:
    """Raises DataError, which names all that is missing: the configuration's key, the path, and what to do.

    Call it where the training steps will run: on a machine that sees what they see, with the Python path they have.
    spark_reads_here: whether the Spark jobs see the same files; else input and score files are left to them, and
    validate looks for them before it reads a record.
    """
    faults = [*_raised("input", partial(_of_input, config))] if spark_reads_here else []
    faults += _of_packages(config)
    for name, coordinate in config.coordinates.items():
        effect, key = coordinate.fixed_effect, f"coordinates.{name}.fixed_effect"
        if coordinate.locked:  # taken from the initial model as it is
            continue
        if isinstance(effect, TextModel):
            faults += [f"{key}.{part}: {fault}" for part, fault in faults_of_text_files(effect)]
            faults += _of_parameter_servers(key, effect, config.output)
        elif isinstance(effect, ExternalModel) and spark_reads_here:
            for path in effect.scores:
                faults += _raised(f"{key}.scores", partial(score_files_at, name, path.rstrip("/")))
        elif isinstance(effect, PythonModel):
            # Imported, as the step itself will do: only so it shows that what it imports is there, too. `gdmix run`
            # imports it into this very process anyway, and every task of Airflow is a process of its own.
            faults += _raised(f"{key}.function", partial(trainer_function, name, effect.function))
    if config.initial_model is not None:
        faults += _raised("initial_model", partial(find_earlier, config))
    if len(faults) == 1:
        raise DataError(f"the run cannot start: {faults[0]}")
    if faults:
        raise DataError("\n  ".join([f"the run cannot start, for {len(faults)} reasons:", *faults]))


def _of_packages(config: Config) -> Iterator[str]:
    """A line for each package that is not installed, with the extra that brings it."""
    needed = []
    for name, coordinate in config.coordinates.items():
        effect, key = coordinate.fixed_effect, f"coordinates.{name}.fixed_effect"
        if isinstance(effect, TextModel):
            needed.append(("tensorflow", "text", f"{key}.model: text"))
        elif isinstance(effect, FixedEffect) and effect.workers > 1 and not coordinate.locked:
            needed.append(("tensorflow", "distributed", f"{key}.workers: {effect.workers}"))
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
    """Of the first Parquet file of each split; validate looks at them all. Raises DataError as input_files does."""
    found: Schemas = {}
    for directory in DIRECTORIES.values():
        files = [file for file in input_files(storage.join(path, directory)) if file.path.endswith(".parquet")]
        schema = open_file(files[0]).schema if files else None
        if schema is not None:
            found[files[0].path] = schema
    return found


def _of_parameter_servers(key: str, effect: TextModel, output: str) -> Iterator[str]:
    if effect.mode == "parameter_server" and storage.local_path(output) is None:
        yield (
            f"{key}.mode: parameter_server trains from files that TensorFlow reads by itself, so output must be a "
            f"folder that every worker sees, not the URL {output}; or use mode: synchronous"
        )


def _raised(key: str, look: Callable[[], object]) -> Iterator[str]:
    """A line for each fault that looking shows."""
    try:
        look()
    except DataError as error:
        for line in str(error).splitlines():
            yield line if line.startswith(key) else f"{key}: {line}"
    except GdmixError as error:
        yield f"{key}: {error}"
