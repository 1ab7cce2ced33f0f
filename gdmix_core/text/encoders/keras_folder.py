"""An encoder that someone saved with Keras: model.keras and vocab.txt in a local folder."""

from __future__ import annotations

import os
from typing import Any

import keras
import tensorflow as tf

from gdmix_core.config.text_files import KERAS_FILE
from gdmix_core.errors import DataError
from gdmix_core.text.encoders.transformer import pooled
from gdmix_core.text.tokens.tokenizer import PADDING
from gdmix_core.text.weights import Weights


class KerasTextEncoder:
    """A Keras model of one input, token ids [U, T], and one output, [U, T, d] or [U, d]; it must know padding (0).

    It computes in the precision it was saved with.
    """

    def __init__(self, folder: str, tokens: int, max_tokens: int, pooling: str, weights: Weights) -> None:
        """Raises DataError when the model cannot be loaded, or has other inputs or outputs."""
        self._path = os.path.join(folder, KERAS_FILE)
        self._pooling = pooling
        try:
            # Code that a file may hold is not run: safe_mode.
            self._model = keras.saving.load_model(self._path, compile=False, safe_mode=True)
            shapes = [tuple(tensor.shape) for tensor in (*self._model.inputs, *self._model.outputs)]
        except (ValueError, TypeError, OSError, AttributeError) as error:
            raise DataError(f"{self._path}: not a Keras model that can be loaded ({error})") from None
        if len(shapes) != 2 or len(shapes[0]) != 2 or len(shapes[1]) not in (2, 3) or shapes[1][-1] is None:
            raise DataError(
                f"{self._path}: its inputs and outputs have shapes {shapes}; it must take token ids [B, T] and give "
                "vectors [B, T, d] or [B, d]"
            )
        self._length = shapes[0][1]
        if self._length is not None and self._length < max_tokens:
            raise DataError(f"{self._path}: it takes {self._length} tokens; set max_tokens to that at most")
        self._check_tokens(tokens)
        _keep_statistics(self._model)
        self.width = int(shapes[1][-1])
        self._input_type = self._model.inputs[0].dtype
        for number, variable in enumerate(self._model.weights):
            weights.adopt(f"encoder/{number}_{variable.name}", variable)

    def _check_tokens(self, tokens: int) -> None:
        """Refuse a table with fewer rows than ids: an id beyond it is an error on a CPU, but reads zeros on a GPU."""
        known = [layer.input_dim for layer in self._model.layers if isinstance(layer, keras.layers.Embedding)]
        if known and max(known) < tokens:
            raise DataError(
                f"{self._path}: it knows {max(known)} token ids, but the vocabulary gives {tokens}; take the "
                "vocabulary it was trained with"
            )

    def __call__(self, field: str, tokens: Any, training: bool) -> Any:
        present = tf.not_equal(tokens, PADDING)
        if self._length is not None:
            missing = self._length - tf.shape(tokens)[1]
            tokens = tf.pad(tokens, [[0, 0], [0, missing]])
            present = tf.pad(present, [[0, 0], [0, missing]])
        vectors = self._model(tf.cast(tokens, self._input_type), training=training is not False)
        return pooled(vectors, present, self._pooling) if vectors.shape.rank == 3 else vectors


def _keep_statistics(model: Any) -> None:
    """Keep batch normalisations as they are, as is usual in fine-tuning.

    They would follow whatever a worker's part of a batch holds, padding too, so that the workers' copies differ; and
    also when the encoder's learning rate is 0.
    """
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
