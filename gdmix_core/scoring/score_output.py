"""The file that `gdmix score` writes: its format by its name, where it may lie, and how batches get into it."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal, get_args

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from gdmix_core import storage
from gdmix_core.config.pipeline import Config
from gdmix_core.data.ingest.records import Records
from gdmix_core.errors import DataError
from gdmix_core.paths import local_path
from gdmix_core.pipeline import run_directory
from gdmix_core.scoring.score_files import ScoreColumns, open_scores

ScoresFormat = Literal["parquet", "csv", "gdmix", "photon"]

# The mark of a Parquet file that holds scores and nothing else.
_MARK = b"gdmix.scores"
_FORMATS: dict[str, tuple[ScoresFormat, ...]] = {
    ".parquet": ("parquet",),
    ".csv": ("csv",),
    ".avro": ("gdmix", "photon"),
}


def scores_format(output: str, wanted: ScoresFormat | None) -> ScoresFormat:
    """Find the format that a file's name means; without a suffix Parquet. Raises DataError where it is not `wanted`."""
    name = output.rsplit("/", 1)[-1]
    suffix = posixpath.splitext(name)[1] or (name if name in _FORMATS else "")
    if wanted not in (None, *get_args(ScoresFormat)):
        raise DataError(f"scores {wanted!r} are not known; they may be {', '.join(get_args(ScoresFormat))}")
    if wanted is not None:
        if wanted not in _FORMATS.get(suffix, (wanted,)):
            raise DataError(f"output {output}: scores {wanted} do not go into {suffix} files; change one of the two")
        return wanted
    found = _FORMATS.get(suffix or ".parquet", ())
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(f"output {output}: say whose {suffix} file it is to be: scores {' or '.join(found)}")
    raise DataError(f"output {output}: no scores are written as {suffix}; name it *.parquet, *.csv or *.avro")


def check_output(
    output: str, model: str, source: str, external: Mapping[str, Sequence[str]], columns: Sequence[str]
) -> None:
    """Refuse an output that is not a score file's place, with a DataError: a folder, in a run, or what is read here.

    An existing file is only replaced when it holds scores. columns: those of a table that this model's scores make
    """
    local = local_path(output)
    if output.endswith("/") or os.path.isdir(local or "") or storage.names_in(output):
        raise DataError(f"output {output} is a folder; name a file in it")
    if local is not None and os.path.exists(local) and not os.path.isfile(local):
        raise DataError(f"output {output} is a device or a pipe, which would be replaced; name a file")
    read = [("the input", source), ("the model", model)]
    read += [(f"the scores of {name}", path) for name, paths in external.items() for path in paths]
    for what, path in read:
        if run_directory.lies_in(output, path.rstrip("/") or "/"):
            raise DataError(f"output {output} is, or lies in, {what} ({path}), which is read; name a file elsewhere")
    run_directory.check_place(output)
    if (run := run_directory.run_around(output)) is not None:
        raise DataError(f"output {output} lies in the run {run}, whose files are its own; name a file elsewhere")
    if storage.exists(output) and not _holds_scores(output, columns):
        raise DataError(f"output {output} is there already and holds no scores; name another file, or remove it first")


def _holds_scores(path: str, columns: Sequence[str]) -> bool:
    """True for a file that is empty, or holds scores in one of the formats: not a table of more than scores."""
    with storage.open_for_read(path) as file:
        first = file.read(4)
        file.seek(0)
        if not first:
            return True
        try:
            if first == b"PAR1":
                found = pq.read_schema(file)
                return _MARK in (found.metadata or {}) or found.names == list(columns)
            if first == b"Obj\x01":
                schema = fastavro.reader(file).writer_schema
                name = str(schema.get("name") if isinstance(schema, dict) else "")
                return name.rsplit(".", 1)[-1] in ("ScoringResultAvro", "validation_result")
        except Exception:  # Damaged bytes make a decoder raise nearly anything.
            return False
        return file.readline(1 << 16).strip() == ",".join(f'"{name}"' for name in columns).encode()


@contextmanager
def open_output(
    output: str, scores: ScoresFormat, schema: pa.Schema, config: Config, text_uids: bool
) -> Iterator[Callable[[pa.Table, Records], None]]:
    """Open the output for a function that appends a batch's scores; it appears when the block ends without an error.

    text_uids: in GDMix's files as decimal strings
    """
    if scores == "parquet":
        marked = schema.with_metadata({_MARK: b"1"})
        with storage.open_for_write(output) as file, pq.ParquetWriter(file, marked) as writer:
            yield lambda table, records: writer.write_table(table.cast(marked))
        return
    if scores == "csv":
        # Numbers in as few digits as read back to the same float32; strings in quotation marks.
        with storage.open_for_write(output) as file, pyarrow.csv.CSVWriter(file, schema) as rows:
            yield lambda table, records: rows.write_table(table)
        return
    names = config.columns
    columns = ScoreColumns(uid=names.uid, label=names.label, weight=names.weight or "weight")
    with open_scores(output, scores, columns, model_id=config.name, text_uids=text_uids) as avro:

        def write(table: pa.Table, records: Records) -> None:
            score = table["score"].cast(pa.float64())
            offset = records.numbers.get("offset", np.zeros(len(table)))
            numbers: dict[str, pa.Array] = {
                role: pa.array(records.numbers[role], from_pandas=True)  # nan is null
                for role in ("label", "weight")
                if role in records.numbers
            }
            own = pa.array(score.to_numpy() - offset)
            avro.write(pa.table({"uid": table["uid"], "score": score, "score_per_coordinate": own, **numbers}))

        yield write
