"""Vectors of tokens, the first layer of the convolutional and the recurrent encoder; and how many ids there are."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from gdmix_core.config.text import TextModel
from gdmix_core.text.network_inputs import NetworkInputs
from gdmix_core.text.tokens.tokenizer import PADDING, SPECIAL
from gdmix_core.text.weights import Weights


def token_ids(settings: TextModel, inputs: NetworkInputs) -> int:
    """Return the number of ids the text tokenizer gives."""
    return len(inputs.tokens) + (0 if settings.vocabulary.tokenizer == "wordpiece" else SPECIAL)


class TokenVectors:
    """One table for all fields."""

    def __init__(self, settings: TextModel, inputs: NetworkInputs, weights: Weights) -> None:
        self._dtype = weights.compute_dtype
        self._table = weights.embedding("encoder/tokens", token_ids(settings, inputs), settings.embedding)

    def __call__(self, tokens: Any) -> tuple[Any, Any]:
        """Look up int32 [U, T] → ([U, T, embedding], zero at padding; bool [U, T], where there is a token)."""
        present = tf.not_equal(tokens, PADDING)
        # The variable itself rather than its value: only the rows asked for are read, also from a parameter server.
        vectors = tf.cast(tf.gather(self._table.value, tokens), self._dtype)
        return vectors * tf.cast(present, self._dtype)[:, :, tf.newaxis], present
