"""Input directories: feature lists, metadata, and records of both splits as TFRecord or Parquet."""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain, pairwise
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gdmix_core import storage
from gdmix_core.data.feature_list import FeatureList, write_feature_list
from gdmix_core.data.ragged import Bag
from gdmix_core.errors import DataError
from gdmix_core.pipeline import manifests
from gdmix_core.samples.tfrecord_writer import slice_rows, write_tfrecord

Columns: TypeAlias = Mapping[str, NDArray[Any] | Bag | list[str] | pa.StringArray]
Split = Literal["training", "validation"]
Format = Literal["tfrecord", "parquet"]
Rows = TypeVar("Rows", NDArray[np.int64], range)

_DIRECTORIES: dict[Split, str] = {"training": "trainingData", "validation": "validationData"}
_ROWS_PER_FILE = 1_000_000
_MARK = ".gdmix-sample.json"
# The files of a sample: of one source, or of several in folders; and the generated one's true models.
_WRITTEN = re.compile(
    r"([^/]+/)?(metadata/tensor_metadata\.json|featureList/[^/]+"
    r"|(training|validation)Data/\.?part-\d{5}\.(tfrecord|parquet)(\.gz)?(\.\w+)?)"
    r"|truth/\.?\w+\.parquet(\.\w+)?"
)
_DTYPES = {"int32": "int", "int64": "long", "float32": "float", "float64": "double"}


def check_directory(directory: str) -> None:
    """Check that a directory has nothing in it but an earlier sample; raises DataError for anything else.

    Nothing is written. Hidden files beside the sample stay.
    """
    if (local := storage.local_path(directory)) is not None and os.path.exists(local) and not os.path.isdir(local):
        raise DataError(f"output {directory} is a file; name a directory for the sample")
    foreign = _foreign(directory)
    if foreign:
        some = ", ".join(foreign[:3]) + (", …" if len(foreign) > 3 else "")
        raise DataError(
            f"output {directory} holds {some}, which no sample wrote: nothing there is touched; name a new or empty "
            "directory"
        )


def _foreign(directory: str) -> list[str]:
    """Paths of what no sample wrote, or what was changed since."""
    mark = storage.join(directory, _MARK)
    if not storage.exists(mark):
        return sorted(name for name in storage.names_in(directory) if not name.startswith("."))
    written = storage.read_json(mark).get("files")
    found = [path for path in storage.paths_within(directory, hidden=True) if not path.startswith(".")]
    if written is None:  # it was not written to its end: what has the name of a sample's file is one
        return _links(directory) + [path for path in found if not _WRITTEN.fullmatch(path)]
    return _links(directory) + [path for path in found if path not in written] or [
        path for path, entry in manifests.describe(directory, found).items() if entry != written[path]
    ]


def _links(directory: str) -> list[str]:
    """Links in a local directory: what is written there, and removed, is elsewhere."""
    local = storage.local_path(directory)
    if local is None:
        return []
    below = [os.path.join(folder, name) for folder, *names in os.walk(local) for name in chain(*names)]
    return sorted(os.path.relpath(path, local) for path in below if os.path.islink(path))


@contextlib.contextmanager
def sample_directory(directory: str) -> Iterator[None]:
    """Mark the directory, which check_directory allows, as the sample that the block writes; the mark names its files.

    Raises DataError as check_directory does, before anything is written.
    """
    check_directory(directory)
    mark = storage.join(directory, _MARK)
    storage.write_json(mark, {"format": 2})
    yield
    paths = [path for path in storage.paths_within(directory, hidden=True) if not path.startswith(".")]
    storage.write_json(mark, {"format": 2, "files": manifests.describe(directory, paths)})


@contextlib.contextmanager
def source_writer(
    directory: str,
    *,
    bags: Mapping[str, FeatureList],
    metadata: Mapping[str, Any],
    format: Format = "tfrecord",
    compression: Literal["", ".gz"] = "",
) -> Iterator[Callable[[Split, Columns], int]]:
    """Write one input directory file by file: only the rows of one file are in memory.

    The block gets a function that writes one more file of a split and returns the number of its rows (without rows no
    file is written). An older source in the same place is removed first. tensor_metadata.json is written last, only if
    the block ends without an error: a directory without that file is not a source, so no reader takes a half-written
    one for whole.

    bags: the names of each bag's features; metadata: as `describe` gives it, or the caller's own

    Raises DataError for a compression of Parquet files, which compress themselves.
    """
    if format == "parquet" and compression:
        raise DataError(f"{directory}: compression {compression} is for tfrecord; Parquet files compress themselves")
    path = partial(storage.join, directory)
    for name in ("metadata", "featureList", *_DIRECTORIES.values()):
        storage.remove(path(name))
    suffix = "parquet" if format == "parquet" else f"tfrecord{compression}"
    rows: Counter[Split] = Counter()
    files: Counter[Split] = Counter()

    def write(split: Split, columns: Columns) -> int:
        count = _row_count(columns, directory)
        if count:
            write_file = _write_parquet if format == "parquet" else write_tfrecord
            write_file(path(_DIRECTORIES[split], f"part-{files[split]:05d}.{suffix}"), columns)
            files[split] += 1
            rows[split] += count
        return count

    yield write
    for bag, names in bags.items():
        write_feature_list(path("featureList", bag), names)
    storage.write_json(
        path("metadata", "tensor_metadata.json"), {**metadata, "numberOfTrainingSamples": rows["training"]}
    )


