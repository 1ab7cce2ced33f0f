"""From texts to token ids, in TensorFlow operations alone, so that it lives inside an exported model.

0 is padding. Of words and ids 1 is unknown, and the vocabulary follows; of word pieces see `wordpiece`.
"""

from __future__ import annotations

from typing import Any, Protocol

import keras
import tensorflow as tf

from gdmix_core.text.network_inputs import NetworkInputs
from gdmix_core.text.wordpiece import WordPieceTokenizer
from gdmix_core.text_config import TextModel

PADDING = 0
UNKNOWN = 1
SPECIAL = 2  # ids before the first word of the vocabulary

# Within a word an apostrophe separates nothing (don't, l'Équipe); other punctuation, symbols and kinds of blanks do.
_APOSTROPHES = r"['’ʼ]"
_SEPARATORS = r"[\pP\pS\pZ\pC]+"


class Tokenizer(Protocol):
    @property
    def table(self) -> Any:
        """What must be saved with a graph that tokenizes."""

    def __call__(self, texts: Any) -> Any:
        """string [n] → int32 [n, T], padded with 0."""


def standardized(texts: Any, lowercase: bool) -> Any:
    """Strings of words between blanks: punctuation and symbols gone, and lower case, as far as Unicode has it."""
    texts = tf.strings.regex_replace(texts, _APOSTROPHES, "")
    texts = tf.strings.regex_replace(texts, _SEPARATORS, " ")
    return tf.strings.lower(texts, encoding="utf-8") if lowercase else texts


def split_words(texts: Any, lowercase: bool) -> Any:
    """string [n] → ragged string [n, (words)]; what both the tokenizer and the vocabulary from the data see."""
    return tf.strings.split(standardized(texts, lowercase))


def split_ids(texts: Any) -> Any:
    """string [n] → ragged string [n, (ids)]: what stands between blanks, as it is."""
    return tf.strings.split(texts)


class WordTokenizer:
    """Words of a vocabulary, by keras.layers.TextVectorization."""

    def __init__(self, tokens: tuple[str, ...], max_tokens: int, lowercase: bool) -> None:
        self.layer = keras.layers.TextVectorization(
            standardize=lambda texts: standardized(texts, lowercase),
            output_sequence_length=max_tokens,
            vocabulary=list(tokens) or None,
        )
        if not tokens:
            self.layer.set_vocabulary([])

    @property
    def table(self) -> Any:
        return self.layer

    def __call__(self, texts: Any) -> Any:
        return tf.cast(self.layer(texts), tf.int32)


class IdTokenizer:
    """Ids between blanks, never lower-cased."""

    def __init__(self, ids: tuple[str, ...], max_tokens: int) -> None:
        self._max_tokens = max_tokens
        numbers = tf.range(SPECIAL, SPECIAL + len(ids), dtype=tf.int32)
        entries = tf.lookup.KeyValueTensorInitializer(tf.constant(ids, tf.string), numbers)
        self.table = tf.lookup.StaticHashTable(entries, UNKNOWN)

    def __call__(self, texts: Any) -> Any:
        return self.table.lookup(split_ids(texts)).to_tensor(PADDING, shape=[None, self._max_tokens])


def tokenizers(settings: TextModel, inputs: NetworkInputs) -> dict[str, Tokenizer]:
    """The tokenizer of every text and id field; text fields share one."""
    found: dict[str, Tokenizer] = {}
    if settings.text_fields:
        vocabulary = settings.vocabulary
        text: Tokenizer
        if vocabulary.tokenizer == "wordpiece":
            text = WordPieceTokenizer(inputs.tokens, settings.max_tokens, vocabulary.lowercase)
        else:
            text = WordTokenizer(inputs.tokens, settings.max_tokens, vocabulary.lowercase)
        found.update(dict.fromkeys(settings.text_fields, text))
    for name in settings.id_fields:
        found[name] = IdTokenizer(inputs.ids[name], settings.max_tokens)
    return found
