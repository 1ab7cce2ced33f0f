"""Input records, decoded in batches and checked: what every Spark task of validate runs over its piece of a file."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gdmix_core.config.pipeline import MAX_CHECKS, Config
from gdmix_core.data import bags
from gdmix_core.data.id_types import among, arrow_type
from gdmix_core.data.ingest import parquet_records
from gdmix_core.data.ingest.metadata import Tensor
from gdmix_core.data.ingest.pieces import Constant, Piece, in_both_places
from gdmix_core.data.ingest.record_checks import Check, checks_of
from gdmix_core.data.ingest.scalar_columns import number_columns
from gdmix_core.data.ingest.source import BagColumn, Source
from gdmix_core.data.ingest.stored_columns import (
    fields_of,
    lists_of_documents,
    ranking_column,
    record_names,
    undescribed_names,
)
from gdmix_core.data.ragged import Bag
from gdmix_core.data.tfrecord import files
from gdmix_core.data.tfrecord.decoder import MISSING, OK, WRONG_KIND, Column, Field, decode
from gdmix_core.errors import DataError

# Small enough for a core's cache: a few thousand records.
_CHUNK_BYTES = 2 << 20


@dataclass
class Records:
    """A batch of decoded records of one piece.

    uid: int64, uint64 or string [n], null where absent
    ids: entities, groups, texts: int64, uint64 or string [n] by column name; null where absent, of texts ""
    numbers: float64 [n] by role (label, weight, offset); empty unless the source is the primary one. Of a label that is
        a bag, how many classes apply
    bags: by frame key; violations: int64 [n], bit k set where the source's check k fails
    duplicates: int64 [n], bit k set where the source's bag k holds an index twice
    there: bags and texts, by their name in the data, that some record has, if only empty
    """

    uid: pa.Array
    ids: dict[str, pa.Array] = field(default_factory=dict)
    numbers: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    bags: dict[str, Bag] = field(default_factory=dict)
    violations: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    duplicates: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    there: set[str] = field(default_factory=set)


def read_columns(
    piece: Piece, fields: list[Field], *, verify: bool = True, described: Collection[str] = ()
) -> Iterator[dict[str, Column]]:
    """Yield the columns by name of each batch of a piece, whatever its format; those that its folders' names give, too.

    described: names of the tensors that the metadata know; with them, raises DataError where some records of a TFRecord
    file have a bag, and others have one of a like name that nothing describes
    """
    constants = {name: value for name, value in piece.constants if any(field.name == name for field in fields)}
    for columns in _stored_columns(piece, fields, verify, described):
        rows = len(next(iter(columns.values())))
        for of_path in (f for f in fields if f.name in constants):
            if (columns[of_path.name].status != MISSING).any():
                raise DataError(f"{piece.path}: {in_both_places(of_path.name)}")
            columns[of_path.name] = _constant(constants[of_path.name], of_path, rows)
        yield columns


def _stored_columns(
    piece: Piece, fields: list[Field], verify: bool, described: Collection[str]
) -> Iterator[dict[str, Column]]:
    if piece.path.endswith(".parquet"):
        yield from parquet_records.read(piece, fields)
        return
    indices, had = [field for field in fields if field.name.endswith("_indices")], set[str]()
    for chunk in files.iter_chunks(
        piece.path, chunk_bytes=_CHUNK_BYTES, verify=verify, start=piece.start, stop=piece.stop
    ):
        columns = decode(chunk, fields)
        # What no record of the chunk has may be there under its other name: looked for only then, as it takes time.
        absent = [f for f in fields if f.other and not (columns[f.name].status != MISSING).any()]
        if absent:
            columns |= _under_other_names(chunk, absent)
        for of_bag in indices if described else ():
            missing = columns[of_bag.name].status == MISSING
            if not missing.all():
                had.add(of_bag.name)
            if of_bag.name in had and missing.any():
                _check_other_name(chunk, int(np.argmax(missing)), of_bag, described)
        yield columns


def _check_other_name(chunk: files.Chunk, record: int, field: Field, described: Collection[str]) -> None:
    """Raise DataError where the record has, in the place of a bag that other records have, one of a like name."""
    names = list(record_names(chunk, record))
    strange = undescribed_names(names, described)
    like = [name for name in names if name == field.other] or difflib.get_close_matches(
        field.name, [name for name in strange if name.endswith("_indices")], n=1, cutoff=0.6
    )
    if like:
        raise DataError(
            f"{chunk.where(record)}: it has {like[0]} in the place of {field.name}, which other records of the file "
            "have: write it under one name, or, if it is something else, describe it in the metadata"
        )


def _under_other_names(chunk: files.Chunk, fields: list[Field]) -> dict[str, Column]:
    bags = [f.name.removesuffix("_indices") for f in fields if f.name.endswith("_indices")]
    lists = [Field(ranking_column(bag), "int64") for bag in bags]
    found = decode(chunk, [*[Field(str(f.other), f.kind) for f in fields], *lists])
    for bag in bags:
        if (found[ranking_column(bag)].status != MISSING).any() and (found[f"{bag}_indices0"].status != MISSING).any():
            raise DataError(f"{chunk.path}: {lists_of_documents(bag)}")
    return {f.name: found[str(f.other)] for f in fields}


def _constant(value: Constant, field: Field, rows: int) -> Column:
    if value is None:
        offsets, status, held = np.zeros(rows + 1, np.int64), MISSING, pa.array([], pa.large_binary())
    else:
        offsets, status = np.arange(rows + 1), OK
        held = pa.array([str(value).encode()] * rows, pa.large_binary())
    if field.kind != "bytes":
        kind = np.int64 if field.kind == "int64" else np.float64
        held = np.full(int(offsets[-1]), 0 if value is None else value, kind)
    return Column(offsets, held, np.full(rows, status, np.uint8))


def read_uids(piece: Piece, source: Source, config: Config) -> Iterator[pa.Array]:
    """Only the uids of a piece, without those that are null; nothing is verified.

    Raises DataError for what cannot be read even so, as read_records does.
    """
    tensor = source.tensors[config.columns.uid]
    try:
        for columns in read_columns(piece, fields_of(tensor), verify=False):
            yield _id(columns[tensor.name], tensor, piece, source)[0].drop_null()
    except DataError:
        for _ in read_records(piece, source, config):  # which knows better what is wrong
            pass
        raise


def read_records(piece: Piece, source: Source, config: Config, *, labelled: bool = True) -> Iterator[Records]:
    """Decode and check a piece, without label and weight unless labelled. Raises DataError for a corrupt file."""
    roles = number_columns(config, labelled=labelled) if source.primary else {}
    scalars = [config.columns.uid, *roles.values(), *source.ids]
    tensors = [source.tensors[name] for name in dict.fromkeys([*scalars, *(bag.name for bag in source.bags)])]
    fields = [part for tensor in tensors for part in fields_of(tensor)]
    checks = checks_of(source, config, labelled=labelled)
    if len(checks) > MAX_CHECKS:
        raise DataError(f"{source.path}: {len(checks)} rules for a record, at most {MAX_CHECKS}; read fewer columns")
    for columns in read_columns(piece, fields, described=source.tensors):
        yield _checked(columns, piece, source, config, roles, _Violations(checks))


class _Violations:
    """Collects a batch's bit mask by check name."""

    def __init__(self, checks: list[Check]) -> None:
        self._bit = {check.name: np.int64(1 << k) for k, check in enumerate(checks)}
        self.mask: NDArray[np.int64] = np.zeros(0, np.int64)

    def add(self, check: str, where: NDArray[np.bool_]) -> None:
        if len(self.mask) == 0:
            self.mask = np.zeros(len(where), np.int64)
        self.mask[where] |= self._bit[check]


