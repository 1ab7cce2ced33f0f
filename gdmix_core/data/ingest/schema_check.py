"""The columns and bags that the pipeline reads, and the check that the input's metadata describe them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from gdmix_core import storage
from gdmix_core.config.pipeline import Config
from gdmix_core.data.ingest.metadata import Tensor, metadata_file, read_metadata
from gdmix_core.data.ingest.scalar_columns import field_columns, key_columns, label_bag, number_columns
from gdmix_core.errors import DataError

Tensors = dict[str, dict[str, Tensor]]
"""directory → column or bag → what the metadata say of it"""


def input_directories(config: Config) -> dict[str, str]:
    """Return the directories under input that are read, and their paths. The first one gives labels and weights."""
    coordinates = config.coordinates.values()
    names = dict.fromkeys(c.data for c in coordinates if c.reads_data) or [next(iter(coordinates)).data]
    return {n: config.input.rstrip("/") if n in {".", ""} else storage.join(config.input, n) for n in names}


def read_tensors(paths: Mapping[str, str]) -> Tensors:
    """paths: as input_directories gives them. Raises DataError, which names every directory without metadata."""
    absent = [path for path in paths.values() if not storage.exists(metadata_file(path))]
    if absent:
        raise DataError(
            "\n".join(
                f"{path}: no input there: {metadata_file(path)} is missing; "
                "compare `input` and the coordinates' `data` in the configuration with where the data lies"
                for path in absent
            )
        )
    return {name: read_metadata(metadata_file(path)) for name, path in paths.items()}


def undescribed(config: Config, paths: Mapping[str, str], tensors: Tensors, *, labelled: bool = True) -> list[str]:
    """Return a sentence for each column and bag that the pipeline reads and the metadata do not describe.

    labelled: whether label, weight and the groups of training are read
    """
    faults = []
    for kind, name, use, directory in columns_read(config, list(paths), labelled):
        searched = [directory] if directory else list(paths)
        known = dict.fromkeys(column for at in searched for column in tensors[at])
        if name not in known:
            where = ", ".join(metadata_file(paths[at]) for at in searched)
            faults.append(_not_described(where, kind, name, use, known))
    return list(dict.fromkeys(faults))


def columns_read(
    config: Config, directories: list[str], labelled: bool
) -> Iterator[tuple[Literal["column", "bag"], str, str, str]]:
    """Yield (what it is, its name, what for, directory or "" for any)."""
    for directory in directories:
        yield "column", config.columns.uid, "columns.uid", directory
    for role, column in number_columns(config, labelled=labelled).items():
        yield "column", column, f"columns.{role}", directories[0]
    if labelled and (label := label_bag(config)) is not None:
        yield "bag", label, "columns.label", directories[0]
    for use, column, directory in [*key_columns(config, labelled), *field_columns(config)]:
        yield "column", column, use, directory
    for name, coordinate in config.coordinates.items():
        for bag in coordinate.bags:
            yield "bag", bag, f"read by coordinate {name}", coordinate.data


def _not_described(where: str, kind: str, name: str, use: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    hint = f"; did you mean {near[0]}?" if near else "."
    return f"{where}: {kind} {name} ({use}) is not described{hint} Described are: {', '.join(known)}"
