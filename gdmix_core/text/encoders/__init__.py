"""Encoders of text fields: token ids to vectors. `encoder_of` gives the one of the settings."""

from __future__ import annotations

import os
from typing import Any, Protocol

from gdmix_core.errors import ConfigError
from gdmix_core.text.encoders.bert_folder import load_bert_weights, read_bert_shape
from gdmix_core.text.encoders.convolution import CnnTextEncoder
from gdmix_core.text.encoders.keras_folder import FILE as KERAS_FILE
from gdmix_core.text.encoders.keras_folder import KerasTextEncoder
from gdmix_core.text.encoders.recurrent import RecurrentTextEncoder
from gdmix_core.text.encoders.token_vectors import token_ids
from gdmix_core.text.encoders.transformer import TransformerShape, TransformerTextEncoder
from gdmix_core.text.network_inputs import NetworkInputs
from gdmix_core.text.weights import Weights
from gdmix_core.text_config import CnnEncoder, RecurrentEncoder, TextModel, TransformerEncoder


class TextEncoder(Protocol):
    width: int

    def __call__(self, field: str, tokens: Any, training: bool) -> Any:
        """int32 [U, T], 0 is padding, at the end → [U, width]; does not depend on the amount of padding."""


def encoder_of(settings: TextModel, inputs: NetworkInputs, weights: Weights) -> TextEncoder:
    """All its weights have names that start with encoder/."""
    if isinstance(settings.encoder, CnnEncoder):
        return CnnTextEncoder(settings.encoder, settings, inputs, weights)
    if isinstance(settings.encoder, RecurrentEncoder):
        return RecurrentTextEncoder(settings.encoder, settings, inputs, weights)
    return _transformer(settings.encoder, settings, inputs, weights)


def _transformer(
    encoder: TransformerEncoder, settings: TextModel, inputs: NetworkInputs, weights: Weights
) -> TextEncoder:
    words = settings.vocabulary.tokenizer == "words"
    ids = token_ids(settings, inputs)
    if encoder.path is None:
        # Word pieces come with [CLS]; before words another id is put, beyond those of the words.
        shape = TransformerShape(
            tokens=ids + words,
            positions=settings.max_tokens + words,
            layers=encoder.layers,
            heads=encoder.heads,
            width=encoder.width,
            feed_forward=encoder.feed_forward,
        )
        return TransformerTextEncoder(shape, encoder.dropout, encoder.pooling, weights, ids if words else None)
    if os.path.exists(os.path.join(encoder.path, KERAS_FILE)):
        return KerasTextEncoder(encoder.path, ids, settings.max_tokens, encoder.pooling, weights)
    if words:
        raise ConfigError("encoder.path is a BERT model, which reads word pieces: set vocabulary.tokenizer: wordpiece")
    lowercase = settings.vocabulary.lowercase
    shape = read_bert_shape(encoder.path, len(inputs.tokens), settings.max_tokens, lowercase)
    transformer = TransformerTextEncoder(shape, encoder.dropout, encoder.pooling, weights)
    load_bert_weights(encoder.path, shape, weights)
    return transformer