def _checked(
    columns: dict[str, Column],
    piece: Piece,
    source: Source,
    config: Config,
    roles: dict[str, str],
    violations: _Violations,
) -> Records:
    tensors = source.tensors
    uid, status = _id(columns[config.columns.uid], tensors[config.columns.uid], piece, source)
    violations.add("uid.present", status != OK)
    records = Records(uid)
    for column in source.ids:
        values, status = _id(columns[column], tensors[column], piece, source)
        if column in source.texts:
            values = values.fill_null("")
            records.there |= {column} if (status != MISSING).any() else set()
        else:
            violations.add(f"{column}.present", status == MISSING)
        records.ids[column] = values
        violations.add(f"{column}.type", status == WRONG_KIND)
    for role, column in roles.items():
        values, status = _scalar(columns[column], tensors[column], piece)
        # Integers beyond 2⁵³ are rounded, as every number is that a float64 cannot hold.
        number = values.cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy(zero_copy_only=False)
        present = status == OK
        violations.add(f"{column}.present", status == MISSING)
        violations.add(f"{column}.type", status == WRONG_KIND)
        records.numbers[role] = number
        if role == "label":
            violations.add(f"{column}.legal", present & ~_legal(number, config.task, config.classes))
        elif role == "weight":
            violations.add(f"{column}.positive", present & ~(np.isfinite(number) & (number > 0)))
        else:
            violations.add(f"{column}.finite", present & ~np.isfinite(number))
    records.duplicates = np.zeros(len(uid), np.int64)
    for k, bag in enumerate(source.bags):
        if any((columns[part.name].status != MISSING).any() for part in fields_of(source.tensors[bag.name])):
            records.there.add(bag.name)
        records.bags[bag.key], faults = _bag(columns, bag, violations)
        records.duplicates[(faults & bags.DUPLICATE) != 0] |= np.int64(1 << k)
        if bag.label:
            of_record = records.bags[bag.key]
            other = np.bincount(of_record.entry_rows, of_record.values != 1, minlength=len(uid)) > 0
            violations.add(f"{bag.key}.legal", other)
            records.numbers["label"] = np.diff(of_record.offsets).astype(np.float64)
    records.violations = violations.mask
    return records


