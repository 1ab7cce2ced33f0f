"""A transformer encoder of BERT's shape (Devlin et al., 2019): normalisation after each sum, positions learned."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

from gdmix_core.config.bert_shape import TransformerShape
from gdmix_core.text.tokens.tokenizer import PADDING
from gdmix_core.text.weights import Weights, dropped


class TransformerTextEncoder:
    """Weights: encoder/tokens, encoder/positions, encoder/normalization, and encoder/LAYER/PART."""

    def __init__(
        self, shape: TransformerShape, dropout: float, pooling: str, weights: Weights, first_token: int | None = None
    ) -> None:
        """first_token: id that is put before every text, for tokenizers that put no [CLS] there."""
        self.width = shape.width
        self._shape = shape
        self._dropout = dropout
        self._pooling = pooling
        self._weights = weights
        self._first_token = first_token
        normal = weights.normal("encoder/tokens", 0.02)
        self._tokens = weights.variable("encoder/tokens", [shape.tokens, shape.width], normal)
        normal = weights.normal("encoder/positions", 0.02)
        self._positions = weights.variable("encoder/positions", [shape.positions, shape.width], normal)
        self._normalization = self._normalizing("encoder/normalization")
        self._layers = [self._layer(f"encoder/{number}") for number in range(shape.layers)]

    def _layer(self, name: str) -> dict[str, Any]:
        width, inner = self._shape.width, self._shape.feed_forward

        def dense(part: str, inputs: int, outputs: int, activation: str | None = None) -> Any:
            initial = self._weights.normal(f"{name}/{part}", 0.02)
            return self._weights.dense(f"{name}/{part}", inputs, outputs, activation, kernel_initializer=initial)

        return {
            "query": dense("query", width, width),
            "key": dense("key", width, width),
            "value": dense("value", width, width),
            "attended": dense("attended", width, width),
            "attended_normalization": self._normalizing(f"{name}/attended_normalization"),
            "inner": dense("inner", width, inner, self._shape.activation),
            "outer": dense("outer", inner, width),
            "outer_normalization": self._normalizing(f"{name}/outer_normalization"),
        }

    def _normalizing(self, name: str) -> Any:
        layer = keras.layers.LayerNormalization(epsilon=self._shape.epsilon, dtype=self._weights.policy)
        return self._weights.layer(name, layer, (None, None, self._shape.width))

    def __call__(self, field: str, tokens: Any, training: bool) -> Any:
        if self._first_token is not None:
            tokens = tf.pad(tokens, [[0, 0], [1, 0]], constant_values=self._first_token)
        present = tf.not_equal(tokens, PADDING)
        length = tf.shape(tokens)[1]
        values = tf.gather(self._tokens.value, tokens) + self._positions.value[:length]
        values = self._drop(self._normalization(values), f"{field}/tokens", training)
        for number, layer in enumerate(self._layers):
            place = f"{field}/{number}"
            attended = layer["attended"](self._attention(layer, values, present, place, training))
            attended = self._drop(attended, f"{place}/attended", training)
            values = layer["attended_normalization"](values + attended)
            outer = self._drop(layer["outer"](layer["inner"](values)), f"{place}/outer", training)
            values = layer["outer_normalization"](values + outer)
        return pooled(values, present, self._pooling)

    def _attention(self, layer: dict[str, Any], values: Any, present: Any, place: str, training: bool) -> Any:
        """Return [U, T, width]: every token's mean of the values of all that are present, of each head."""
        size = self._shape.width // self._shape.heads
        shape = tf.concat([tf.shape(values)[:2], [self._shape.heads, size]], axis=0)
        query, key, value = (tf.reshape(layer[part](values), shape) for part in ("query", "key", "value"))
        agreement = tf.cast(tf.einsum("uqhs,ukhs->uhqk", query, key), tf.float32) / math.sqrt(size)
        agreement = tf.where(present[:, tf.newaxis, tf.newaxis, :], agreement, tf.float32.min)
        shares = self._drop(tf.nn.softmax(agreement), f"{place}/shares", training)
        mean = tf.einsum("uhqk,ukhs->uqhs", tf.cast(shares, value.dtype), value)
        return tf.reshape(mean, tf.shape(values))

    def _drop(self, values: Any, place: str, training: bool) -> Any:
        return dropped(values, self._dropout, self._weights.seed_of(f"encoder/{place}"), training)


def pooled(vectors: Any, present: Any, pooling: str) -> Any:
    """Pool [U, T, d], bool [U, T] → [U, d]: the first token's vector, or the mean of those that are present."""
    if pooling == "first":
        return vectors[:, 0]
    weights = tf.cast(present, vectors.dtype)[:, :, tf.newaxis]
    return tf.reduce_sum(vectors * weights, axis=1) / tf.maximum(tf.reduce_sum(weights, axis=1), 1)
