"""The vocabulary of a text network: counted in the training data, or read from a file."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf
from numpy.typing import NDArray

from gdmix_core import storage
from gdmix_core.errors import DataError
from gdmix_core.text.tokenizer import split_ids, split_words
from gdmix_core.text_config import TextModel, TransformerEncoder, Vocabulary


class TokenCounter:
    """Counts the words of texts, or the ids of an id field; block by block.

    settings: how words are split, and how many are kept. Ids are all kept, and split at blanks alone.
    """

    def __init__(self, settings: Vocabulary, ids: bool = False) -> None:
        self._settings = settings
        self._ids = ids
        self._counted = pa.table({"token": pa.array([], pa.binary()), "count": pa.array([], pa.int64())})

    def add(self, texts: list[str] | pa.Array, counts: NDArray[np.int64]) -> None:
        """texts: distinct ones, or not; counts: int64 [len(texts)], how many rows have each."""
        array = pc.fill_null(pa.array(texts, pa.string()), "")
        strings = tf.constant(array.to_numpy(zero_copy_only=False), tf.string)
        words = split_ids(strings) if self._ids else split_words(strings, self._settings.lowercase)
        rows = np.repeat(np.asarray(counts, np.int64), words.row_lengths().numpy())
        new = pa.table({"token": pa.array(words.flat_values.numpy(), pa.binary()), "count": rows})
        counted = pa.concat_tables([self._counted, new]).group_by("token").aggregate([("count", "sum")])
        self._counted = counted.select(["token", "count_sum"]).rename_columns(["token", "count"])

    def tokens(self) -> tuple[str, ...]:
        """The most frequent first; those as frequent in the order of their text."""
        found = self._counted
        if not self._ids:
            found = found.filter(pc.greater_equal(found["count"], self._settings.min_count))
        found = found.sort_by([("count", "descending"), ("token", "ascending")])
        if not self._ids:
            found = found.slice(0, self._settings.size)
        return tuple(found["token"].cast(pa.string()).to_pylist())


def read_vocabulary(path: str) -> tuple[str, ...]:
    """The tokens of a file, one a line. Raises DataError when it is missing, empty, not UTF-8, or has a token twice."""
    with storage.open_for_read(path) as file:
        content = file.read()
    try:
        lines = [line.removesuffix("\r") for line in content.decode("utf-8").removesuffix("\n").split("\n")]
    except UnicodeDecodeError as error:
        raise DataError(f"vocabulary {path}: not UTF-8 ({error}); save it as UTF-8, one token a line") from None
    if lines == [""]:
        raise DataError(f"vocabulary {path} is empty; it must hold one token a line")
    first_line: dict[str, int] = {}
    for number, token in enumerate(lines, 1):
        if not token:
            raise DataError(f"vocabulary {path}: line {number} is empty; take it out")
        if first_line.setdefault(token, number) != number:
            raise DataError(f"vocabulary {path}: {token!r} stands in lines {first_line[token]} and {number}; keep one")
    return tuple(lines)


def given_tokens(settings: TextModel) -> tuple[str, ...] | None:
    """The vocabulary of text fields that comes from a file or a pretrained encoder's folder; None: count the data's."""
    if settings.vocabulary.file is not None:
        return read_vocabulary(settings.vocabulary.file)
    encoder = settings.encoder
    if isinstance(encoder, TransformerEncoder) and encoder.path is not None:
        return read_vocabulary(storage.join(encoder.path, "vocab.txt"))
    return None
