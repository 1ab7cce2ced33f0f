"""Score files of models trained elsewhere: which they are, and what they say of a uid, in batches.

Parquet, CSV with a header, and Avro, such as GDMix and Photon ML write it. Every file holds scores of any split.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from gdmix_core import storage
from gdmix_core.config.external import ExternalModel
from gdmix_core.config.pipeline import Config
from gdmix_core.data.id_types import IdType, arrow_type
from gdmix_core.data.ingest.input_files import at_once, input_files
from gdmix_core.data.plain_columns import is_text, plain
from gdmix_core.errors import DataError

SUFFIXES = (".parquet", ".csv", ".csv.gz", ".avro")
# GDMix's score of one coordinate is without the data's offset, which is added to every model here.
SCORE_NAMES = ("score", "predictionScorePerCoordinate", "predictionScore")
_BATCH_ROWS = 65_536
_FIRST_INEXACT = 2.0**53

File = tuple[str, int, str]
"""(path, size in bytes, change stamp)"""


@dataclass(frozen=True)
class ScorePart:
    """A part of a score file that one task reads: a row group of a Parquet file, or a whole file.

    uid, score: names of its columns; group: number of the row group, None: the whole file; size: in bytes, about
    """

    path: str
    uid: str
    score: str
    group: int | None = None
    size: int = 0


@dataclass(frozen=True)
class ScoreFiles:
    """The scores of one coordinate. listing: by which a change of them is detected."""

    coordinate: str
    parts: tuple[ScorePart, ...]
    listing: tuple[File, ...]
    missing: Literal["error", "zero"] = "error"

    @property
    def column(self) -> str:
        """Its name in the frame, which no column of the input may have."""
        return f"score.{self.coordinate}"


def open_score_files(config: Config) -> tuple[ScoreFiles, ...]:
    """Open the score files of every external coordinate.

    Raises DataError for files that are absent, unreadable or lack a column.
    """
    return tuple(
        open_scores_of(name, c.fixed_effect, config)
        for name, c in config.coordinates.items()
        if isinstance(c.fixed_effect, ExternalModel)
    )


def open_scores_of(
    coordinate: str, model: ExternalModel, config: Config, paths: Sequence[str] | None = None
) -> ScoreFiles:
    """paths: in place of the configuration's."""
    listing = [file for path in paths or model.scores for file in score_files_at(coordinate, path.rstrip("/"))]
    doubled = [path for path, times in Counter(path for path, _, _ in listing).items() if times > 1]
    if doubled:
        raise DataError(f"scores of coordinate {coordinate}: {min(doubled)} is named twice")
    uids = (model.uid,) if model.uid else tuple(dict.fromkeys((config.columns.uid, "uid")))
    scores = (model.score,) if model.score else SCORE_NAMES
    described = at_once(lambda file: _describe(file[0]), listing)
    parts = tuple(
        part
        for (path, size, _), (columns, groups) in zip(listing, described, strict=True)
        for part in _parts(coordinate, path, size, columns, groups, uids, scores)
    )
    return ScoreFiles(coordinate, parts, tuple(listing), model.missing)


def score_files_at(coordinate: str, path: str) -> list[File]:
    """Return a file, or what lies in a folder, which Spark also gives names such as scores.parquet, and in its folders
    key=value, as GDMix writes them. Raises DataError, also for what lies there and is not a score file.
    """
    files: list[File] = []
    if path.endswith(SUFFIXES):
        parent, _, name = path.rpartition("/")
        beside = storage.list_files(parent or ("/" if "/" in path else "."))
        files = [(path, size, stamp) for found, size, stamp in beside if found.rsplit("/", 1)[-1] == name]
    files = files or [(file.path, file.size, file.stamp) for file in input_files(path, SUFFIXES)]
    if not files:
        raise DataError(
            f"scores of coordinate {coordinate}: nothing is at {path}; expected a file *.parquet, *.csv, *.csv.gz "
            "or *.avro, or a folder with such files"
        )
    return files


def read_part(part: ScorePart, uid_type: IdType) -> Iterator[tuple[pa.Array, pa.Array]]:
    """(uid int64, uint64 or string [n], score float64 [n]) in batches; both null where the file has null.

    Raises DataError for a damaged file, and for uids or scores that are not of the data's type or no numbers.
    """
    wanted = arrow_type(uid_type)
    for table in _tables(part):
        for batch in table.to_batches(max_chunksize=_BATCH_ROWS):
            yield _uids(part, batch.column(0), wanted), _numbers(part, batch.column(1))


