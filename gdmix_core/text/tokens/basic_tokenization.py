"""BERT's split of a text into words and single marks of punctuation, before word pieces are matched.

Devlin et al., "BERT", 2019: control characters go, Chinese characters and punctuation stand alone, and with lowercase
also accents go. In TensorFlow operations, which know no Unicode normalisation: a table of the characters that have one
takes its place.
"""

from __future__ import annotations

import functools
import unicodedata
from typing import Any

import tensorflow as tf

_BLANKS = r"[\t\n\r\p{Zs}]"
_CONTROLS = r"[\pC\x{FFFD}]"
# Unicode's punctuation, and what else of ASCII is neither letter, digit nor blank.
_MARKS = r"([\pP$+<=>^`|~])"
_CHINESE = (
    r"([\x{4E00}-\x{9FFF}\x{3400}-\x{4DBF}\x{20000}-\x{2A6DF}\x{2A700}-\x{2B73F}\x{2B740}-\x{2B81F}"
    r"\x{2B820}-\x{2CEAF}\x{F900}-\x{FAFF}\x{2F800}-\x{2FA1F}])"
)
_ACCENTS = r"\p{Mn}"
# No character beyond has a canonical decomposition.
_LAST_DECOMPOSED = 0x2FA1D
_ASCII_ALONE = r"[\x00-\x7F]*"


class BasicTokenizer:
    """`lowercase` also strips accents, as BERT's uncased models have it."""

    def __init__(self, lowercase: bool) -> None:
        self._lowercase = lowercase
        if lowercase:
            characters, without_accents = _decompositions()
            entries = tf.lookup.KeyValueTensorInitializer(tf.constant(characters), tf.constant(without_accents))
            # "" means: not in the table. Accents alone, whose decomposition is empty, go by the expression above.
            self.table = tf.lookup.StaticHashTable(entries, "")

    def __call__(self, texts: Any) -> Any:
        """Split string [n] into ragged string [n, (words)]. What is not UTF-8 is left out."""
        texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
        texts = tf.strings.regex_replace(texts, _BLANKS, " ")
        texts = tf.strings.regex_replace(texts, _CONTROLS, "")
        texts = tf.strings.regex_replace(texts, _CHINESE, r" \1 ")
        if self._lowercase:
            texts = self._without_accents(tf.strings.lower(texts, encoding="utf-8"))
        return tf.strings.split(tf.strings.regex_replace(texts, _MARKS, r" \1 "))

    def _without_accents(self, texts: Any) -> Any:
        foreign = tf.where(tf.logical_not(tf.strings.regex_full_match(texts, _ASCII_ALONE)))[:, 0]
        characters = tf.strings.unicode_split(tf.gather(texts, foreign), "UTF-8")
        replacements = self.table.lookup(characters)
        flat = tf.where(replacements.flat_values == "", characters.flat_values, replacements.flat_values)
        joined = tf.strings.reduce_join(characters.with_flat_values(flat), axis=1)
        stripped = tf.strings.regex_replace(joined, _ACCENTS, "")
        return tf.tensor_scatter_nd_update(texts, foreign[:, tf.newaxis], stripped)


@functools.cache
def _decompositions() -> tuple[list[str], list[str]]:
    """List every character with a canonical decomposition (NFD), and that decomposition without its accents."""
    pairs = [
        (character, "".join(part for part in decomposed if unicodedata.category(part) != "Mn"))
        for character in map(chr, range(0x80, _LAST_DECOMPOSED + 1))
        if (decomposed := unicodedata.normalize("NFD", character)) != character
    ]
    characters, bare = zip(*((character, text) for character, text in pairs if text), strict=True)
    return list(characters), list(bare)
