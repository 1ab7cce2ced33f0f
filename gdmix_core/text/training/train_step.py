"""One step of training: the gradient of this worker's part of a batch, the sum over the workers, the update."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from gdmix_core.text.network.network import TextNetwork
from gdmix_core.text.network_rows import Batch
from gdmix_core.text.training.group import TrainingGroup
from gdmix_core.text.training.losses import loss_sums
from gdmix_core.text.training.optimizer import Update


class TrainStep:
    """The loss of a batch is Σ w · loss / Σ w over all its rows, whoever holds them."""

    def __init__(self, network: TextNetwork, update: Update, task: str, group: TrainingGroup) -> None:
        self._network, self._update, self._task, self._group = network, update, task, group
        self._variables = [variable.value for variable in network.trainable_variables]
        # Σ w · loss and Σ w since the last `mean_loss`.
        self._sums = tf.Variable(tf.zeros(2, tf.float64), trainable=False)
        # One signature, so that all workers trace the same and once: tracing numbers the all-reduces.
        self._function = tf.function(
            self._step,
            input_signature=[network.batch_spec(), target_spec(network, task), tf.TensorSpec([], tf.int32)],
            autograph=False,
        )

    def take(self, batch: dict[str, Any], targets: dict[str, Any], number: int) -> None:
        """Take a step. number: of the step, from 0; dropout depends on it. Raises WorkerLostError."""
        with self._group.losing_workers():
            self._function(batch, targets, tf.constant(number, tf.int32))

    @property
    def sums(self) -> tuple[float, float]:
        """(Σ w · loss, Σ w) of the steps since it was last set, over all workers."""
        loss, weight = self._sums.numpy()
        return float(loss), float(weight)

    @sums.setter
    def sums(self, values: tuple[float, float]) -> None:
        self._sums.assign(values)

    def _step(self, batch: dict[str, Any], targets: dict[str, Any], number: Any) -> None:
        # Workers draw different random numbers.
        random = number * self._group.workers + self._group.rank
        loss, weight, gradients = gradient_sums(
            self._network, self._update, self._task, self._variables, batch, targets, random
        )
        if self._group.workers > 1:
            loss, weight, gradients = self._over_workers(loss, weight, gradients)
        self._sums.assign_add(tf.cast(tf.stack([loss, weight]), tf.float64))
        self._update.apply([divided(gradient, weight) for gradient in gradients])

    def _over_workers(self, loss: Any, weight: Any, gradients: list[Any]) -> tuple[Any, Any, list[Any]]:
        """Sum all in one vector: one all-reduce a step."""
        dense = [
            tf.zeros(variable.shape) if gradient is None else tf.convert_to_tensor(gradient)
            for variable, gradient in zip(self._variables, gradients, strict=True)
        ]
        vector = tf.concat([tf.stack([loss, weight]), *(tf.reshape(gradient, [-1]) for gradient in dense)], axis=0)
        total = self._group.sum_in_graph(vector)
        parts = tf.split(total[2:], [int(np.prod(variable.shape)) for variable in self._variables])
        shaped = [tf.reshape(part, variable.shape) for part, variable in zip(parts, self._variables, strict=True)]
        return total[0], total[1], shaped


def gradient_sums(
    network: TextNetwork,
    update: Update,
    task: str,
    variables: list[Any],
    batch: dict[str, Any],
    targets: dict[str, Any],
    random: Any,
) -> tuple[Any, Any, list[Any]]:
    """Return (Σ w · loss, Σ w, the gradients of the scaled sum of losses). random: int32, for dropout."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(variables)
        logits = network(batch, random)
        loss, weight = loss_sums(
            network.settings, task, logits, targets["label"], targets["weight"], targets["offset"], targets["group"]
        )
        scaled = update.scaled(loss)
    return loss, weight, tape.gradient(scaled, variables)


def divided(gradient: Any, weight: Any) -> Any:
    """Divide a gradient by the batch's weight. A batch without weight says nothing: its gradient is 0."""
    if gradient is None:
        return None
    factor = tf.math.divide_no_nan(1.0, weight)
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(gradient.values * factor, gradient.indices, gradient.dense_shape)
    return gradient * factor


def target_spec(network: TextNetwork, task: str) -> dict[str, Any]:
    label = [None, network.inputs.outputs] if task == "multilabel_classification" else [None]
    return {
        "label": tf.TensorSpec(label, tf.float32),
        "weight": tf.TensorSpec([None], tf.float32),
        "offset": tf.TensorSpec([None], tf.float32),
        "group": tf.TensorSpec([None], tf.int32),
    }


def as_tensors(batch: Batch) -> dict[str, Any]:
    return {name: tf.constant(values) for name, values in batch.items()}
