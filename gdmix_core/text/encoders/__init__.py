"""Encoders of text fields: token ids to vectors. `encoder_of` gives the one of the settings."""

from __future__ import annotations

from typing import Any, Protocol

from gdmix_core.config.bert_shape import TransformerShape, read_bert_shape
from gdmix_core.config.text import CnnEncoder, RecurrentEncoder, TextModel, TransformerEncoder
from gdmix_core.config.text_files import check_reads_word_pieces, is_keras_folder
from gdmix_core.text.encoders.bert_folder import load_bert_weights
from gdmix_core.text.encoders.convolution import CnnTextEncoder
from gdmix_core.text.encoders.keras_folder import KerasTextEncoder
from gdmix_core.text.encoders.recurrent import RecurrentTextEncoder
from gdmix_core.text.encoders.token_vectors import token_ids
from gdmix_core.text.encoders.transformer import TransformerTextEncoder
from gdmix_core.text.network_inputs import NetworkInputs
from gdmix_core.text.weights import Weights


class TextEncoder(Protocol):
    width: int

    def __call__(self, field: str, tokens: Any, training: bool) -> Any:
        """Encode int32 [U, T], 0 is padding, at the end → [U, width]; does not depend on the amount of padding."""


def encoder_of(settings: TextModel, inputs: NetworkInputs, weights: Weights) -> TextEncoder:
    """Make the encoder of the settings. All its weights have names that start with encoder/."""
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
    if is_keras_folder(encoder.path):
        return KerasTextEncoder(encoder.path, ids, settings.max_tokens, encoder.pooling, weights)
    check_reads_word_pieces(encoder.path, settings.vocabulary)
    lowercase = settings.vocabulary.lowercase
    shape = read_bert_shape(encoder.path, len(inputs.tokens), settings.max_tokens, lowercase)
    transformer = TransformerTextEncoder(shape, encoder.dropout, encoder.pooling, weights)
    load_bert_weights(encoder.path, shape, weights)
    return transformer
