"""One update of a network's weights from gradients that are summed over all workers already."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from gdmix_core.config.text import TextModel
from gdmix_core.text.network.network import TextNetwork
from gdmix_core.text.network.precision import dtype_policy
from gdmix_core.text.training.fused_adam import FusedAdam
from gdmix_core.text.training.learning_rate import WarmUpAndDecay
from gdmix_core.text.training.loss_scale import LossScale


class Update:
    """Clips gradients to their global norm, then takes a step of the optimizer with the rate of the schedule.

    Construct it in the scope of the strategy the network is in; call `apply` in replica context, in a tf.function or
    not, with the same gradients in every replica. Keras would clip the gradients of each replica before it sums them;
    here they are summed before, by the caller, and clipped afterwards: so the number of workers changes nothing.
    """

    def __init__(self, settings: TextModel, network: TextNetwork, total_steps: int) -> None:
        """total_steps: after which the decay is at its end."""
        options = settings.optimizer
        self._variables = network.trainable_variables
        self._gradient_norm = options.gradient_norm
        self._loss_scale = LossScale() if dtype_policy(settings.precision).name == "mixed_float16" else None
        factor = self._loss_scale.taken if self._loss_scale else None
        encoder = {id(variable) for variable in network.encoder_variables}
        # Positions in trainable_variables: a single group unless the encoder has a rate of its own.
        apart = options.encoder_learning_rate is not None
        groups = {
            "encoder": [i for i, variable in enumerate(self._variables) if apart and id(variable) in encoder],
            "network": [i for i, variable in enumerate(self._variables) if not (apart and id(variable) in encoder)],
        }
        rates = {"encoder": options.encoder_learning_rate or 0.0, "network": options.learning_rate}
        self._groups = []
        for name, positions in groups.items():
            if positions:
                schedule = WarmUpAndDecay(options, rates[name], total_steps, factor)
                optimizer = _optimizer(options.name, schedule, options.weight_decay, name)
                of_group = [self._variables[i] for i in positions]
                if options.name in ("adamw", "lamb"):
                    optimizer.exclude_from_weight_decay([v for v in of_group if len(v.shape) < 2])
                optimizer.build(of_group)
                self._groups.append((optimizer, positions))

    def scaled(self, loss: Any) -> Any:
        """The loss to differentiate: scaled in mixed_float16, whose gradients would vanish; `apply` takes it back."""
        return self._loss_scale.scaled(loss) if self._loss_scale else loss

    def apply(self, gradients: list[Any]) -> None:
        """gradients: of `scaled` losses, summed over workers, one for each of network.trainable_variables.

        In mixed_float16 a step whose gradients overflowed changes no weight.
        """
        # A gradient of rows of a table has a row for every time it was read; its norm is that of their sum.
        dense = [
            tf.zeros(variable.shape) if gradient is None else tf.cast(tf.convert_to_tensor(gradient), tf.float32)
            for variable, gradient in zip(self._variables, gradients, strict=True)
        ]
        if self._loss_scale:
            dense = self._loss_scale.unscaled(dense)
        if self._gradient_norm > 0:
            norm = tf.linalg.global_norm(dense)
            factor = self._gradient_norm / tf.maximum(norm, self._gradient_norm)
            dense = [gradient * factor for gradient in dense]
        for optimizer, positions in self._groups:
            optimizer.apply([dense[i] for i in positions])

    def set_steps(self, steps: int) -> None:
        """How many have been taken, on which the learning rate depends."""
        for optimizer, _ in self._groups:
            optimizer.iterations.assign(steps)

    def learning_rate(self) -> Any:
        """That of the next update, float32 scalar; of the network's weights beside the encoder's."""
        return self._groups[-1][0].learning_rate

    @property
    def variables(self) -> list[Any]:
        """What a checkpoint holds to go on: moments, number of steps, loss scale."""
        state = [variable for optimizer, _ in self._groups for variable in optimizer.variables]
        return state + (self._loss_scale.variables if self._loss_scale else [])


class _AlreadySummed:
    """An optimizer of Keras that does not sum gradients over replicas, which it otherwise does in replica context."""

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> Any:
        return grads_and_vars


def _optimizer(name: str, schedule: Any, weight_decay: float, label: str) -> Any:
    classes = keras.optimizers
    kind = {"adamw": classes.AdamW, "lamb": classes.Lamb, "adam": classes.Adam, "sgd": classes.SGD}[name]
    bases = (_AlreadySummed, FusedAdam, kind) if name in ("adam", "adamw") else (_AlreadySummed, kind)
    summed = type(f"AlreadySummed{kind.__name__}", bases, {})
    decay = {"weight_decay": weight_decay} if name in ("adamw", "lamb") else {}
    return summed(learning_rate=schedule, name=label, **decay)
