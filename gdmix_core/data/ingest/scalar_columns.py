"""The scalar columns that the pipeline takes from the input, and the check that it can take their kinds."""

from __future__ import annotations

from gdmix_core.config.pipeline import Config
from gdmix_core.data.ingest.metadata import Tensor, metadata_file
from gdmix_core.errors import DataError
from gdmix_core.metrics.registry import parse_metric

# Names of columns of the frame.
RESERVED = ("row", "uid", "label", "weight", "offset")


def label_bag(config: Config) -> str | None:
    """Return the bag whose features are the classes that apply, where a row has several."""
    return config.columns.label if config.task == "multilabel_classification" else None


def number_columns(config: Config, *, labelled: bool = True) -> dict[str, str]:
    """Return the columns of numbers that are read, by role: label (unless it is a bag), weight, offset."""
    names = config.columns
    roles = {"label": names.label, "weight": names.weight} if labelled else {}
    if label_bag(config) is not None:
        roles.pop("label", None)
    return {role: column for role, column in (roles | {"offset": names.offset}).items() if column is not None}


def key_columns(config: Config, labelled: bool) -> list[tuple[str, str, str]]:
    """List (what for, column, directory or "" for any) of the columns to group rows by: every record has them."""
    keys = [
        (f"the entity of coordinate {name}", c.random_effect.entity, c.data)
        for name, c in config.coordinates.items()
        if c.random_effect
    ]
    groups = {name: parse_metric(name).column for name in config.metrics}
    keys += [(f"the group of metric {name}", column, "") for name, column in groups.items() if column is not None]
    if labelled:  # groups are ranked only in training
        keys += [
            (f"the group of coordinate {name}", c.group, c.data)
            for name, c in config.coordinates.items()
            if c.group is not None
        ]
    return keys


def field_columns(config: Config) -> list[tuple[str, str, str]]:
    """Return (what for, column, directory) of the columns that models read as features: texts and ids."""
    return [
        (f"a field of coordinate {name}", column, c.data)
        for name, c in config.coordinates.items()
        for column in c.columns
    ]


def id_columns(
    config: Config,
    directories: list[str],
    tensors: dict[str, dict[str, Tensor]],
    paths: dict[str, str],
    labelled: bool,
) -> dict[str, list[str]]:
    """Return the directory that gives each scalar column: the coordinate's own, else the first that has it.

    All of them must be described. Raises DataError for one that is not an integer or string scalar.
    """
    ids: dict[str, list[str]] = {d: [] for d in directories}
    fields = field_columns(config)
    of_field: dict[str, str] = {}
    for use, column, directory in fields:
        if of_field.setdefault(column, directory) != directory:
            raise DataError(
                f"column {column} is {use} in {paths[directory]}, and a field in {paths[of_field[column]]} too, whose "
                "texts may be others; give one of them another name in the data"
            )
    for use, column, directory in [*key_columns(config, labelled), *fields]:
        if any(column in taken for taken in ids.values()):
            continue
        at = directory or next(d for d in directories if column in tensors[d])
        tensor = tensors[at][column]
        if tensor.size is not None or tensor.type == "real":
            raise DataError(f"{metadata_file(paths[at])}: column {column} ({use}) must be an integer or string scalar")
        if column in RESERVED:
            raise DataError(
                f"{metadata_file(paths[at])}: column {column} ({use}) has a name that the frame keeps for the "
                f"{column} of a row; give it another one in the data"
            )
        ids[at].append(column)
    return ids


def check_scalars(
    config: Config,
    directories: list[str],
    tensors: dict[str, dict[str, Tensor]],
    paths: dict[str, str],
    labelled: bool,
) -> None:
    """Raise DataError unless uids are of one type, and label, weight and offset are numbers. All are described."""
    names = config.columns
    first = directories[0]
    for directory in directories:
        uid = tensors[directory][names.uid]
        if uid.size is not None or uid.type == "real":
            raise DataError(
                f"{metadata_file(paths[directory])}: uid column {names.uid} must be an integer or string scalar"
            )
        if uid.type != tensors[first][names.uid].type:
            raise DataError(
                f"{metadata_file(paths[directory])}: uid column {names.uid} is {uid.dtype}, "
                f"but {tensors[first][names.uid].dtype} in {paths[first]}; records are joined by it"
            )
    for role, column in number_columns(config, labelled=labelled).items():
        tensor = tensors[first][column]
        if tensor.size is not None or tensor.type == "text":
            raise DataError(f"{metadata_file(paths[first])}: {role} column {column} must be a number")
