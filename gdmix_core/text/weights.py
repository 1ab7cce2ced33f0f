"""The weights of a network under names of our own, each initialised from the seed and its name.

Names of Keras count the layers a process has made; these do not, so weights of one process fit into another. And a
weight's initial value depends neither on the others nor on which worker creates it.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from gdmix_core import storage
from gdmix_core.config.text import TextModel
from gdmix_core.errors import DataError


class Weights:
    """Ordered names of variables (float32), and what layers need to be created: policy of precision, and seeds."""

    def __init__(self, settings: TextModel, portable: bool = False) -> None:
        """portable: whether layers must compute the same way with a GPU and without."""
        self.policy = dtype_policy(settings.precision)
        self.portable = portable
        self.compute_dtype = tf.as_dtype(self.policy.compute_dtype)
        self._seed = settings.seed
        self.variables: dict[str, Any] = {}

    def seed_of(self, name: str) -> int:
        return (zlib.crc32(name.encode()) + 0x9E3779B1 * self._seed) % 2**31

    def glorot(self, name: str) -> Any:
        return keras.initializers.GlorotUniform(seed=self.seed_of(name))

    def normal(self, name: str, deviation: float) -> Any:
        return keras.initializers.TruncatedNormal(stddev=deviation, seed=self.seed_of(name))

    def variable(self, name: str, shape: Sequence[int], initializer: Any) -> Any:
        """Make a new variable; initializer as Keras takes it."""
        initializer = keras.initializers.get(initializer)
        # TensorFlow's own name of it, in which not all characters may stand.
        plain = re.sub(r"[^A-Za-z0-9]", "_", name)
        variable = keras.Variable(initializer, shape=tuple(shape), dtype="float32", name=f"weight_{plain}")
        self.adopt(name, variable)
        return variable

    def layer(self, name: str, layer: Any, input_shape: Sequence[int | None]) -> Any:
        """Build the layer, whose weights are then name/kernel and the like."""
        layer.build(tuple(input_shape))
        for weight in layer.weights:
            self.adopt(f"{name}/{weight.name}", weight)
        return layer

    def dense(self, name: str, inputs: int, outputs: int, activation: str | None = None, **options: Any) -> Any:
        options = {"dtype": self.policy, "kernel_initializer": self.glorot(f"{name}/kernel"), **options}
        return self.layer(name, keras.layers.Dense(outputs, activation, **options), (None, inputs))

    def embedding(self, name: str, rows: int, width: int) -> Any:
        """Make float32 [rows, width] for token ids: padding and unknown start as 0, so an unseen token says nothing."""
        initial = keras.initializers.RandomUniform(-0.05, 0.05, seed=self.seed_of(name))

        def starting(shape: Sequence[int], dtype: Any = None) -> Any:
            known = tf.cast(tf.range(shape[0]) > 1, tf.float32)
            return initial(shape, dtype) * known[:, tf.newaxis]

        return self.variable(name, (rows, width), starting)

    def adopt(self, name: str, variable: Any) -> None:
        assert name not in self.variables, name
        self.variables[name] = variable

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return the values of all weights by name."""
        return {name: np.asarray(variable.numpy()) for name, variable in self.variables.items()}

    def save(self, path: str) -> None:
        """Write a NumPy archive (.npz) of all weights by name; a local path or a URL."""
        arrays: dict[str, Any] = self.arrays()
        with storage.open_for_write(path) as file:
            np.savez(file, **arrays)

    def load(self, path: str) -> None:
        """Set all weights to what `save` wrote. Raises DataError as `assign` and read_weights do."""
        self.assign(read_weights(path), path)

    def assign(self, arrays: Mapping[str, NDArray[np.float32]], source: str = "weights") -> None:
        """Set all weights. Raises DataError, which names the source, when names or shapes are not this network's;
        then none is set."""
        missing = [name for name in self.variables if name not in arrays]
        unknown = [name for name in arrays if name not in self.variables]
        if missing or unknown:
            what = f"lack {missing[0]}" if missing else f"have {unknown[0]}, which the network lacks"
            raise DataError(f"{source}: the weights {what}; they belong to other settings of the network")
        for name, variable in self.variables.items():
            if tuple(variable.shape) != arrays[name].shape:
                raise DataError(
                    f"{source}: {name} has shape {arrays[name].shape}, the network's has {tuple(variable.shape)}; "
                    "they belong to other settings or vocabularies"
                )
        for name, variable in self.variables.items():
            variable.assign(arrays[name])


def read_weights(path: str) -> dict[str, NDArray[np.float32]]:
    """Read what Weights.save wrote. Raises DataError when the file is missing or not an archive."""
    with storage.open_for_read(path) as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except (ValueError, OSError, EOFError) as error:
            raise DataError(f"{path}: no archive of weights ({error})") from None


def dtype_policy(precision: str) -> Any:
    """Return the keras policy of settings.precision; auto: mixed_float16 when TensorFlow sees a GPU, else float32.

    It says in what precision the network computes. Weights and scores are always float32.
    """
    if precision == "auto":
        precision = "mixed_float16" if tf.config.list_physical_devices("GPU") else "float32"
    return keras.DTypePolicy(precision)


def dropped(values: Any, rate: float, seed: int, training: Any) -> Any:
    """Apply dropout whose random numbers are not a variable, which workers and parameter servers would have to share.

    training: False, or the number of the step, an int32 scalar; from it and the seed alone come the random numbers, so
    that training that resumes from a checkpoint draws what it would have drawn.
    """
    if training is False or not rate:
        return values
    return tf.nn.experimental.stateless_dropout(values, rate, seed=tf.stack([seed, tf.cast(training, tf.int32)]))
