"""Word pieces: a word is cut greedily into the longest pieces of a vocabulary, from its start (BERT's tokenisation).

In the graph, by operations of TensorFlow alone: with tensorflow-text an exported model would load only where that is
installed.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from gdmix_core.config.text_files import check_word_pieces
from gdmix_core.text.tokens.basic_tokenization import BasicTokenizer

# Longer words are unknown; so it is in BERT's reference implementation.
LONGEST_WORD = 100
_WHOLE = 1 << 30


class WordPieceTokenizer:
    """[CLS] pieces [SEP], cut off at max_tokens; a piece within a word is in the vocabulary as ##piece.

    A token's id is its position in the vocabulary. A word that pieces cannot make up is [UNK].
    """

    def __init__(self, tokens: tuple[str, ...], max_tokens: int, lowercase: bool) -> None:
        """Raises DataError when the vocabulary lacks a special token, or does not start with [PAD]."""
        check_word_pieces(tokens)
        self._unknown, self._first, self._last = (tokens.index(special) for special in ("[UNK]", "[CLS]", "[SEP]"))
        self._room = max(0, max_tokens - 2)
        self._longest_piece = max(len(token.removeprefix("##")) for token in tokens)
        self._basic = BasicTokenizer(lowercase)
        ids = tf.range(len(tokens), dtype=tf.int32)
        entries = tf.lookup.KeyValueTensorInitializer(tf.constant(tokens, tf.string), ids)
        self._pieces = tf.lookup.StaticHashTable(entries, -1)
        self._traced = tf.function(self._tokenize, input_signature=[tf.TensorSpec([None], tf.string)])

    @property
    def table(self) -> Any:
        return [self._pieces, *([self._basic.table] if hasattr(self._basic, "table") else [])]

    def __call__(self, texts: Any) -> Any:
        return self._traced(texts)

    def _tokenize(self, texts: Any) -> Any:
        words = self._basic(texts)
        # Most words of a corpus are repetitions.
        distinct, occurrence = tf.unique(words.flat_values)
        pieces_of_words = tf.gather(self._pieces_of(distinct), occurrence)
        pieces = words.with_values(pieces_of_words).merge_dims(1, 2)[:, : self._room]
        edge = tf.ones([tf.shape(texts)[0], 1], tf.int32)
        return tf.concat([edge * self._first, pieces, edge * self._last], axis=1).to_tensor(0)

    def _pieces_of(self, words: Any) -> Any:
        """Cut string [W], none empty, into ragged int32 [W, (pieces)]."""
        number = tf.shape(words)[0]
        too_long = tf.strings.length(words, unit="UTF8_CHAR") > LONGEST_WORD

        def unfinished(rest: Any, failed: Any, pieces: Any) -> Any:
            return tf.reduce_any((rest != "") & ~failed)

        def match(rest: Any, failed: Any, pieces: Any) -> Any:
            """Match the next piece of every unfinished word; pieces [W, steps so far], -1 where a word had ended."""
            active = tf.where((rest != "") & ~failed)
            texts = tf.gather_nd(rest, active)
            within = tf.shape(pieces)[1] > 0
            piece, length = self._longest_match(texts, tf.where(within, "##", ""))
            found = length > 0
            failed = tf.tensor_scatter_nd_update(failed, active, ~found)
            rest = tf.tensor_scatter_nd_update(
                rest, active, tf.strings.substr(texts, length, tf.fill(tf.shape(length), _WHOLE), unit="UTF8_CHAR")
            )
            step = tf.tensor_scatter_nd_update(tf.fill([number], -1), active, piece)
            return rest, failed, tf.concat([pieces, step[:, tf.newaxis]], axis=1)

        shapes = (tf.TensorShape([None]), tf.TensorShape([None]), tf.TensorShape([None, None]))
        start = (words, too_long, tf.zeros([number, 0], tf.int32))
        _, failed, pieces = tf.while_loop(unfinished, match, start, shape_invariants=shapes)
        # A word that failed is [UNK] alone, whatever was found of it before.
        pieces = tf.where(failed[:, tf.newaxis], -1, pieces)
        pieces = tf.concat([tf.where(failed, self._unknown, -1)[:, tf.newaxis], pieces], axis=1)
        there = pieces >= 0
        lengths = tf.math.count_nonzero(there, axis=1)
        return tf.RaggedTensor.from_row_lengths(tf.boolean_mask(pieces, there), lengths)

    def _longest_match(self, texts: Any, prefix: Any) -> tuple[Any, Any]:
        """Find (id, characters) int32 [R] of the longest piece that texts [R] start with; without one 0 characters."""
        longest = tf.minimum(tf.reduce_max(tf.strings.length(texts, unit="UTF8_CHAR")), self._longest_piece)
        lengths = tf.range(1, longest + 1)
        shape = [tf.shape(texts)[0], longest]
        starts = tf.strings.substr(
            tf.broadcast_to(texts[:, tf.newaxis], shape),
            tf.zeros(shape, tf.int32),
            tf.broadcast_to(lengths, shape),
            unit="UTF8_CHAR",
        )
        ids = self._pieces.lookup(prefix + starts)
        # Lengths beyond the end of a text give the whole text again.
        matched = tf.minimum(tf.where(ids >= 0, lengths, 0), tf.strings.length(texts, unit="UTF8_CHAR")[:, tf.newaxis])
        best = tf.argmax(matched, axis=1)
        return tf.gather(ids, best, axis=1, batch_dims=1), tf.reduce_max(matched, axis=1)
