"""Input records, decoded in batches and checked: what every Spark task of validate runs over its piece of a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gdmix_core.config import MOST_CHECKS, Config
from gdmix_core.data import bags, parquet_records, tfrecord
from gdmix_core.data.example_decoder import MISSING, OK, WRONG_KIND, Column, Field, Kind, decode
from gdmix_core.data.id_types import among, arrow_type
from gdmix_core.data.metadata import Tensor
from gdmix_core.data.ragged import Bag
from gdmix_core.data.record_checks import Check, checks_of
from gdmix_core.data.scalar_columns import number_columns
from gdmix_core.data.source import BagColumn, Piece, Source
from gdmix_core.errors import DataError

# Small enough for a core's cache: a few thousand records.
_CHUNK_BYTES = 2 << 20
_KINDS: dict[str, Kind] = {"integer": "int64", "real": "float", "text": "bytes"}


@dataclass
class Records:
    """A batch of decoded records of one piece.

    uid: int64, uint64 or string [n], null where absent
    ids: entities, groups, texts: int64, uint64 or string [n] by column name; null where absent, of texts ""
    numbers: float64 [n] by role (label, weight, offset); empty unless the source is the primary one. Of a label that is
        a bag, how many classes apply
    bags: by frame key; violations: int64 [n], bit k set where the source's check k fails
    duplicates: int64 [n], bit k set where the source's bag k holds an index twice
    """

    uid: pa.Array
    ids: dict[str, pa.Array] = field(default_factory=dict)
    numbers: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    bags: dict[str, Bag] = field(default_factory=dict)
    violations: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    duplicates: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))


def fields_of(tensor: Tensor) -> list[Field]:
    """The stored columns of a tensor: one, or indices and values for a sparse vector."""
    return [Field(name, _KINDS[held]) for name, held in tensor.stored]


def read_columns(piece: Piece, fields: list[Field], *, verify: bool = True) -> Iterator[dict[str, Column]]:
    """The columns by name of each batch of a piece, whatever its format."""
    if piece.path.endswith(".parquet"):
        yield from parquet_records.read(piece, fields)
        return
    for chunk in tfrecord.iter_chunks(
        piece.path, chunk_bytes=_CHUNK_BYTES, verify=verify, start=piece.start, stop=piece.stop
    ):
        yield decode(chunk, fields)


def read_uids(piece: Piece, source: Source, config: Config) -> Iterator[pa.Array]:
    """Only the uids of a piece, without those that are null; nothing is verified."""
    tensor = source.tensors[config.columns.uid]
    for columns in read_columns(piece, fields_of(tensor), verify=False):
        yield _id(columns[tensor.name], tensor, piece, source)[0].drop_null()


def read_records(piece: Piece, source: Source, config: Config, *, labelled: bool = True) -> Iterator[Records]:
    """Decodes and checks a piece, without label and weight unless labelled. Raises DataError for a corrupt file."""
    roles = number_columns(config, labelled=labelled) if source.primary else {}
    scalars = [config.columns.uid, *roles.values(), *source.ids]
    tensors = [source.tensors[name] for name in dict.fromkeys([*scalars, *(bag.name for bag in source.bags)])]
    fields = [part for tensor in tensors for part in fields_of(tensor)]
    checks = checks_of(source, config, labelled=labelled)
    if len(checks) > MOST_CHECKS:
        raise DataError(f"{source.path}: {len(checks)} rules for a record, at most {MOST_CHECKS}; read fewer columns")
    for columns in read_columns(piece, fields):
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
    """([n] values, null where absent; [n] status): OK with exactly one value, else MISSING or WRONG_KIND."""
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
    """As _scalar, in the one type that the column has in all files."""
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
    """A sparse bag that is absent altogether is an empty one; a dense one must be there in full."""
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
    """The column with the rows outside `keep` emptied."""
    counts = np.where(keep, np.diff(column.offsets), 0)
    entries = np.repeat(keep, np.diff(column.offsets))
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]), column.values[entries]