def _legal(label: NDArray[np.float64], task: str, classes: int | None = None) -> NDArray[np.bool_]:
    if classes is not None:
        return (label >= 0) & (label < classes) & (label == np.floor(label))
    if task in ("logistic_regression", "smoothed_hinge"):
        return (label == 0) | (label == 1)
    if task == "poisson_regression":
        return np.isfinite(label) & (label >= 0)
    return np.isfinite(label)


def _scalar(column: Column, tensor: Tensor, piece: Piece) -> tuple[pa.Array, NDArray[np.uint8]]:
    """Return ([n] values, null where absent; [n] status): OK with exactly one value, else MISSING or WRONG_KIND."""
    counts = np.diff(column.offsets)
    status = column.status.copy()
    status[(status == OK) & (counts == 0)] = MISSING
    status[(status == OK) & (counts != 1)] = WRONG_KIND
    good = status == OK
    values = column.values if isinstance(column.values, pa.Array) else pa.array(column.values)
    if len(values) != len(status) or not good.all():
        values = values.take(pa.array(column.offsets[:-1], mask=~good))
    if tensor.type == "text":
        try:
            values = values.cast(pa.string())
        except pa.ArrowInvalid as error:
            raise DataError(f"{piece.path}: column {tensor.name}: not UTF-8 text ({error})") from None
    return values, status


def _id(column: Column, tensor: Tensor, piece: Piece, source: Source) -> tuple[pa.Array, NDArray[np.uint8]]:
    """Read a column as _scalar does, in the one type that it has in all files."""
    values, status = _scalar(column, tensor, piece)
    wanted = arrow_type(source.id_type(tensor.name))
    found = among(values, wanted)
    if lost := found.null_count - values.null_count:
        first = values.filter(pc.and_(found.is_null(), values.is_valid()))[0].as_py()
        raise DataError(
            f"{piece.path}: column {tensor.name}: {lost} values are negative, first {first}, but other files hold this "
            "column as uint64; write one type everywhere, int64 or uint64, or strings"
        )
    return found, status


def _bag(columns: dict[str, Column], bag: BagColumn, violations: _Violations) -> tuple[Bag, NDArray[np.uint8]]:
    """Read a bag: a sparse one that is absent altogether is empty; a dense one must be there in full."""
    if bag.sparse:
        index_column, value_column = columns[f"{bag.name}_indices"], columns[f"{bag.name}_values"]
        wrong = (index_column.status == WRONG_KIND) | (value_column.status == WRONG_KIND)
        unequal = np.diff(index_column.offsets) != np.diff(value_column.offsets)
        offsets, indices, values = index_column.offsets, index_column.values, value_column.values
        if unequal.any():
            keep = ~unequal
            offsets, indices = _only(index_column, keep)
            _, values = _only(value_column, keep)
    else:
        column = columns[bag.name]
        wrong = column.status == WRONG_KIND
        unequal = np.diff(column.offsets) != bag.features
        offsets, values = _only(column, ~unequal) if unequal.any() else (column.offsets, column.values)
        offsets, indices, values = bags.sparse_of_dense(offsets, values.astype(bag.numpy_dtype))
    result, faults = bags.canonical(offsets, indices, values.astype(bag.numpy_dtype, copy=False), bag.features)
    violations.add(f"{bag.key}.type", wrong)
    violations.add(f"{bag.key}.length", unequal & ~wrong)
    violations.add(f"{bag.key}.index", (faults & bags.OUT_OF_RANGE) != 0)
    violations.add(f"{bag.key}.finite", (faults & bags.NOT_FINITE) != 0)
    return result, faults


def _only(column: Column, keep: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray]:
    """Return the column with the rows outside `keep` emptied."""
    counts = np.where(keep, np.diff(column.offsets), 0)
    entries = np.repeat(keep, np.diff(column.offsets))
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]), column.values[entries]
