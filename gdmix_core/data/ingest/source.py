"""Input directories: which files they hold, which columns the pipeline takes from them, and where each goes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gdmix_core import storage
from gdmix_core.config.pipeline import Config
from gdmix_core.data.feature_list import read_feature_list
from gdmix_core.data.id_types import IdType
from gdmix_core.data.ingest.column_types import with_column_types
from gdmix_core.data.ingest.external_scores import ScoreFiles, ScorePart, open_score_files
from gdmix_core.data.ingest.metadata import Tensor, metadata_file
from gdmix_core.data.ingest.pieces import Piece, list_pieces
from gdmix_core.data.ingest.scalar_columns import check_scalars, id_columns, key_columns, label_bag, number_columns
from gdmix_core.data.ingest.schema_check import columns_read, input_directories, read_tensors, undescribed
from gdmix_core.data.ingest.stored_columns import Wanted
from gdmix_core.errors import DataError


@dataclass(frozen=True)
class BagColumn:
    """A feature bag of the input and the name it has in the frame. label: it is the label, its features the classes."""

    name: str
    key: str
    features: int
    sparse: bool
    dtype: str  # of the values: float32 or float64
    label: bool = False

    @property
    def numpy_dtype(self) -> np.dtype:
        return np.dtype(self.dtype)


@dataclass(frozen=True)
class Source:
    """One input directory.

    primary: it gives label, weight and offset
    ids: the scalar columns taken from it: entities, groups, and texts and ids that models read as features
    texts: those of ids that are read as text alone, which a record may lack; it is "" then
    wanted: all that is read in it, and what for
    unsigned: those integers among uid and ids that a Parquet file holds as uint64
    """

    number: int
    path: str
    tensors: dict[str, Tensor]
    primary: bool
    ids: tuple[str, ...]
    bags: tuple[BagColumn, ...]
    texts: tuple[str, ...] = ()
    wanted: tuple[Wanted, ...] = ()
    unsigned: frozenset[str] = frozenset()

    def id_type(self, column: str) -> IdType:
        """Return the type of the uid, or of a column of ids."""
        if self.tensors[column].type == "text":
            return "text"
        return "unsigned" if column in self.unsigned else "integer"


@dataclass(frozen=True)
class ScorePiece:
    """A part of a score file that one task reads. source: a number beyond those of the directories."""

    part: ScorePart
    file: int
    source: int


@dataclass(frozen=True)
class Layout:
    """Everything validate knows of the input before it reads a record."""

    sources: tuple[Source, ...]
    pieces: tuple[Piece, ...]
    files: tuple[str, ...]
    fingerprint: str
    uid_type: IdType
    feature_lists: dict[str, str] = field(default_factory=dict)  # bag key → path
    coordinate_bags: dict[str, dict[str, str]] = field(default_factory=dict)  # coordinate → bag → its key
    scores: tuple[ScoreFiles, ...] = ()  # of the external coordinates
    ignored: tuple[str, ...] = ()  # keys of partition folders that are not columns of the pipeline
    columns: tuple[tuple[str, ...] | None, ...] = ()  # by file, those of Parquet files

    @property
    def bags(self) -> dict[str, BagColumn]:
        return {bag.key: bag for source in self.sources for bag in source.bags}

    @property
    def all_files(self) -> list[str]:
        """All files, by the number of a piece's file: those of the directories, then the score files."""
        return [*self.files, *(path for scores in self.scores for path, _, _ in scores.listing)]

    @property
    def score_pieces(self) -> list[ScorePiece]:
        numbers = {path: number for number, path in enumerate(self.all_files)}
        return [
            ScorePiece(part, numbers[part.path], len(self.sources) + k)
            for k, scores in enumerate(self.scores)
            for part in scores.parts
        ]

    def id_types(self) -> dict[str, IdType]:
        """Return the type of every column of ids."""
        return {name: source.id_type(name) for source in self.sources for name in source.ids}


