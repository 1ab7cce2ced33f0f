"""tf.train.Example by protobuf's own parser, from descriptors built here: an oracle without TensorFlow.

Also the arrays that a kernel run without compilation (NUMBA_DISABLE_JIT=1) may only read within bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, unknown_fields
from numpy.typing import NDArray

from gdmix_core.data.tfrecord.decoder import MISSING, OK, WRONG_KIND, Column, Field
from gdmix_core.data.tfrecord.files import Chunk

KINDS = {"bytes": "bytes_list", "float": "float_list", "int64": "int64_list"}


def _example_class(package: str, packed: bool) -> Any:
    """The message class of tensorflow/core/example/example.proto; writes its number lists packed or not."""
    of = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    value_types = {"BytesList": of.TYPE_BYTES, "FloatList": of.TYPE_FLOAT, "Int64List": of.TYPE_INT64}
    for name, value_type in value_types.items():
        field = file.message_type.add(name=name).field.add(name="value", number=1, label=of.LABEL_REPEATED)
        field.type = value_type
        if value_type != of.TYPE_BYTES:
            field.options.packed = packed
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, (field_name, type_name) in enumerate(zip(KINDS.values(), value_types, strict=True), 1):
        feature.field.add(
            name=field_name,
            number=number,
            label=of.LABEL_OPTIONAL,
            type=of.TYPE_MESSAGE,
            type_name=f".{package}.{type_name}",
            oneof_index=0,
        )
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=of.LABEL_OPTIONAL, type=of.TYPE_STRING)
    message = {"label": of.LABEL_OPTIONAL, "type": of.TYPE_MESSAGE}
    entry.field.add(name="value", number=2, type_name=f".{package}.Feature", **message)
    features.field.add(
        name="feature",
        number=1,
        label=of.LABEL_REPEATED,
        type=of.TYPE_MESSAGE,
        type_name=f".{package}.Features.FeatureEntry",
    )
    example = file.message_type.add(name="Example")
    example.field.add(name="features", number=1, type_name=f".{package}.Features", **message)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.Example"))


Example = _example_class("packed_oracle", packed=True)
UnpackedExample = _example_class("unpacked_oracle", packed=False)


def serialize(features: dict[str, tuple[str, list[Any]]], *, packed: bool = True) -> bytes:
    """An Example of features by name, each a kind and its values; protobuf sorts the keys here."""
    example = (Example if packed else UnpackedExample)()
    example.features.SetInParent()
    for name, (kind, values) in features.items():
        feature = example.features.feature[name]
        if kind != "none":
            getattr(feature, KINDS[kind]).SetInParent()
            getattr(feature, KINDS[kind]).value.extend(values)
    return example.SerializeToString(deterministic=True)


def expected_column(examples: Sequence[Any], field: Field) -> tuple[list[int], list[list[Any]]]:
    """Status and values of each row, as protobuf parsed them."""
    statuses, rows = [], []
    for example in examples:
        kind = None
        if field.name in example.features.feature:
            feature = example.features.feature[field.name]
            kind = feature.WhichOneof("kind")
        if kind is None:
            statuses.append(int(MISSING))
        else:
            statuses.append(int(OK if kind == KINDS[field.kind] else WRONG_KIND))
        rows.append(list(getattr(feature, kind).value) if kind == KINDS[field.kind] else [])
    return statuses, rows


def assert_same_as_oracle(columns: dict[str, Column], examples: Sequence[Any], fields: Sequence[Field]) -> None:
    assert list(columns) == [field.name for field in fields]
    for field in fields:
        column = columns[field.name]
        statuses, rows = expected_column(examples, field)
        assert column.status.tolist() == statuses
        assert column.offsets.tolist() == np.cumsum([0, *map(len, rows)]).tolist()
        flat = [value for row in rows for value in row]
        if field.kind == "bytes":
            column.values.validate(full=True)
            assert column.values.to_pylist() == flat
        else:
            assert column.values.dtype == (np.int64 if field.kind == "int64" else np.float32)
            np.testing.assert_array_equal(column.values, np.array(flat, column.values.dtype))


def has_odd_entries(example: Any) -> bool:
    """Whether a map entry holds a field it should not: only Python's protobuf then drops all of it."""
    return any(field.field_number == 1 for field in unknown_fields.UnknownFieldSet(example.features))


class BoundsChecked(np.ndarray):
    """Refuses positions outside, also those below zero, which plain arrays count from their end."""

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, (int, np.integer)) and not 0 <= key < len(self):
            raise IndexError(f"position {key} in an array of {len(self)}")
        return super().__getitem__(key)


def octets(data: bytes) -> NDArray[np.uint8]:
    """Bytes as a kernel takes them; bounds are checked where the kernels run uncompiled."""
    array = np.array(np.frombuffer(data, np.uint8))
    return array.view(BoundsChecked) if numba.config.DISABLE_JIT else array


def chunk_of(records: Sequence[bytes]) -> Chunk:
    """A chunk of records that lie back to back, without frames."""
    lengths = np.array([len(record) for record in records], np.int64)
    starts = np.cumsum(lengths) - lengths
    return Chunk("records", octets(b"".join(records)), starts, lengths, 0)
