"""Names of a SavedModel's inputs: those of the columns, as far as TensorFlow allows."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gdmix_core.text.network.network import TextNetwork

COLUMNS_FILE = "columns.json"


@dataclass(frozen=True)
class SignatureColumns:
    """The name of every text and id field, dense bag and sparse bag in the signatures.

    A sparse bag has two inputs, NAME_indices and NAME_values. features: of every bag, their number.
    """

    fields: dict[str, str]
    dense: dict[str, str]
    sparse: dict[str, str]
    features: dict[str, int]

    @classmethod
    def of(cls, network: TextNetwork) -> SignatureColumns:
        settings = network.settings
        names = _signature_names([*settings.fields, *settings.bags])
        return cls(
            fields={field: names[field] for field in settings.fields},
            dense={bag: names[bag] for bag in settings.dense},
            sparse={bag: names[bag] for bag in settings.sparse},
            features={bag: network.inputs.bags[bag] for bag in settings.bags},
        )


def _signature_names(columns: Iterable[str]) -> dict[str, str]:
    """Keep letters, digits and _; a name that another column has already gets a number."""
    names: dict[str, str] = {}
    for column in columns:
        name = re.sub(r"[^A-Za-z0-9_]", "_", column)
        if not name[0].isalpha() or name == "self" or keyword.iskeyword(name):
            # TensorFlow refuses the first; the others cannot be names of a Python function's arguments.
            name = f"column_{name}"
        taken = {*names.values(), *(f"{other}_{part}" for other in names.values() for part in ("indices", "values"))}
        candidate, number = name, 2
        while candidate in taken or {f"{candidate}_indices", f"{candidate}_values"} & taken:
            candidate, number = f"{name}_{number}", number + 1
        names[column] = candidate
    return names
