"""The shapes of a text network depend, beside its settings, on vocabularies and sizes found in the data."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from gdmix_core import storage
from gdmix_core.errors import DataError


@dataclass(frozen=True)
class NetworkInputs:
    """Written beside the weights, which mean nothing without it.

    tokens:  vocabulary of the text fields. words: without padding and unknown; a token's id is its position + 2.
             wordpiece: the lines of the vocabulary file, [PAD] the first; a token's id is its position.
    ids:     vocabulary of each id field; an id's number is its position + 2
    bags:    number of features of each dense and sparse bag
    outputs: scores of a row: 1, or the number of classes
    """

    tokens: tuple[str, ...] = ()
    ids: dict[str, tuple[str, ...]] = field(default_factory=dict)
    bags: dict[str, int] = field(default_factory=dict)
    outputs: int = 1

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> NetworkInputs:
        """Parse what to_json wrote. Raises DataError when the text is not what `to_json` writes."""
        try:
            content: dict[str, Any] = json.loads(text)
            return cls(
                tokens=tuple(content["tokens"]),
                ids={name: tuple(values) for name, values in content["ids"].items()},
                bags={name: int(features) for name, features in content["bags"].items()},
                outputs=int(content["outputs"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"the network's inputs cannot be read ({error!r}); train the model again") from None

    @classmethod
    def read(cls, path: str) -> NetworkInputs:
        """Read a file. Raises DataError when it is missing, or `write` has not written it."""
        with storage.open_for_read(path) as file:
            return cls.from_json(file.read().decode())

    def write(self, path: str) -> None:
        with storage.open_for_write(path) as file:
            file.write(self.to_json().encode())
