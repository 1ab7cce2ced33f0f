"""The text network: fields to vectors, vectors and wide features to scores.

text field → tokens → encoder → Dense(units, tanh) ┐
id field → embedding, mean → Dense(units)          ┴→ interactions of user and document vectors ┐
dense bags → tanh(w x + b), sparse bags → embedding, summed                                     ┴→ hidden → Dense ┐
                                                                                dense and sparse bags, linearly ┴→ score
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import tensorflow as tf

from gdmix_core.config.text import TextModel
from gdmix_core.text.encoders import encoder_of
from gdmix_core.text.network.interactions import interaction_vector, interaction_width
from gdmix_core.text.network.wide_features import WideFeatures
from gdmix_core.text.network_inputs import NetworkInputs
from gdmix_core.text.tokens.tokenizer import PADDING, SPECIAL, Tokenizer, tokenizers
from gdmix_core.text.weights import Weights, dropped


class TextNetwork:
    """All weights exist once it is constructed; construct it in the scope of a strategy to distribute them."""

    def __init__(self, settings: TextModel, inputs: NetworkInputs, portable: bool = False) -> None:
        """portable: without operations that only a GPU has, though there is one here; for export."""
        self.settings = settings
        self.inputs = inputs
        self.weights = weights = Weights(settings, portable)
        units = settings.units
        if settings.text_fields:
            self._encoder = encoder_of(settings, inputs, weights)
        self._id_tables = {
            field: weights.embedding(f"ids/{field}", SPECIAL + len(inputs.ids[field]), settings.id_embedding)
            for field in settings.id_fields
        }
        self._projections = {
            field: weights.dense(f"field/{field}", self._encoder.width, units, "tanh") for field in settings.text_fields
        } | {field: weights.dense(f"field/{field}", settings.id_embedding, units) for field in settings.id_fields}
        self._sides: list[tuple[tuple[str, ...], Any]] = []
        for side, fields in [("user", settings.user_fields), ("document", settings.document_fields)]:
            combined = settings.combine_fields and len(fields) > 1
            layer = weights.dense(f"combined/{side}", units * len(fields), units, "tanh") if combined else None
            self._sides.append((fields, layer))
        users, documents = (1 if layer else len(fields) for fields, layer in self._sides)
        self._wide = WideFeatures(settings, inputs, weights)
        width = interaction_width(settings.interactions, users, documents, units) + self._wide.width
        self._hidden = []
        for number, size in enumerate(settings.hidden):
            self._hidden.append(weights.dense(f"hidden/{number}", width, size, settings.activation))
            width = size
        self._output = weights.dense("output", width, inputs.outputs, dtype="float32")

    def tokenize(self, field: str, texts: Any) -> Any:
        """Map string [n] to int32 [n, T], padded with 0. Do not call first in a strategy's scope or a tf.function."""
        return self.tokenizers[field](texts)

    @cached_property
    def tokenizers(self) -> dict[str, Tokenizer]:
        """The tokenizer of every text and id field."""
        return tokenizers(self.settings, self.inputs)

    def __call__(self, batch: dict[str, Any], training: Any) -> Any:
        """Return scores float32 [B], or of classes [B, K], of a batch as `batch_spec` describes it.

        training: False, or the number of the step, on which the random numbers of dropout depend
        """
        vectors = {
            field: tf.gather(self.encode(field, batch[f"tokens/{field}"], training), batch[f"rows/{field}"])
            for field in self.settings.fields
        }
        return self.score(vectors, batch, training)

    def encode(self, field: str, tokens: Any, training: bool) -> Any:
        """Return vectors float32 [U, units] of distinct texts or id lists, int32 [U, T]."""
        number = tf.shape(tokens)[0]
        tokens = _one_row_at_least(tokens)
        if field in self._id_tables:
            encoded = _mean_of_present(self._id_tables[field], tokens)
        else:
            encoded = self._encoder(field, _without_common_padding(tokens), training)
        return tf.cast(self._projections[field](encoded), tf.float32)[:number]

    def score(self, vectors: dict[str, Any], batch: dict[str, Any], training: bool) -> Any:
        """Return scores from the vectors of each field, float32 [B, units], and the wide features of the batch."""
        settings = self.settings
        rows = tf.shape(vectors[settings.fields[0]])[0]
        vectors = {field: _one_row_at_least(values) for field, values in vectors.items()}
        users, documents = (self._side(vectors, fields, layer) for fields, layer in self._sides)
        wide = [_one_row_at_least(values) for values in self._wide.vectors(batch, rows)]
        values = tf.concat([interaction_vector(settings.interactions, users, documents), *wide], axis=1)
        for number, layer in enumerate(self._hidden):
            seed = self.weights.seed_of(f"hidden/{number}/dropout")
            values = dropped(layer(values), settings.dropout, seed, training)
        scores = self._output(tf.cast(values, tf.float32))[:rows]
        scores = tf.add_n([scores, *self._wide.linear_scores(batch, rows)])
        return scores[:, 0] if self.inputs.outputs == 1 else scores

    def _side(self, vectors: dict[str, Any], fields: tuple[str, ...], combined: Any) -> list[Any]:
        of_fields = [vectors[field] for field in fields]
        return [tf.cast(combined(tf.concat(of_fields, axis=1)), tf.float32)] if combined else of_fields

    def batch_spec(self) -> dict[str, Any]:
        """Return the TensorSpec of every tensor of a batch; U, B, T and E differ from batch to batch.

        tokens/FIELD int32 [U, T]: token ids of distinct texts; rows/FIELD int32 [B]: which of them each row has.
        dense/BAG float32 [B, n]. indices/BAG, values/BAG, entry_rows/BAG [E]: the entries of a sparse bag, each with
        its row.
        """
        spec = {}
        for field in self.settings.fields:
            spec[f"tokens/{field}"] = tf.TensorSpec([None, None], tf.int32)
            spec[f"rows/{field}"] = tf.TensorSpec([None], tf.int32)
        return spec | self.wide_spec()

    def wide_spec(self) -> dict[str, Any]:
        spec = {}
        for bag in self.settings.dense:
            spec[f"dense/{bag}"] = tf.TensorSpec([None, self.inputs.bags[bag]], tf.float32)
        for bag in self.settings.sparse:
            spec[f"indices/{bag}"] = tf.TensorSpec([None], tf.int32)
            spec[f"values/{bag}"] = tf.TensorSpec([None], tf.float32)
            spec[f"entry_rows/{bag}"] = tf.TensorSpec([None], tf.int32)
        return spec

    @property
    def encoder_variables(self) -> list[Any]:
        """The weights with the encoder's rate: token vectors and all that reads them, up to the field's Dense."""
        return [v for name, v in self.weights.variables.items() if name.startswith("encoder/")]

    @property
    def trainable_variables(self) -> list[Any]:
        """All but the encoder's when its learning rate is 0, and but for what a Keras encoder does not train."""
        frozen = self.settings.optimizer.encoder_learning_rate == 0
        variables = self.weights.variables.items()
        return [v for name, v in variables if v.trainable and not (frozen and name.startswith("encoder/"))]


def _one_row_at_least(values: Any) -> Any:
    """Return [n, columns] as it is, or one row of zeros: TensorFlow's fused matrix products fail without rows.

    A worker that has run out of rows still takes part in the step, with an empty batch.
    """
    return tf.pad(values, [[0, tf.cast(tf.equal(tf.shape(values)[0], 0), tf.int32)], [0, 0]])


def _without_common_padding(tokens: Any) -> Any:
    """Cut int32 [U, T] to [U, longest], at least one column: the texts of a batch may all be shorter than others."""
    longest = tf.reduce_max(tf.math.count_nonzero(tokens, axis=1, dtype=tf.int32))
    return tf.pad(tokens, [[0, 0], [0, 1]])[:, : tf.maximum(longest, 1)]


def _mean_of_present(table: Any, ids: Any) -> Any:
    """Average the vectors of ids, int32 [U, T] → float32 [U, columns]; without ids zeros."""
    present = tf.cast(tf.not_equal(ids, PADDING), tf.float32)[:, :, tf.newaxis]
    total = tf.reduce_sum(tf.gather(table.value, ids) * present, axis=1)
    return total / tf.maximum(tf.reduce_sum(present, axis=1), 1.0)
