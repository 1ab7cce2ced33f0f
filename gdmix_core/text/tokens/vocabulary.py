"""The vocabulary of a text network: counted in the training data, or read from a file."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf
from numpy.typing import NDArray

from gdmix_core.config.text import TextModel, Vocabulary
from gdmix_core.config.text_files import read_vocabulary, vocabulary_path
from gdmix_core.text.tokens.tokenizer import split_ids, split_words


class TokenCounter:
    """Counts the words of texts, or the ids of an id field; block by block.

    settings: how words are split, and how many are kept. Ids are all kept, and split at blanks alone.
    """

    def __init__(self, settings: Vocabulary, ids: bool = False) -> None:
        self._settings = settings
        self._ids = ids
        self._counted = pa.table({"token": pa.array([], pa.binary()), "count": pa.array([], pa.int64())})

    def add(self, texts: list[str] | pa.Array, counts: NDArray[np.int64]) -> None:
        """Count texts, distinct or not. counts: int64 [len(texts)], how many rows have each."""
        array = pc.fill_null(pa.array(texts, pa.string()), "")
        strings = tf.constant(array.to_numpy(zero_copy_only=False), tf.string)
        words = split_ids(strings) if self._ids else split_words(strings, self._settings.lowercase)
        rows = np.repeat(np.asarray(counts, np.int64), words.row_lengths().numpy())
        new = pa.table({"token": pa.array(words.flat_values.numpy(), pa.binary()), "count": rows})
        counted = pa.concat_tables([self._counted, new]).group_by("token").aggregate([("count", "sum")])
        self._counted = counted.select(["token", "count_sum"]).rename_columns(["token", "count"])

    def tokens(self) -> tuple[str, ...]:
        """Return the tokens, the most frequent first; those as frequent in the order of their text."""
        found = self._counted
        if not self._ids:
            found = found.filter(pc.greater_equal(found["count"], self._settings.min_count))
        found = found.sort_by([("count", "descending"), ("token", "ascending")])
        if not self._ids:
            found = found.slice(0, self._settings.size)
        return tuple(found["token"].cast(pa.string()).to_pylist())


def given_tokens(settings: TextModel) -> tuple[str, ...] | None:
    """Read the vocabulary of text fields from a file or a pretrained encoder's folder; None: count the data's."""
    path = vocabulary_path(settings)
    return None if path is None else read_vocabulary(path)