def write_source(
    directory: str,
    *,
    bags: Mapping[str, FeatureList],
    metadata: Mapping[str, Any],
    training: Columns,
    validation: Columns | None = None,
    files: int = 1,
    format: Format = "tfrecord",
    compression: Literal["", ".gz"] = "",
) -> None:
    """Write an input directory whose rows fit in memory.

    directory: plain path or fsspec URL; an older source there is replaced
    bags: bag name → its features, those of index 0 first
    metadata: the content of tensor_metadata.json without numberOfTrainingSamples; `describe` makes it
    training, validation: columns of equal length; a Bag named X becomes the lists X_indices and X_values
    files: rows of each split are spread over so many files, in their order

    Raises DataError for columns of different lengths.
    """
    splits: dict[Split, Columns] = {"training": training}
    if validation is not None:
        splits["validation"] = validation
    with source_writer(directory, bags=bags, metadata=metadata, format=format, compression=compression) as write:
        for split, columns in splits.items():
            rows = _row_count(columns, directory)
            for begin, end in pairwise(rows * k // files for k in range(files + 1)):
                write(split, {name: slice_rows(column, begin, end) for name, column in columns.items()})


def write_splits(
    directory: str,
    bags: Mapping[str, FeatureList],
    splits: Mapping[Split, Rows],
    columns: Callable[[Rows], Columns],
    *,
    rows_per_file: int | None = None,
    format: Format = "tfrecord",
) -> None:
    """Write an input directory with the label `response`: memory holds the columns of one file's rows.

    splits: the numbers of each split's rows; columns: gives the columns of the rows with these numbers
    """
    step = rows_per_file or _ROWS_PER_FILE
    metadata = describe(columns(splits["training"][:0]), bags, ("response",))
    with source_writer(directory, bags=bags, metadata=metadata, format=format) as write:
        for split, rows in splits.items():
            for begin in range(0, len(rows), step):
                write(split, columns(rows[begin : begin + step]))


def describe(columns: Columns, bags: Mapping[str, FeatureList], labels: tuple[str, ...]) -> dict[str, Any]:
    """Make the metadata of columns: `int`, `long`, `float`, `double` or `string` by their type; a Bag is sparse.

    labels: the names that go under labels; all others go under features. Raises DataError for another dtype.
    """
    features: list[dict[str, Any]] = []
    targets: list[dict[str, Any]] = []
    for name, column in columns.items():
        shape = [len(bags[name])] if isinstance(column, Bag) else []
        entry = {"name": name, "dtype": _dtype(name, column), "shape": shape, "isSparse": isinstance(column, Bag)}
        (targets if name in labels else features).append(entry)
    return {"features": features, "labels": targets}


def _dtype(name: str, column: NDArray[Any] | Bag | list[str] | pa.StringArray) -> str:
    if isinstance(column, list | pa.StringArray):
        return "string"
    dtype = (column.values if isinstance(column, Bag) else column).dtype
    if dtype.name not in _DTYPES:
        raise DataError(f"column {name}: dtype {dtype} is not one of the layout's; use one of {', '.join(_DTYPES)}")
    return _DTYPES[dtype.name]


def _row_count(columns: Columns, directory: str) -> int:
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) != 1:
        raise DataError(f"{directory}: columns must have the same number of rows, but have {lengths}")
    return next(iter(lengths.values()))


def _write_parquet(path: str, columns: Columns) -> None:
    arrays: dict[str, pa.Array] = {}
    for name, column in columns.items():
        if isinstance(column, Bag):
            # Lists with 32-bit offsets: the types every engine reads.
            offsets = pa.array(column.offsets.astype(np.int32))
            indices = pa.array(column.indices.astype(np.int64))
            arrays[f"{name}_indices"] = pa.ListArray.from_arrays(offsets, indices)
            arrays[f"{name}_values"] = pa.ListArray.from_arrays(offsets, pa.array(column.values))
        else:
            arrays[name] = pa.array(column)
    with storage.open_for_write(path) as file:
        pq.write_table(pa.table(arrays), file)
