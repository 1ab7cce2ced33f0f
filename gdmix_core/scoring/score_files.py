"""Score files of GDMix and Photon ML: Avro, a record a row, in either's schema.

A row's score is its margin: the sum of what all coordinates give it and the data's own offset, without link function.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any, Literal, get_args

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from fastavro.write import Writer

from gdmix_core.data.plain_columns import plain_type
from gdmix_core.errors import ConfigError, DataError
from gdmix_core.models.avro.schema import SYNC_MARKER
from gdmix_core.storage import open_for_read, open_for_write

ScoreKind = Literal["gdmix", "photon"]

_BYTES_PER_BLOCK = 1 << 16
# Fields that GDMix's files have or lack as a whole, in their order.
_GDMIX_OPTIONAL = ("weight", "score_per_coordinate")
_PHOTON = {"uid": "uid", "predictionScore": "score", "label": "label", "weight": "weight"}
_SCORING_RESULT = fastavro.parse_schema(
    {
        "type": "record",
        "name": "ScoringResultAvro",
        "namespace": "com.linkedin.photon.avro.generated",
        "fields": [
            {"name": "uid", "type": ["null", "string"], "default": None},
            {"name": "label", "type": ["null", "double"], "default": None},
            {"name": "modelId", "type": "string"},
            {"name": "predictionScore", "type": "double"},
            {"name": "weight", "type": ["null", "double"], "default": None},
            {"name": "metadataMap", "type": ["null", {"type": "map", "values": "string"}], "default": None},
        ],
    }
)


@dataclass(frozen=True)
class ScoreColumns:
    """Names of the columns of GDMix's score files, which its configuration sets (`…_column_name`).

    Parameters
    ----------
    uid, score, label, weight, score_per_coordinate
        What the files call each of them.
    """

    uid: str = "uid"
    score: str = "predictionScore"
    label: str = "label"
    weight: str = "weight"
    score_per_coordinate: str = "predictionScorePerCoordinate"

    @property
    def roles(self) -> dict[str, str]:
        """Return column name → what it is."""
        return {getattr(self, role): role for role in self.__dataclass_fields__}


def read_scores(
    paths: str | Sequence[str], columns: ScoreColumns | None = None, *, integer_uids: bool = False
) -> pa.Table:
    """Read score files of GDMix or Photon ML as one table, in the order of files and records.

    Parameters
    ----------
    paths
        One file or several, paths or URLs.
    columns
        The names of the columns in GDMix's files; None for its defaults.
    integer_uids
        Whether uids become int64 in all files, or uint64 where one is above its range.

    Returns
    -------
    pa.Table
        uid: int64 in GDMix's files (string in those with integers above 2⁶³ − 1), string in Photon ML's, null where a
        record has none. score (a margin, with the offset), score_per_coordinate (without the offset), label, weight:
        float64, null where a file has none. Photon ML's modelId and metadataMap are left out.

    Raises
    ------
    DataError
        For files that are absent, damaged or of another kind, and for fields that `columns` does not name.
    """
    paths = [paths] if isinstance(paths, str) else list(paths)
    if not paths:
        raise DataError("no score files are given")
    parts = [_read(path, columns or ScoreColumns()) for path in paths]
    texts = {pa.types.is_string(part.schema.field("uid").type) for part in parts if len(part)}
    if len(texts) > 1 and not integer_uids:
        raise DataError(f"{paths}: uids are strings in some files and integers in others; read these one by one")
    if integer_uids:
        uids = [part["uid"].cast(pa.string()) for part in parts]
        found = _integers(pa.chunked_array([chunk for uid in uids for chunk in uid.chunks], pa.string()), paths)
        parts = [part.drop_columns("uid") for part in parts]
        return pa.concat_tables(parts).add_column(0, "uid", found)
    return pa.concat_tables([part for part in parts if len(part)] or parts[:1])


def _integers(uid: pa.ChunkedArray, paths: Sequence[str]) -> pa.ChunkedArray:
    """Read uids as int64, or as uint64 where one is above its range."""
    try:
        return uid.cast(pa.int64())
    except pa.ArrowInvalid as first:
        try:
            return uid.cast(pa.uint64())
        except pa.ArrowInvalid:
            raise DataError(f"{', '.join(paths)}: a uid is no integer ({first}); read them as strings") from None


def _read(path: str, columns: ScoreColumns) -> pa.Table:
    with open_for_read(path) as file:
        try:
            reader = fastavro.reader(file)
            schema = reader.writer_schema
            roles = _roles(path, schema if isinstance(schema, dict) else {}, columns)
            records = list(reader)
        except (DataError, OSError):
            raise
        except Exception as error:  # Damaged bytes make the decoder raise nearly anything.
            raise DataError(f"{path}: damaged, or no Avro file ({type(error).__name__}: {error})") from error
    found = {role: [record[name] for record in records] for name, role in roles.items()}
    names = {entry["name"] for entry in schema["fields"]}
    text = "modelId" in names or any(isinstance(uid, str) for uid in found["uid"])
    arrays = {"uid": pa.array(found["uid"], pa.string() if text else pa.int64())}
    for role in ("score", "score_per_coordinate", "label", "weight"):
        arrays[role] = pa.array(found.get(role, [None] * len(records)), pa.float64())
    return pa.table(arrays)


def _roles(path: str, schema: Mapping[str, Any], columns: ScoreColumns) -> dict[str, str]:
    """Map the names of the fields that are read to their roles."""
    names = [entry["name"] for entry in schema.get("fields", [])]
    if {"modelId", "predictionScore"} <= set(names):
        return {name: role for name, role in _PHOTON.items() if name in names}
    roles = {name: role for name, role in columns.roles.items() if name in names}
    if not {"uid", "score"} <= set(roles.values()):
        raise DataError(
            f"{path}: no score file with columns {columns.uid} and {columns.score}; its fields are "
            f"{', '.join(names) or 'none'}. Name them with ScoreColumns"
        )
    unknown = sorted(set(names) - set(roles))
    if unknown:
        raise DataError(f"{path}: what is {', '.join(unknown)}? Name the columns with ScoreColumns, as {columns} does")
    return roles


@dataclass
class ScoreWriter:
    """A writer of tables of scores to an open Avro file; open_scores makes one."""

    file: IO[bytes]
    where: str
    kind: ScoreKind
    columns: ScoreColumns
    model_id: str
    text_uids: bool
    _writer: Any = None
    _fields: dict[str, str] = field(default_factory=dict)  # by role; the first table decides which there are

    def write(self, table: pa.Table) -> None:
        """Append the records of a table.

        table: uid, score and, where there are any, score_per_coordinate, label, weight, as read_scores gives them.

        Raises DataError for what the format cannot hold: in both, rows without a score; in GDMix's, uids that are no
        integers (or, without text_uids, are above 2⁶³ − 1), and rows that
        lack a weight (or a score_per_coordinate) where the first table's have one.
        """
        if table["score"].null_count:
            raise DataError(f"{self.where}: {table['score'].null_count} rows have no score")
        scores = np.abs(table["score"].to_numpy().astype(np.float64))
        largest = np.finfo(np.float32).max if self.kind == "gdmix" else np.finfo(np.float64).max
        if bad := int(np.count_nonzero(~(scores <= largest))):
            raise DataError(
                f"{self.where}: {bad} scores are not finite numbers of the format; look for extreme features"
            )
        if self._writer is None:
            # fastavro takes a dictionary a record: there is no faster way into this format.
            self._writer = Writer(
                self.file, self._schema(table), codec="deflate", sync_interval=_BYTES_PER_BLOCK, sync_marker=SYNC_MARKER
            )
        constants: dict[str, Any] = {}
        if self.kind == "gdmix":
            self._check_gdmix(table)
        else:
            constants = {"modelId": self.model_id, "metadataMap": None}
        if self.kind == "photon" or self.text_uids:
            table = table.set_column(table.column_names.index("uid"), "uid", table["uid"].cast(pa.string()))
        for row in zip(*(_values(table, role) for role in self._fields), strict=True):
            self._writer.write(constants | dict(zip(self._fields.values(), row, strict=True)))

    def close(self) -> None:
        if self._writer is None:  # No table at all is a file without records.
            self.write(pa.table({"uid": pa.array([], pa.int64()), "score": pa.array([], pa.float64())}))
        self._writer.flush()

    def _schema(self, table: pa.Table) -> Any:
        """Make the file's schema, with the fields that its first table has."""
        if self.kind == "photon":
            self._fields = {role: name for name, role in _PHOTON.items()}
            return _SCORING_RESULT
        optional = [role for role in _GDMIX_OPTIONAL if _count(table, role)]
        self._fields = {role: getattr(self.columns, role) for role in ("uid", "score", "label", *optional)}
        fields: list[dict[str, Any]] = [{"name": name, "type": "float"} for name in self._fields.values()]
        fields[0]["type"] = "string" if self.text_uids else "long"
        fields[2] |= {"type": ["null", "float"], "default": None}
        return fastavro.parse_schema({"type": "record", "name": "validation_result", "fields": fields})

    def _check_gdmix(self, table: pa.Table) -> None:
        if not pa.types.is_integer(table.schema.field("uid").type) or table["uid"].null_count:
            raise DataError(f"{self.where}: GDMix's score files have integer uids only; write photon or parquet")
        if not self.text_uids and exceeds_long(table["uid"]):
            raise DataError(
                f"{self.where}: uid {pc.max(table['uid']).as_py()} is above what the long of GDMix's score files "
                "holds; set text_uids to write uids as decimal strings"
            )
        for role in _GDMIX_OPTIONAL:
            given = _count(table, role)
            if given != (len(table) if role in self._fields else 0):
                raise DataError(f"{self.where}: {given} of {len(table)} rows have a {role}; give it for all or none")