def _parts(
    coordinate: str,
    path: str,
    size: int,
    columns: Sequence[str],
    groups: Sequence[int | None],
    uids: Sequence[str],
    scores: Sequence[str],
) -> Iterator[ScorePart]:
    uid = next((name for name in uids if name in columns), None)
    score = next((name for name in scores if name in columns), None)
    for role, name, tried in (("uid", uid, uids), ("score", score, scores)):
        if name is None:
            raise DataError(
                f"{path}: scores of coordinate {coordinate}: no column {' or '.join(tried)}; its columns are "
                f"{', '.join(columns) or 'none'}. Name the column so, or set fixed_effect.{role} of {coordinate}"
            )
    for group in groups:
        yield ScorePart(path, str(uid), str(score), group, size // len(groups))


def _describe(path: str) -> tuple[list[str], list[int | None]]:
    """Return names of a file's columns, and the parts it is read in."""
    with _readable(path), storage.open_for_read(path) as file:
        if path.endswith(".parquet"):
            parquet = pq.ParquetFile(file)
            return list(parquet.schema_arrow.names), list(range(parquet.num_row_groups))
        if path.endswith(".avro"):
            return _avro_columns(_avro_reader(file)), [None]
        with pyarrow.csv.open_csv(_decompressed(path, file)) as reader:
            return list(reader.schema.names), [None]


def _tables(part: ScorePart) -> Iterator[pa.Table]:
    """Yield columns uid and score, as the file has them."""
    columns = [part.uid, part.score]
    with _readable(part.path), storage.open_for_read(part.path) as file:
        if part.path.endswith(".parquet"):
            yield pq.ParquetFile(file).read_row_group(part.group, columns=columns).select(columns)
        elif part.path.endswith(".avro"):
            yield from _avro_tables(file, part)
        else:
            convert = pyarrow.csv.ConvertOptions(
                include_columns=columns,
                column_types={part.uid: pa.string(), part.score: pa.float64()},
                null_values=[""],
                strings_can_be_null=True,
            )
            with pyarrow.csv.open_csv(_decompressed(part.path, file), convert_options=convert) as reader:
                for batch in reader:
                    yield pa.Table.from_batches([batch])


@contextmanager
def _readable(path: str) -> Iterator[None]:
    try:
        yield
    except (DataError, FileNotFoundError):
        raise
    except Exception as error:  # Damaged bytes make a decoder raise nearly anything.
        raise DataError(f"{path}: no readable score file ({type(error).__name__}: {error})") from error


def _decompressed(path: str, file: Any) -> Any:
    return pa.CompressedInputStream(file, "gzip") if path.endswith(".gz") else file


def _avro_reader(file: Any) -> Any:
    import fastavro

    return fastavro.block_reader(file)


def _avro_columns(reader: Any) -> list[str]:
    schema: Mapping[str, Any] = reader.writer_schema if isinstance(reader.writer_schema, Mapping) else {}
    return [field["name"] for field in schema.get("fields", [])]


def _avro_tables(file: Any, part: ScorePart) -> Iterator[pa.Table]:
    uids: list[Any] = []
    scores: list[Any] = []
    for block in _avro_reader(file):
        for record in block:  # This format has no faster way out.
            uids.append(record[part.uid])
            scores.append(record[part.score])
        if len(uids) >= _BATCH_ROWS:
            yield pa.table([pa.array(uids), pa.array(scores)], ["uid", "score"])
            uids, scores = [], []
    yield pa.table([pa.array(uids), pa.array(scores)], ["uid", "score"])


def _uids(part: ScorePart, values: pa.Array, wanted: pa.DataType) -> pa.Array:
    values = plain(values)
    try:
        if pa.types.is_floating(values.type):  # as other tools write integers of which one is absent
            _check_exact(part, values)
            values = values.cast(pa.int64())
        return values.cast(wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        kind = f"integers ({wanted})" if pa.types.is_integer(wanted) else "strings"
        raise DataError(
            f"{part.path}: column {part.uid} ({values.type}): the data's uids are {kind}, and a uid here cannot be "
            f"one ({error}); write the uids as they are in the data"
        ) from None


def _check_exact(part: ScorePart, values: pa.Array) -> None:
    largest = pc.max(pc.abs(values)).as_py()
    if largest is not None and largest >= _FIRST_INEXACT:
        raise DataError(
            f"{part.path}: column {part.uid} ({values.type}) holds {largest:.0f}, and from {_FIRST_INEXACT:.0f} on not "
            "every integer is a floating-point number: several uids may have become one; write integers or strings"
        )


def _numbers(part: ScorePart, values: pa.Array) -> pa.Array:
    values = plain(values)
    try:
        if not is_text(values.type) and not pa.types.is_boolean(values.type):
            return values.cast(pa.float64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        pass
    raise DataError(f"{part.path}: column {part.score} ({values.type}) holds no numbers; it should hold scores")
