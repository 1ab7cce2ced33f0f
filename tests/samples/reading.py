"""Reads a source back as rows of plain Python values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from gdmix_core.data.tfrecord.decoder import Field, decode
from gdmix_core.data.tfrecord.files import iter_chunks

KINDS = {"int": "int64", "long": "int64", "float": "float", "double": "float", "string": "bytes"}


def read_rows(source: Path, split: str) -> list[dict[str, Any]]:
    """The records of <source>/<split>Data in file order; sparse columns are two lists each."""
    metadata = json.loads((source / "metadata" / "tensor_metadata.json").read_text())
    fields: list[Field] = []
    lists: set[str] = set()
    for tensor in metadata["features"] + metadata["labels"]:
        name, kind = tensor["name"], KINDS[tensor["dtype"]]
        if tensor["isSparse"]:
            fields += [Field(f"{name}_indices", "int64"), Field(f"{name}_values", kind)]  # type: ignore[arg-type]
            lists |= {f"{name}_indices", f"{name}_values"}
        else:
            fields.append(Field(name, kind))  # type: ignore[arg-type]
    rows: list[dict[str, Any]] = []
    for path in sorted((source / f"{split}Data").glob("part-*")):
        if path.suffix == ".parquet":
            rows += pq.read_table(path).to_pylist()
            continue
        for chunk in iter_chunks(str(path)):
            columns = decode(chunk, fields)
            for i in range(len(chunk)):
                row: dict[str, Any] = {}
                for name, column in columns.items():
                    values = column.values[column.offsets[i] : column.offsets[i + 1]].tolist()
                    row[name] = values if name in lists else _text(values[0])
                rows.append(row)
    return rows


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def read_names(source: Path, bag: str) -> list[str]:
    return (source / "featureList" / bag).read_text().splitlines()


def features_of(row: dict[str, Any], bag: str, names: list[str]) -> dict[str, float]:
    """name,term → value of one row's bag; values as float32 holds them, rounded to six digits."""
    pairs = zip(row[f"{bag}_indices"], row[f"{bag}_values"], strict=True)
    return {names[index]: round(value, 6) for index, value in pairs}
