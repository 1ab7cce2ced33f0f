"""Features of one list by their places in another: of new data in a model's, or of an earlier run in this one's."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gdmix_core.data.feature_list import Feature, FeatureList, read_feature_list
from gdmix_core.data.ragged import Bag
from gdmix_core.errors import DataError

log = logging.getLogger(__name__)

# So many features that a model does not know are named.
_NAMED = 5


def with_features(bag: Bag, feature_map: NDArray[np.int32]) -> Bag:
    """Return the bag with other indices, without the features that have none."""
    indices = feature_map[bag.indices]
    kept = indices >= 0
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept)])
    return Bag(ends[bag.offsets], indices[kept], bag.values[kept])


def feature_map(name: str, features: FeatureList, of_data: FeatureList) -> NDArray[np.int32]:
    """Return int32 [features of the data's list]: each one's index in the model's list, −2 where it has none."""
    names = of_data.names
    known = {feature: index for index, feature in enumerate(features.names)}
    found = np.array([known.get(feature, -2) for feature in names], np.int32)
    lost = [names[index] for index in np.flatnonzero(found == -2)]
    if lost:
        log.warning(
            "%s: %d of %d features of the data are not in the model and count nothing: %s",
            name, len(lost), len(names), _listed(lost),
        )  # fmt: skip
    return found


def map_of_new_data(name: str, features: FeatureList, list_of_data: str) -> NDArray[np.int32]:
    """feature_map, of data that are to be scored. Raises DataError where the model knows none of their features."""
    of_data = read_feature_list(list_of_data)
    found = feature_map(name, features, of_data)
    if len(found) and not (found >= 0).any():
        raise DataError(
            f"{list_of_data}: coordinate {name} knows none of these {len(found)} features ({_listed(of_data.names)}); "
            f"the model has {_listed(features.names) or 'none'}. Features are the same when name and term are: give "
            "the data the names that the model was trained with"
        )
    return found


def _listed(features: Sequence[Feature]) -> str:
    """Return the first few, as a feature list has them: name,term."""
    more = ", …" if len(features) > _NAMED else ""
    return ", ".join(f"{name},{term}" for name, term in features[:_NAMED]) + more