def open_layout(config: Config, *, labelled: bool = True) -> Layout:
    """Read metadata and feature lists and list the files.

    labelled: whether label and weight have to be there; data that is only to be scored needs neither.
    Raises DataError for a directory, column or feature list that is missing or contradicts another.
    """
    paths = input_directories(config)
    directories = list(paths)
    tensors = read_tensors(paths)
    if faults := undescribed(config, paths, tensors, labelled=labelled):
        raise DataError("\n".join(faults))
    label = label_bag(config) if labelled else None
    label_at = None if label is None else (directories[0], label)
    bag_keys = _bag_keys(config, label_at)
    ids = id_columns(config, directories, tensors, paths, labelled)
    strict = {column for _, column, _ in key_columns(config, labelled)}
    check_scalars(config, directories, tensors, paths, labelled)
    feature_lists: dict[str, str] = {}
    sources = []
    for number, directory in enumerate(directories):
        bags = []
        read = [bag for c in config.coordinates.values() if c.data == directory for bag in c.bags]
        if label_at is not None and directory == label_at[0]:
            if label_at[1] in read:
                raise DataError(f"{paths[directory]}: bag {label} is the label, so no coordinate may read it")
            read.append(label_at[1])
        for bag in dict.fromkeys(read):
            key = bag_keys[directory, bag]
            feature_lists[key] = storage.join(paths[directory], "featureList", bag)
            column = _bag_column(paths[directory], bag, key, tensors[directory], feature_lists[key])
            if (directory, bag) == label_at and column.features < 2:
                raise DataError(
                    f"{feature_lists[key]}: the label has {column.features} class, and a row may have several of at "
                    "least 2; with a single one use task logistic_regression and a label of 0 or 1"
                )
            bags.append(replace(column, label=(directory, bag) == label_at))
        texts = [n for n in ids[directory] if n not in strict and tensors[directory][n].type == "text"]
        sources.append(
            Source(
                number,
                paths[directory],
                tensors[directory],
                number == 0,
                tuple(ids[directory]),
                tuple(bags),
                tuple(texts),
            )
        )
    sources = [replace(source, wanted=_wanted(source, config, directories, labelled)) for source in sources]
    listed = list_pieces(sources, labelled=labelled)
    sources = with_column_types(sources, listed.pieces, listed.schemas, config, labelled=labelled)
    lists = {key: [path, _digest(path)] for key, path in feature_lists.items()}
    scores = open_score_files(config) if labelled else ()
    _check_names(scores, sources)
    described: list[Any] = [listed.listing, lists, [storage.read_json(metadata_file(s.path)) for s in sources]]
    if scores:
        described.append([[files.coordinate, list(files.listing)] for files in scores])
    if unsigned := [[s.number, column] for s in sources for column in sorted(s.unsigned)]:
        described.append({"unsigned": unsigned})
    fingerprint = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:24]
    return Layout(
        tuple(sources),
        listed.pieces,
        listed.files,
        fingerprint,
        sources[0].id_type(config.columns.uid),
        feature_lists,
        {name: {bag: bag_keys[c.data, bag] for bag in c.bags} for name, c in config.coordinates.items()},
        scores,
        listed.ignored,
        listed.columns,
    )


def _wanted(source: Source, config: Config, directories: Sequence[str], labelled: bool) -> tuple[Wanted, ...]:
    """Return the columns to read in one directory, in the order in which they are reported."""
    uses: dict[str, str] = {}
    for _, name, use, directory in columns_read(config, list(directories), labelled):
        if directory in ("", directories[source.number]):
            uses.setdefault(name, use)
    numbers = number_columns(config, labelled=labelled).values() if source.primary else ()
    names = [config.columns.uid, *numbers, *source.ids, *(bag.name for bag in source.bags)]
    return tuple(Wanted(source.tensors[name], uses[name], source.path) for name in dict.fromkeys(names))


def _check_names(scores: Sequence[ScoreFiles], sources: Sequence[Source]) -> None:
    columns = {name for source in sources for name in source.ids}
    columns |= {f"{bag.key}_{part}" for source in sources for bag in source.bags for part in ("indices", "values")}
    for files in scores:
        if files.column in columns:
            raise DataError(
                f"column {files.column} of the input has the name that the frame keeps for the scores of coordinate "
                f"{files.coordinate}; give one of them another name"
            )


def _digest(path: str) -> str:
    with storage.open_for_read(path) as file:
        return hashlib.sha256(file.read()).hexdigest()


def _bag_keys(config: Config, label: tuple[str, str] | None) -> dict[tuple[str, str], str]:
    """Name the bags in the frame: each keeps its name unless two directories use the same one."""
    read = [(c.data, bag) for c in config.coordinates.values() for bag in c.bags]
    pairs = list(dict.fromkeys(read if label is None else [*read, label]))
    names = [bag for _, bag in pairs]
    return {(data, bag): bag if names.count(bag) == 1 else f"{data.replace('/', '.')}.{bag}" for data, bag in pairs}


def _bag_column(path: str, bag: str, key: str, tensors: dict[str, Tensor], feature_list: str) -> BagColumn:
    tensor = tensors[bag]
    if tensor.size is None or tensor.type == "text":
        raise DataError(
            f"{metadata_file(path)}: bag {bag} must be a vector of numbers, such as shape [100] and dtype float"
        )
    names = read_feature_list(feature_list)
    if len(names) != tensor.size:
        raise DataError(
            f"{feature_list}: {len(names)} features, but the metadata gives bag {bag} the shape [{tensor.size}]; "
            f"line number = feature index, without a line for the intercept"
        )
    duplicates = list(names.duplicates())
    if duplicates:
        raise DataError(f"{feature_list}: features listed twice: {', '.join(map(str, duplicates[:5]))}")
    return BagColumn(bag, key, tensor.size, tensor.sparse, "float64" if tensor.dtype == "double" else "float32")