def exceeds_long(uid: pa.Array | pa.ChunkedArray) -> bool:
    """True where an unsigned integer is above what an Avro long holds."""
    return pa.types.is_uint64(uid.type) and (pc.max(uid).as_py() or 0) >= 2**63


def _count(table: pa.Table, role: str) -> int:
    """Count the rows that have a value."""
    return len(table) - table[role].null_count if role in table.column_names else 0


def _values(table: pa.Table, role: str) -> list[Any]:
    """List the column's values; None for each row where there is none."""
    return table[role].to_pylist() if role in table.column_names else [None] * len(table)


@contextmanager
def open_scores(
    path: str,
    kind: ScoreKind,
    columns: ScoreColumns | None = None,
    *,
    model_id: str = "N/A",
    text_uids: bool = False,
) -> Iterator[ScoreWriter]:
    """Open a score file to write it table by table; it appears when the block ends without an error.

    kind: whose schema; columns: the names in GDMix's; model_id: Photon ML's modelId of every record; text_uids: whether
    GDMix's uids are decimal strings, as they must be where one is above 2⁶³ − 1, and longs otherwise.
    """
    with open_for_write(path) as file:
        writer = ScoreWriter(file, path, kind, columns or ScoreColumns(), model_id, text_uids)
        yield writer
        writer.close()


