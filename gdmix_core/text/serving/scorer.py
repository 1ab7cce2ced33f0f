"""Scores of rows by a SavedModel that `write_saved_model` wrote."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf
from numpy.typing import NDArray

from gdmix_core import storage
from gdmix_core.config.text import TextModel
from gdmix_core.data.ragged import Bag
from gdmix_core.errors import DataError
from gdmix_core.text.serving.signature_columns import SignatureColumns

# Rows, and distinct texts, the network sees at a time; what it holds of them is this times some thousand numbers.
CHUNK = 4096


def open_network(folder: str, settings: TextModel) -> SavedModelScorer:
    """Load the SavedModel of a folder, a path or URL. Raises DataError when it is none, or of other fields or bags."""
    scorer = SavedModelScorer(folder)
    of_model = {*scorer.columns.fields, *scorer.columns.features}
    of_settings = {*settings.fields, *settings.bags}
    if of_model != of_settings:
        name = sorted(of_model ^ of_settings)[0]
        where = "the model reads" if name in of_model else "the configuration names"
        raise DataError(f"{folder}: {where} {name}, which the other does not; export the model again")
    return scorer


class SavedModelScorer:
    """Reads the model once; `score` is then called block by block."""

    def __init__(self, folder: str) -> None:
        """folder: path or URL. Raises DataError when there is no model of this package."""
        self._folder = folder
        with storage.local_copy(folder) as local:
            try:
                self._model = tf.saved_model.load(local)
                self.columns = SignatureColumns(**storage.read_json(self._model.columns.asset_path.numpy().decode()))
                self._embeddings = self._model.signatures["embeddings"]
                self._score_rows = self._model.score_rows
            except (OSError, KeyError, AttributeError) as error:
                raise DataError(f"{folder}: no SavedModel of a text network ({error}); train the model again") from None

    def score(self, texts: dict[str, pa.Array], bags: dict[str, Bag], rows: int) -> NDArray[np.float32]:
        """Return float32 [rows], or of classes their logits [rows, K].

        texts: a string array (or dictionary of strings, or integers) of rows for every text and id field; null is "".
        bags:  of every dense and sparse bag of the network. Each distinct text is encoded once.
        """
        columns = self.columns
        missing = [name for name in (*columns.fields, *columns.features) if name not in texts | bags]
        if missing:
            raise DataError(f"{self._folder}: the model needs {missing[0]}, which the rows to score lack")
        distinct = {field: pc.dictionary_encode(_strings(texts[field])) for field in columns.fields}
        vectors = self._vectors({field: array.dictionary for field, array in distinct.items()})
        rows_of = {field: array.indices.to_numpy(zero_copy_only=False) for field, array in distinct.items()}
        parts = []
        for first in range(0, rows, CHUNK):
            last = min(first + CHUNK, rows)
            batch = {f"vectors/{field}": values for field, values in vectors.items()}
            batch |= {f"rows/{field}": codes[first:last].astype(np.int32) for field, codes in rows_of.items()}
            for bag in columns.dense:
                batch[f"dense/{bag}"] = dense_rows(bags[bag].between(first, last), columns.features[bag])
            for bag in columns.sparse:
                batch |= sparse_entries(bag, bags[bag].between(first, last))
            tensors = {name: tf.convert_to_tensor(value) for name, value in batch.items()}
            parts.append(self._score_rows(tensors).numpy())
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def _vectors(self, texts: dict[str, pa.Array]) -> dict[str, Any]:
        """Return float32 [U, units] of the distinct texts of each field."""
        longest = max((len(array) for array in texts.values()), default=0)
        parts: dict[str, list[Any]] = {field: [] for field in texts}
        for first in range(0, max(longest, 1), CHUNK):
            chunk = {}
            for field, array in texts.items():
                strings = array.slice(first, CHUNK).to_numpy(zero_copy_only=False)
                chunk[self.columns.fields[field]] = tf.constant(strings, tf.string)
            values = self._embeddings(**chunk)
            for field, name in self.columns.fields.items():
                parts[field].append(values[name])
        return {field: tf.concat(values, axis=0) for field, values in parts.items()}


def dense_rows(bag: Bag, features: int) -> NDArray[np.float32]:
    """Return float32 [rows, features]: the rows of a bag; entries of the same feature are added up."""
    matrix = np.zeros((len(bag), features), np.float32)
    np.add.at(matrix, (bag.entry_rows, bag.indices), bag.values.astype(np.float32, copy=False))
    return matrix


def sparse_entries(name: str, bag: Bag) -> dict[str, Any]:
    """Return the tensors of a sparse bag in a batch of the network."""
    return {
        f"indices/{name}": bag.indices.astype(np.int32, copy=False),
        f"values/{name}": bag.values.astype(np.float32, copy=False),
        f"entry_rows/{name}": bag.entry_rows,
    }


def _strings(array: pa.Array) -> pa.Array:
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    return pc.fill_null(array.cast(pa.string()), "")
