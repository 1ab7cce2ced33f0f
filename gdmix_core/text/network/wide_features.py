"""The wide features: dense vectors rescaled and sparse bags embedded for the network, and both linearly beside it."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from gdmix_core.config.text import TextModel
from gdmix_core.text.network_inputs import NetworkInputs
from gdmix_core.text.weights import Weights


class WideFeatures:
    """A batch has dense/BAG float32 [B, n]; indices/BAG int32 [E], values/BAG float32 [E], entry_rows/BAG int32 [E]."""

    def __init__(self, settings: TextModel, inputs: NetworkInputs, weights: Weights) -> None:
        self._settings = settings
        self.width = sum(inputs.bags[bag] for bag in settings.dense) + settings.sparse_embedding * len(settings.sparse)
        # Rescaled as in DeText: tanh(scale x + shift), at first tanh(x).
        self._scales = {
            bag: weights.variable(f"dense/{bag}/scale", [inputs.bags[bag]], "ones") for bag in settings.dense
        }
        self._shifts = {
            bag: weights.variable(f"dense/{bag}/shift", [inputs.bags[bag]], "zeros") for bag in settings.dense
        }
        self._tables = {
            bag: weights.variable(name, [inputs.bags[bag], settings.sparse_embedding], weights.glorot(name))
            for bag in settings.sparse
            for name in [f"sparse/{bag}"]
        }
        self._linear = {
            bag: weights.variable(f"linear/{bag}", [inputs.bags[bag], inputs.outputs], "zeros")
            for bag in settings.linear_bags
        }

    def vectors(self, batch: dict[str, Any], rows: Any) -> list[Any]:
        """Return float32 [B, …] of each bag, for the network."""
        dense = [
            tf.tanh(self._scales[bag].value * batch[f"dense/{bag}"] + self._shifts[bag].value)
            for bag in self._settings.dense
        ]
        return dense + [_weighted_sum(self._tables[bag], batch, bag, rows) for bag in self._settings.sparse]

    def linear_scores(self, batch: dict[str, Any], rows: Any) -> list[Any]:
        """Return float32 [B, outputs] of each bag that enters the score linearly."""
        return [
            tf.matmul(batch[f"dense/{bag}"], table.value)
            if bag in self._settings.dense
            else _weighted_sum(table, batch, bag, rows)
            for bag, table in self._linear.items()
        ]


def _weighted_sum(table: Any, batch: dict[str, Any], bag: str, rows: Any) -> Any:
    """Sum value · table[index] over a row's entries: [B, columns of the table]."""
    entries = tf.gather(table.value, batch[f"indices/{bag}"]) * batch[f"values/{bag}"][:, tf.newaxis]
    return tf.math.unsorted_segment_sum(entries, batch[f"entry_rows/{bag}"], rows)
