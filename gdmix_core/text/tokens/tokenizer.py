"""Tokenizers, from texts to token ids, in TensorFlow operations alone, so that they live inside an exported model.

0 is padding. Of words and ids 1 is unknown, and the vocabulary follows; of word pieces see `wordpiece`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import tensorflow as tf

from gdmix_core.config.text import TextModel
from gdmix_core.text.network_inputs import NetworkInputs
from gdmix_core.text.tokens.wordpiece import WordPieceTokenizer

PADDING = 0
UNKNOWN = 1
SPECIAL = 2  # ids before the first word of the vocabulary

# Within a word an apostrophe separates nothing (don't, l'Équipe); other punctuation, symbols and kinds of blanks do.
_APOSTROPHES = r"['’ʼ]"
_SEPARATORS = r"[\pP\pS\pZ\pC]+"


class Tokenizer(Protocol):
    @property
    def table(self) -> Any:
        """The table, or tables, that must be saved with a graph that tokenizes."""

    def __call__(self, texts: Any) -> Any:
        """Map string [n] to int32 [n, T], padded with 0."""


def standardized(texts: Any, lowercase: bool) -> Any:
    """Return words between blanks: punctuation and symbols gone, and lower case, as far as Unicode has it."""
    texts = tf.strings.regex_replace(texts, _APOSTROPHES, "")
    texts = tf.strings.regex_replace(texts, _SEPARATORS, " ")
    return tf.strings.lower(texts, encoding="utf-8") if lowercase else texts


def split_words(texts: Any, lowercase: bool) -> Any:
    """Split string [n] into ragged string [n, (words)], for the tokenizer and the vocabulary from the data alike."""
    return tf.strings.split(standardized(texts, lowercase))


def split_ids(texts: Any) -> Any:
    """Split string [n] into ragged string [n, (ids)] at blanks alone."""
    return tf.strings.split(texts)


class TableTokenizer:
    """A tokenizer of whatever a vocabulary numbers: words, or ids.

    Gives what keras.layers.TextVectorization gives with the same split and vocabulary; which refuses an empty
    vocabulary, and one with [UNK] in it.
    """

    def __init__(self, vocabulary: tuple[str, ...], max_tokens: int, split: Callable[[Any], Any]) -> None:
        """split: string [n] → ragged string [n, (words)]."""
        self._max_tokens = max_tokens
        self._split = split
        # "" is not a word: it is there because a table must not be empty.
        numbers = tf.constant([PADDING, *range(SPECIAL, SPECIAL + len(vocabulary))], tf.int32)
        entries = tf.lookup.KeyValueTensorInitializer(tf.constant(("", *vocabulary), tf.string), numbers)
        self.table = tf.lookup.StaticHashTable(entries, UNKNOWN)

    def __call__(self, texts: Any) -> Any:
        return self.table.lookup(self._split(texts)).to_tensor(PADDING, shape=[None, self._max_tokens])


def word_tokenizer(vocabulary: tuple[str, ...], max_tokens: int, lowercase: bool) -> TableTokenizer:
    return TableTokenizer(vocabulary, max_tokens, lambda texts: split_words(texts, lowercase))


def id_tokenizer(vocabulary: tuple[str, ...], max_tokens: int) -> TableTokenizer:
    return TableTokenizer(vocabulary, max_tokens, split_ids)


def tokenizers(settings: TextModel, inputs: NetworkInputs) -> dict[str, Tokenizer]:
    """Make the tokenizer of every text and id field; text fields share one."""
    found: dict[str, Tokenizer] = {}
    if settings.text_fields:
        vocabulary = settings.vocabulary
        text: Tokenizer
        if vocabulary.tokenizer == "wordpiece":
            text = WordPieceTokenizer(inputs.tokens, settings.max_tokens, vocabulary.lowercase)
        else:
            text = word_tokenizer(inputs.tokens, settings.max_tokens, vocabulary.lowercase)
        found.update(dict.fromkeys(settings.text_fields, text))
    for name in settings.id_fields:
        found[name] = id_tokenizer(inputs.ids[name], settings.max_tokens)
    return found
