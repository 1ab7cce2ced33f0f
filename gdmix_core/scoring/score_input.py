"""Scoring new data, in the input layout, with an exported model in either format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from gdmix_core import paths, storage
from gdmix_core.config.model import leniently
from gdmix_core.config.pipeline import TASKS_OF_CLASSES, Config
from gdmix_core.data import bags
from gdmix_core.data.id_index import IdIndex
from gdmix_core.data.id_types import arrow_type, repeated
from gdmix_core.data.ingest.pieces import DIRECTORIES, Split
from gdmix_core.data.ingest.presence import RECORDS, Seen, require_seen
from gdmix_core.data.ingest.record_checks import checks_of
from gdmix_core.data.ingest.records import Records, read_records, read_uids
from gdmix_core.data.ingest.scalar_columns import number_columns
from gdmix_core.data.ingest.source import Layout, Source, open_layout
from gdmix_core.effects.effect import effect_of
from gdmix_core.effects.scorer import Batch, Format
from gdmix_core.errors import DataError
from gdmix_core.models.exported import open_export
from gdmix_core.pipeline import manifests
from gdmix_core.pipeline.loading import parse_config
from gdmix_core.scoring.score_files import exceeds_long
from gdmix_core.scoring.score_output import ScoresFormat, check_output, open_output, scores_format

_FEWEST_ROWS = 1024  # of a batch, but the last


def score_input(
    model: str,
    source: str,
    output: str,
    *,
    kind: Format = "native",
    split: Split = "training",
    scores: ScoresFormat | None = None,
    external: Mapping[str, Sequence[str]] | None = None,
) -> tuple[int, dict[str, int]]:
    """Score new data: write uid, score (with the data's offset) and each coordinate's own score, all margins.

    In a task of classes it has uid and score, a list with the logit of every class.

    Parameters
    ----------
    model
        A run directory or its export, a path or URL.
    source
        Data in the input layout; labels are not needed.
    output
        The file to write.
    kind
        Which of the export's models to read: "native" or "avro".
    split
        Which of the directories of the source.
    scores
        The format; None for what the output's name means: Parquet or CSV. "gdmix" and "photon" are these systems' Avro
        files, which hold the whole score, with label and weight where the data have them.
    external
        By coordinate whose model is not ours (external, python), the files with the scores it gives these data.

    Returns
    -------
    tuple[int, dict[str, int]]
        The rows, and by random effect the rows of entities without a model.

    Raises
    ------
    DataError
        When model and data do not fit, a record cannot be read, or the output is not a place for scores.
    """
    model, source, output = (paths.expanded(str(path)) for path in (model, source, output))
    scores = scores_format(output, scores)
    export = open_export(model)
    directory, manifest = export.directory, export.manifest
    if split not in DIRECTORIES:
        raise DataError(f"split must be one of {', '.join(DIRECTORIES)}, not {split!r}")
    columns = _columns(manifest["config"])
    external = external or {}
    check_output(output, model, source, external, columns)
    path = storage.join(directory, "manifest.json")
    if kind not in manifest["formats"]:
        raise DataError(f"{directory}: has no {kind} models, only {', '.join(manifest['formats'])}")
    config = _config_to_score(manifest["config"], source, path)
    layout = open_layout(config, labelled=False)
    unknown_names = sorted(set(external) - set(config.coordinates))
    if unknown_names:
        raise DataError(
            f"{directory}: scores are given for {unknown_names[0]}, which is no coordinate of this model; it has "
            f"{', '.join(config.coordinates)}"
        )
    classes = config.task in TASKS_OF_CLASSES
    if classes and scores != "parquet":
        raise DataError(f"score files of {scores} have one score a row, but {config.task} one a class; write parquet")
    if not any(piece.split == split for piece in layout.pieces):
        raise DataError(
            f"{source}: no {split} files to score; expected {DIRECTORIES[split]} with TFRecord or Parquet files"
        )
    _refuse_copies([piece.path for piece in layout.pieces if (piece.source, piece.split) == (0, split)])
    models = [
        effect_of(coordinate.kind).scorer(export, name, config, layout, kind, external.get(name))
        for name, coordinate in config.coordinates.items()
    ]
    seen: Seen = {source.number: {} for source in layout.sources}
    joined = [_JoinedSource(s, config, layout, split, seen) for s in layout.sources[1:]]
    rows = 0
    unknown = {m.name: 0 for m in models if m.entity is not None}
    value = pa.list_(pa.float32()) if classes else pa.float32()
    schema = pa.schema([("uid", arrow_type(layout.uid_type)), *((name, value) for name in columns[1:])])
    labelled = scores in ("gdmix", "photon") and set(number_columns(config).values()) <= set(layout.sources[0].tensors)
    text_uids = scores == "gdmix" and _exceeds_long(layout, config, split)
    with open_output(output, scores, schema, config, text_uids) as write:
        batches = _read_batches(layout.sources[0], config, layout, split, seen, labelled=labelled)
        for records in _joined_batches(batches, layout):
            batch = Batch([records, *(other.take(records.uid) for other in joined)])
            total = records.numbers.get("offset", np.zeros(len(batch))).copy()
            found: list[pa.Array] = []
            for scorer in models:
                own, without = scorer.score(batch)
                if classes:
                    found = [pa.array(list(own), value)]
                    break
                total += own
                found.append(pa.array(own))
                if scorer.entity is not None:
                    unknown[scorer.name] += without
            if not classes:
                found.insert(0, pa.array(total.astype(np.float32)))
            write(pa.Table.from_arrays([records.uid, *found], schema=schema), records)
            rows += len(records.uid)
        require_seen(seen, layout)
        for other in joined:
            other.require_all_used(layout.sources[0].path)
        if rows == 0:
            raise DataError(f"{source}: no {split} rows to score; look for what should have written them")
    return rows, unknown


def _refuse_copies(files: Iterable[str]) -> None:
    """Refuse a file that is there twice, with a DataError: each of its rows would be scored twice."""
    by_size: dict[int, list[str]] = {}
    for path in dict.fromkeys(files):
        stamp = storage.change_stamp(path)
        by_size.setdefault(stamp[0] if stamp else 0, []).append(path)
    for paths_of_size in by_size.values():
        if len(paths_of_size) > 1:
            seen: dict[str, str] = {}
            for path in paths_of_size:
                if (first := seen.setdefault(manifests.digest(path), path)) != path:
                    raise DataError(f"{first} and {path} are the same file; remove one of them")


def _columns(config: Mapping[str, Any]) -> list[str]:
    """Name the columns of a table of scores of a model with this configuration."""
    if config.get("task") in TASKS_OF_CLASSES:
        return ["uid", "score"]
    return ["uid", "score", *config["coordinates"]]


def _config_to_score(content: Mapping[str, Any], source: str, where: str) -> Config:
    """Read the configuration with what a score depends on: nothing that metrics or the user's own trainers need."""
    with leniently():
        config = parse_config({**content, "input": source, "metrics": []}, where=where)
    coordinates = {name: coordinate.to_score() for name, coordinate in config.coordinates.items()}
    return config.model_copy(update={"coordinates": coordinates})


def _exceeds_long(layout: Layout, config: Config, split: str) -> bool:
    """True where a uid is above what an Avro long holds. Only uids are read, and only where they may be."""
    source = layout.sources[0]
    return layout.uid_type == "unsigned" and any(
        exceeds_long(uid)
        for piece in layout.pieces
        if piece.source == source.number and piece.split == split
        for uid in read_uids(piece, source, config)
    )


def _read_batches(
    source: Source, config: Config, layout: Layout, split: str, seen: Seen, *, labelled: bool = False
) -> Iterator[Records]:
    """Read a directory's records. labelled: with label and weight, which may be absent or illegal in data to score.

    seen: gets what the records of each file have
    """
    checks = checks_of(source, config, labelled=labelled)
    allowed = tuple(f"{column}." for column in (config.columns.label, config.columns.weight) if labelled and column)
    fatal = sum(1 << k for k, check in enumerate(checks) if not (allowed and check.name.startswith(allowed)))
    for piece in layout.pieces:
        if piece.source != source.number or piece.split != split:
            continue
        for records in read_records(piece, source, config, labelled=labelled):
            bad = np.flatnonzero(records.violations & fatal)
            if len(bad):
                first = int(bad[0])
                broken = [c for k, c in enumerate(checks) if (records.violations[first] & fatal) >> k & 1]
                raise DataError(
                    f"{piece.path}: uid {records.uid[first].as_py()} breaks '{broken[0].rule}'; {broken[0].advice}"
                )
            for column in (RECORDS, *records.there):
                seen[source.number].setdefault(column, set()).add(piece.file)
            yield records


def _joined_batches(batches: Iterable[Records], layout: Layout) -> Iterator[Records]:
    """Join small batches, in order: what a batch costs is paid once for many small files."""
    waiting: list[Records] = []
    for records in batches:
        waiting.append(records)
        if sum(len(part.uid) for part in waiting) >= _FEWEST_ROWS:
            yield _concatenate(waiting, layout)
            waiting = []
    if waiting:
        yield _concatenate(waiting, layout)


def _concatenate(parts: Sequence[Records], layout: Layout) -> Records:
    """Join uid, ids, numbers and bags, which is what a score depends on."""
    first = parts[0]
    if len(parts) == 1:
        return first
    return Records(
        pa.concat_arrays([part.uid for part in parts]),
        {name: pa.concat_arrays([part.ids[name] for part in parts]) for name in first.ids},
        {role: np.concatenate([part.numbers[role] for part in parts]) for role in first.numbers},
        {key: bags.concatenate([part.bags[key] for part in parts], layout.bags[key].numpy_dtype) for key in first.bags},
    )


class _JoinedSource:
    """All records of a further directory, to be joined to the first one's by uid."""

    def __init__(self, source: Source, config: Config, layout: Layout, split: str, seen: Seen) -> None:
        found = list(_read_batches(source, config, layout, split, seen))
        self._path = source.path
        uid_type = arrow_type(layout.uid_type)
        uids = pa.concat_arrays([pa.array([], uid_type), *(r.uid for r in found)])
        self._uids = IdIndex(uids)
        if len(twice := repeated(uids)):
            raise DataError(
                f"{source.path}: uid {twice[0]['values'].as_py()} has {twice[0]['counts']} records ({len(twice)} uids "
                "have several); keep one of each"
            )
        self._all, self._used = uids, np.zeros(len(uids), np.bool_)
        self._ids = {name: pa.concat_arrays([r.ids[name] for r in found]) for name in source.ids} if found else {}
        self._bags = {
            bag.key: bags.concatenate([r.bags[bag.key] for r in found], bag.numpy_dtype) for bag in source.bags
        }

    def take(self, uid: pa.Array) -> Records:
        """Take the records with these uids, in their order. Raises DataError for one that is absent."""
        rows = self._uids.positions(uid)
        absent = np.flatnonzero(rows < 0)
        if len(absent):
            raise DataError(
                f"{self._path}: uid {uid[int(absent[0])].as_py()} is missing ({len(absent)} are); every directory must "
                "have it"
            )
        self._used[rows] = True
        at = pa.array(rows)
        return Records(
            uid, {name: values.take(at) for name, values in self._ids.items()},
            bags={key: bags.take(bag, rows) for key, bag in self._bags.items()},
        )  # fmt: skip

    def require_all_used(self, first: str) -> None:
        """Refuse uids that the first directory lacks, with a DataError: its rows are those that are scored."""
        left = np.flatnonzero(~self._used)
        if len(left):
            raise DataError(
                f"{first}: uid {self._all[int(left[0])].as_py()} is missing, which {self._path} has ({len(left)} are); "
                "every directory must have it"
            )
