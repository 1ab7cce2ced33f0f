"""tensor_metadata.json: names, types and shapes of the columns of one input directory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from gdmix_core import storage
from gdmix_core.errors import DataError

# Both predecessors' names for the same types; `byte` and `bytes` are strings, as in their files.
_TYPES: dict[str, Literal["integer", "real", "text"]] = {
    "int": "integer",
    "long": "integer",
    "float": "real",
    "double": "real",
    "string": "text",
    "bytes": "text",
    "byte": "text",
}


@dataclass(frozen=True)
class Tensor:
    """One column. size: None for a scalar, else the length of the vector; sparse: stored as X_indices and X_values."""

    name: str
    dtype: str
    size: int | None
    sparse: bool

    @property
    def type(self) -> Literal["integer", "real", "text"]:
        return _TYPES[self.dtype]

    @property
    def stored(self) -> list[tuple[str, Literal["integer", "real", "text"]]]:
        """The columns of a file that hold it, and what each holds: one, or indices and values of a sparse vector."""
        if self.sparse:
            return [(f"{self.name}_indices", "integer"), (f"{self.name}_values", self.type)]
        return [(self.name, self.type)]


def metadata_file(directory: str) -> str:
    """Return the path of the description of an input directory's columns."""
    return storage.join(directory, "metadata", "tensor_metadata.json")


def read_metadata(path: str) -> dict[str, Tensor]:
    """Return the columns by name, features and labels together. Raises DataError naming an unusable entry."""
    content = storage.read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected an object with the lists features and labels")
    tensors: dict[str, Tensor] = {}
    for part in ("features", "labels"):
        entries = content.get(part, [])
        if not isinstance(entries, list):
            raise DataError(f"{path}: {part} must be a list")
        for number, entry in enumerate(entries):
            tensor = _parse(entry, f"{path}: {part}[{number}]")
            if tensor.name in tensors:
                raise DataError(f"{path}: {part}[{number}]: column {tensor.name} is described twice")
            tensors[tensor.name] = tensor
    return tensors


def _parse(entry: Any, where: str) -> Tensor:
    if not isinstance(entry, dict):
        raise DataError(f"{where}: must be an object with name, dtype, shape, isSparse")
    name = entry.get("name")
    if not isinstance(name, str) or not name:
        raise DataError(f"{where}: name must be a string that is not empty")
    dtype = entry.get("dtype")
    if not isinstance(dtype, str) or dtype not in _TYPES:
        raise DataError(f"{where} ({name}): dtype {dtype!r} is not known; use one of {', '.join(_TYPES)}")
    shape = entry.get("shape", [])
    if not isinstance(shape, list) or any(not isinstance(n, int) or isinstance(n, bool) or n < 1 for n in shape):
        raise DataError(f"{where} ({name}): shape must be a list of positive integers, [] for a scalar")
    if len(shape) > 1:
        raise DataError(
            f"{where} ({name}): shape {shape} has {len(shape)} dimensions; only scalars and vectors are read"
        )
    sparse = entry.get("isSparse", False)
    if not isinstance(sparse, bool):
        raise DataError(f"{where} ({name}): isSparse must be true or false")
    if sparse and not shape:
        raise DataError(f"{where} ({name}): a sparse column needs a shape, such as [100]")
    return Tensor(name, dtype, shape[0] if shape else None, sparse)
