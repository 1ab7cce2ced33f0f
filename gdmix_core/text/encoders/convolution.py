"""Convolutions over windows of tokens (Kim, "Convolutional neural networks for sentence classification", 2014)."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from gdmix_core.config.text import CnnEncoder, TextModel
from gdmix_core.text.encoders.token_vectors import TokenVectors
from gdmix_core.text.network_inputs import NetworkInputs
from gdmix_core.text.weights import Weights


class CnnTextEncoder:
    """The largest response of each filter, ReLU before; every field has filters of its own.

    A window starts at each token and may reach beyond the last, where vectors are zero: so a text shorter than the
    window has one, and padding changes nothing. A text without tokens gives zeros.
    """

    def __init__(self, encoder: CnnEncoder, settings: TextModel, inputs: NetworkInputs, weights: Weights) -> None:
        self.width = encoder.filters * len(encoder.windows)
        self._windows = encoder.windows
        self._token_vectors = TokenVectors(settings, inputs, weights)
        self._filters = {
            (field, position): weights.layer(
                name := f"encoder/{field}/{position}_window_{window}",
                keras.layers.Conv1D(
                    encoder.filters,
                    window,
                    activation="relu",
                    kernel_initializer=weights.glorot(f"{name}/kernel"),
                    dtype=weights.policy,
                ),
                (None, None, settings.embedding),
            )
            for field in settings.text_fields
            for position, window in enumerate(encoder.windows)
        }

    def __call__(self, field: str, tokens: Any, training: bool) -> Any:
        vectors, present = self._token_vectors(tokens)
        starts_at_token = tf.cast(present, vectors.dtype)[:, :, tf.newaxis]
        largest = []
        for position, window in enumerate(self._windows):
            padded = tf.pad(vectors, [[0, 0], [0, window - 1], [0, 0]])
            # Responses are at least 0 after ReLU, so a zero at padding is never the larger one.
            responses = self._filters[field, position](padded) * starts_at_token
            largest.append(tf.reduce_max(responses, axis=1))
        return tf.concat(largest, axis=1)