def write_scores(
    path: str, table: pa.Table, kind: ScoreKind, columns: ScoreColumns | None = None, *, model_id: str = "N/A"
) -> None:
    """Write one table as a score file of GDMix (scores float32) or Photon ML (float64).

    Photon ML's format has no place for score_per_coordinate. Weights are written as they are.

    Parameters
    ----------
    path
        A path or URL.
    table
        uid, score and, where there are any, score_per_coordinate, label and weight, as read_scores gives them.
    kind
        "gdmix" or "photon".
    columns
        The names of the columns in GDMix's files; None for its defaults.
    model_id
        Photon ML's modelId of every record.

    Raises
    ------
    DataError
        For what the format cannot hold: see `ScoreWriter.write`.
    ConfigError
        For another kind.
    """
    if kind not in get_args(ScoreKind):
        raise ConfigError(f"kind must be one of {', '.join(get_args(ScoreKind))}, not {kind!r}")
    uid = plain_type(table.schema.field("uid").type)
    if not (pa.types.is_integer(uid) or pa.types.is_string(uid) or pa.types.is_large_string(uid)):
        raise DataError(f"{path}: uids must be integers or strings, not {uid}")
    with open_scores(path, kind, columns, model_id=model_id, text_uids=exceeds_long(table["uid"])) as writer:
        writer.write(table)
