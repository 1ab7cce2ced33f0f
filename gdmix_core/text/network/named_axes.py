"""Names of the rows and columns of a network's weights, so that weights over one vocabulary fit another's.

A name is whatever tells one row from the others: a word, an id, a (name, term) of a feature, the number of a unit.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gdmix_core.config.text import TextModel
from gdmix_core.data.feature_list import Feature
from gdmix_core.errors import DataError
from gdmix_core.text.network_inputs import NetworkInputs

Names = Sequence[Hashable]
Arrays = Mapping[str, NDArray[np.float32]]

# Ids before a vocabulary's first; and that of the transformer's first token, after its last word.
_SPECIAL = (("padding",), ("unknown",))
_FIRST_TOKEN = ("first token",)


@dataclass(frozen=True)
class Vocabularies:
    """All that a network's axes are named by.

    features: of every bag; classes: of multilabel_classification, else as many numbers as there are scores
    """

    inputs: NetworkInputs
    features: Mapping[str, Sequence[Feature]] = field(default_factory=dict)
    classes: Sequence[Feature] | None = None

    @property
    def listed(self) -> dict[str, Names]:
        """Each vocabulary by the name under which it is counted: words, ids of FIELD, features of BAG, classes."""
        named: dict[str, Names] = {"words": self.inputs.tokens} if self.inputs.tokens else {}
        named |= {f"ids of {name}": ids for name, ids in self.inputs.ids.items()}
        named |= {f"features of {bag}": features for bag, features in self.features.items()}
        return named | ({} if self.classes is None else {"classes": self.classes})


def named_axes(
    settings: TextModel, vocabularies: Vocabularies, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, list[Names]]:
    """Name every axis of every weight; an axis that is the same in all vocabularies has numbers.

    shapes: of the weights
    """
    found: dict[str, list[Names]] = {name: [range(size) for size in shape] for name, shape in shapes.items()}
    features = vocabularies.features
    if "encoder/tokens" in shapes:
        found["encoder/tokens"][0] = _token_names(settings, vocabularies.inputs, shapes["encoder/tokens"][0])
    for name in settings.id_fields:
        found[f"ids/{name}"][0] = [*_SPECIAL, *vocabularies.inputs.ids[name]]
    for bag in settings.dense:
        found[f"dense/{bag}/scale"][0] = found[f"dense/{bag}/shift"][0] = features[bag]
    for bag in settings.sparse:
        found[f"sparse/{bag}"][0] = features[bag]
    for bag in settings.linear_bags:
        found[f"linear/{bag}"][0] = features[bag]
    first = "hidden/0/kernel" if settings.hidden else "output/kernel"
    found[first][0] = _names_of_wide_layer(settings, vocabularies, shapes[first][0])
    if vocabularies.classes is not None:
        for name in ("output/kernel", "output/bias", *(f"linear/{bag}" for bag in settings.linear_bags)):
            found[name][-1] = vocabularies.classes
    return found


def _token_names(settings: TextModel, inputs: NetworkInputs, rows: int) -> Names:
    special = () if settings.vocabulary.tokenizer == "wordpiece" else _SPECIAL
    names: list[Hashable] = [*special, *inputs.tokens]
    if special and rows == len(names) + 1:
        return [*names, _FIRST_TOKEN]
    # The table of a pretrained encoder may have more rows than its vocabulary has tokens.
    return [*names, *((number,) for number in range(len(names), rows))]


def _names_of_wide_layer(settings: TextModel, vocabularies: Vocabularies, rows: int) -> Names:
    """Name the inputs of the layer that reads interactions, then dense bags' features, then sparse bags' vectors."""
    dense = [("dense", bag, feature) for bag in settings.dense for feature in vocabularies.features[bag]]
    sparse = [("sparse", bag, number) for bag in settings.sparse for number in range(settings.sparse_embedding)]
    interactions = [("interaction", number) for number in range(rows - len(dense) - len(sparse))]
    return [*interactions, *dense, *sparse]


def remapped(
    initial: Arrays, axes: Mapping[str, list[Names]], new: Arrays, new_axes: Mapping[str, list[Names]], source: str
) -> dict[str, NDArray[np.float32]]:
    """Return the new weights, with the initial values wherever every axis has the name in both.

    Raises DataError, which names the source, when the weights are not those of the same layers, or an axis has other
    numbers.
    """
    lacking = sorted(new.keys() ^ initial.keys())
    if lacking:
        raise DataError(f"{source}: the weights and the network differ in {lacking[0]}; they belong to other settings")
    result = {}
    for name, values in new.items():
        places = []
        for axis, (there, here) in enumerate(zip(axes[name], new_axes[name], strict=True)):
            if len(there) != initial[name].shape[axis]:
                raise DataError(
                    f"{source}: {name} has shape {initial[name].shape}, but its vocabulary {len(there)} entries; "
                    "export the initial run again"
                )
            if isinstance(here, range) and here != there:
                raise DataError(
                    f"{source}: {name} has shape {initial[name].shape}, the network's has {values.shape}; they belong "
                    "to other settings of the network"
                )
            places.append(_places(there, here))
        values = values.copy()
        values[np.ix_(*(to for _, to in places))] = initial[name][np.ix_(*(of for of, _ in places))]
        result[name] = values
    return result


def _places(there: Names, here: Names) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (positions there, positions here) int64 of the names in both."""
    if there == here:
        return np.arange(len(there)), np.arange(len(here))
    known = {name: position for position, name in enumerate(there)}
    found = np.array([known.get(name, -1) for name in here], np.int64)
    kept = np.flatnonzero(found >= 0)
    return found[kept], kept
