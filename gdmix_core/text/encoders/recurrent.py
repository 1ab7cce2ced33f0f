"""Stacked recurrent layers, LSTM or GRU; one for all fields."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from gdmix_core.config.text import RecurrentEncoder, TextModel
from gdmix_core.text.encoders.token_vectors import TokenVectors
from gdmix_core.text.network_inputs import NetworkInputs
from gdmix_core.text.weights import Weights, dropped


class RecurrentTextEncoder:
    """The state of the last layer after the last token; bidirectional: also that after the first, read backwards.

    Its size is settings.units, halved for two directions. Dropout is on the input of every layer.
    """

    def __init__(self, encoder: RecurrentEncoder, settings: TextModel, inputs: NetworkInputs, weights: Weights) -> None:
        self._token_vectors = TokenVectors(settings, inputs, weights)
        self._dropout = encoder.dropout
        self._weights = weights
        directions = ["forward", "backward"] if encoder.bidirectional else ["forward"]
        size = max(1, settings.units // len(directions))
        self.width = size * len(directions)
        kind = keras.layers.LSTM if encoder.type == "lstm" else keras.layers.GRU
        self._layers: list[list[Any]] = []
        for number in range(encoder.layers):
            layer = []
            for direction in directions:
                name = f"encoder/{number}_{direction}"
                recurrent = kind(
                    size,
                    go_backwards=direction == "backward",
                    return_sequences=number + 1 < encoder.layers,
                    kernel_initializer=weights.glorot(f"{name}/kernel"),
                    recurrent_initializer=keras.initializers.Orthogonal(seed=weights.seed_of(f"{name}/recurrent")),
                    use_cudnn=False if weights.portable else "auto",
                    dtype=weights.policy,
                )
                shape = (None, None, self.width if number else settings.embedding)
                layer.append(weights.layer(name, recurrent, shape))
            self._layers.append(layer)

    def __call__(self, field: str, tokens: Any, training: bool) -> Any:
        values, present = self._token_vectors(tokens)
        # cuDNN refuses a row in which nothing is present: an empty text reads one zero, and is made nothing at the end.
        read = tf.concat([tf.ones_like(present[:, :1]), present[:, 1:]], axis=1)
        for number, layer in enumerate(self._layers):
            values = dropped(values, self._dropout, self._weights.seed_of(f"encoder/{field}/{number}"), training)
            outputs = [direction(values, mask=read) for direction in layer]
            if number + 1 < len(self._layers) and len(outputs) == 2:
                # What was read backwards comes in the order it was read.
                outputs[1] = tf.reverse(outputs[1], axis=[1])
            values = tf.concat(outputs, axis=-1)
        # An empty text has read nothing.
        return values * tf.cast(tf.reduce_any(present, axis=1), values.dtype)[:, tf.newaxis]
