"""The columns that a file has, and the messages about one that the pipeline reads and the file does not have."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from gdmix_core.data.ingest.metadata import Tensor, metadata_file
from gdmix_core.data.tfrecord.decoder import Field, Kind
from gdmix_core.data.tfrecord.files import Chunk, iter_chunks
from gdmix_core.errors import DataError

_KINDS: dict[str, Kind] = {"integer": "int64", "real": "float", "text": "bytes"}
_PEEKED_BYTES = 64 << 10
_PEEKED_RECORDS = 64
_LISTED = 20
_BAG_PARTS = ("_indices", "_values", "_indices0", "_values0")


def fields_of(tensor: Tensor) -> list[Field]:
    """List a tensor's stored columns: one, or indices and values for a sparse vector, which DeText names with a 0."""
    if tensor.sparse:
        return [
            Field(f"{tensor.name}_indices", "int64", f"{tensor.name}_indices0"),
            Field(f"{tensor.name}_values", _KINDS[tensor.type], f"{tensor.name}_values0"),
        ]
    return [Field(tensor.name, _KINDS[tensor.type])]


@dataclass(frozen=True)
class Wanted:
    """A column or bag that the pipeline reads in a directory. use: what for, such as columns.uid."""

    tensor: Tensor
    use: str
    directory: str

    @property
    def bag(self) -> bool:
        return self.tensor.size is not None

    @property
    def told(self) -> str:
        return f"{'bag' if self.bag else 'column'} {self.tensor.name} ({self.use})"

    def absent_from(self, names: Collection[str]) -> list[str]:
        """Its stored columns that are not among the names of a file's columns."""
        return [f.name for f in fields_of(self.tensor) if f.name not in names and f.other not in names]


def fault_of_schema(wanted: Wanted, names: Sequence[str], described: Collection[str]) -> str | None:
    """Describe what is wrong with a file's columns, or return None. described: names of the metadata's tensors."""
    if absent := wanted.absent_from(names):
        needed = f", which {wanted.told} needs" if wanted.bag else f" ({wanted.use})"
        return f"no column {' and no '.join(absent)}{needed}{hint(wanted, names, described)}"
    for field in fields_of(wanted.tensor):
        if field.other in names and field.name in names:
            return f"both {field.name} and {field.other} are there, and either may be {wanted.told}: leave one out"
    name = wanted.tensor.name
    if wanted.tensor.sparse and ranking_column(name) in names and f"{name}_indices" not in names:
        return lists_of_documents(name)
    return None


def hint(wanted: Wanted, names: Sequence[str], described: Collection[str]) -> str:
    """Suggest what may be meant, and what to do. names: columns that a file has in place of the wanted ones."""
    tensor, metadata = wanted.tensor, metadata_file(wanted.directory)
    other_form = Tensor(tensor.name, tensor.dtype, tensor.size, not tensor.sparse)
    if wanted.bag and not Wanted(other_form, wanted.use, wanted.directory).absent_from(names):
        there = " and ".join(f.name if f.name in names else str(f.other) for f in fields_of(other_form))
        if tensor.sparse:
            return f"; it has {there}, a dense vector: set isSparse to false for {tensor.name} in {metadata}"
        return f"; it has {there}: set isSparse to true for {tensor.name} in {metadata} (it is false, or not there)"
    near = near_names(wanted, names, described)
    meant = f"; did you mean {', '.join(near)}?" if near else ";"
    more = ", …" if len(names) > _LISTED else ""
    return (
        f"{meant} There are {', '.join(names[:_LISTED]) or 'no columns'}{more}. Write the column under this name in "
        f"every file, or change the name in the configuration and in {metadata}"
    )


def near_names(wanted: Wanted, names: Sequence[str], described: Collection[str]) -> list[str]:
    """List possible other names of the wanted columns: those alike, or a bag's parts that nothing describes."""
    absent = wanted.absent_from(names)
    strange = undescribed_names(names, described)
    alike = [difflib.get_close_matches(name, strange, n=1, cutoff=0.6) for name in absent]
    if all(alike):
        return [name for found in alike for name in found]
    if wanted.tensor.sparse:
        return [name for name in strange if name.endswith(_BAG_PARTS)][:4]
    return []


def undescribed_names(names: Sequence[str], described: Collection[str]) -> list[str]:
    parts = {name + part for name in described for part in ("", *_BAG_PARTS)}
    return [name for name in names if name not in parts]


def ranking_column(bag: str) -> str:
    """The third column of DeText's lists of documents: there, X_indices0 is the document, X_indices1 the feature."""
    return f"{bag}_indices1"


def lists_of_documents(bag: str) -> str:
    return (
        f"{ranking_column(bag)} is there: these are DeText's ranking records, with a list of documents each; write "
        "a record for each document, and name the list by a column (group)"
    )


def names_in_records(path: str) -> list[str]:
    """Return names of the features in the first records of a TFRecord file, sorted; [] where it has none."""
    names: set[str] = set()
    for chunk in iter_chunks(path, chunk_bytes=_PEEKED_BYTES, verify=False):
        for record in range(min(len(chunk), _PEEKED_RECORDS)):
            names.update(record_names(chunk, record))
        break
    return sorted(names)


def record_names(chunk: Chunk, record: int) -> Iterator[str]:
    """Yield names of the features in one record."""
    begin = int(chunk.starts[record])
    octets = chunk.data[begin : begin + int(chunk.lengths[record])].tobytes()
    try:
        for features in _delimited(octets):
            for entry in _delimited(features):
                yield from (key.decode(errors="replace") for key in _delimited(entry))
    except IndexError:
        raise DataError(f"{chunk.where(record)}: not a tf.train.Example") from None


def _delimited(message: bytes) -> Iterator[bytes]:
    """Yield the payloads of a protobuf message's length-delimited fields numbered 1."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        wire = tag & 7
        if wire == 2:
            length, at = _varint(message, at)
            if tag >> 3 == 1:
                yield message[at : at + length]
            at += length
        elif wire == 0:
            _, at = _varint(message, at)
        else:
            at += {1: 8, 5: 4}.get(wire, len(message))


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
