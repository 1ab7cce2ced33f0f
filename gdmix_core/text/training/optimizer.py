"""The update of a network's weights from gradients that are summed over all workers already.

The optimizers follow Keras' formulas to the bit. They are not Keras' own, which would sum the gradients of replicas a
second time, and whose Adam takes a dozen operations, each a pass over all weights, where TensorFlow has one kernel.
"""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from gdmix_core.config.text import Optimizer, TextModel
from gdmix_core.text.network.network import TextNetwork
from gdmix_core.text.training.loss_scale import LossScale
from gdmix_core.text.weights import dtype_policy

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-7


class WarmUpAndDecay:
    """The learning rate over the steps: it rises linearly, then falls to 0 at the end.

    rate · (t + 1) / (w + 1) in the w steps of the warm-up, then rate · (1 − s) or rate · ½ (1 + cos π s), where s
    is the share of the remaining steps that are done.
    """

    def __init__(self, settings: Optimizer, rate: float, total_steps: int) -> None:
        self._rate = rate
        self._decay = settings.decay
        self._warm_up = round(settings.warmup * total_steps)
        self._total = max(total_steps, self._warm_up + 1)

    def __call__(self, step: Any) -> Any:
        step = tf.cast(tf.convert_to_tensor(step), tf.float32)
        rising = (step + 1.0) / (self._warm_up + 1.0)
        share = tf.clip_by_value((step - self._warm_up) / (self._total - self._warm_up), 0.0, 1.0)
        falling = {"linear": 1.0 - share, "cosine": 0.5 * (1.0 + tf.cos(math.pi * share)), "none": 1.0}[self._decay]
        return self._rate * tf.where(step < self._warm_up, rising, falling)


class Update:
    """Clips gradients to their global norm, then takes a step of the optimizer with the rate of the schedule.

    Construct it in the scope of the strategy the network is in; call `apply` in replica context, in a tf.function or
    not, with the same gradients in every replica. Keras would clip the gradients of each replica before it sums them;
    here they are summed before, by the caller, and clipped afterwards: so the number of workers changes nothing.
    """

    def __init__(self, settings: TextModel, network: TextNetwork, total_steps: int) -> None:
        """total_steps: after which the decay is at its end."""
        options = settings.optimizer
        self._variables = [variable.value for variable in network.trainable_variables]
        self._gradient_norm = options.gradient_norm
        self._loss_scale = LossScale() if dtype_policy(settings.precision).name == "mixed_float16" else None
        encoder = {id(variable) for variable in network.encoder_variables}
        # Positions in trainable_variables: a single group unless the encoder has a rate of its own.
        apart = [
            options.encoder_learning_rate is not None and id(variable) in encoder
            for variable in network.trainable_variables
        ]
        self._groups = []
        for of_encoder, rate in ((True, options.encoder_learning_rate or 0.0), (False, options.learning_rate)):
            positions = [i for i, own in enumerate(apart) if own == of_encoder]
            if positions:
                schedule = WarmUpAndDecay(options, rate, total_steps)
                steps = _Steps(options, schedule, [self._variables[i] for i in positions])
                self._groups.append((steps, positions))

    def scaled(self, loss: Any) -> Any:
        """Return the loss to differentiate: scaled in mixed_float16, where gradients would vanish; `apply` unscales."""
        return self._loss_scale.scaled(loss) if self._loss_scale else loss

    def apply(self, gradients: list[Any]) -> None:
        """Take a step. gradients: of `scaled` losses, summed over workers, one for each of network.trainable_variables.

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
        for steps, positions in self._groups:
            steps.take([dense[i] for i in positions], self._rate(steps))

    def set_steps(self, number: int) -> None:
        """Set how many have been taken, on which the learning rate depends."""
        for steps, _ in self._groups:
            steps.taken.assign(number)

    def learning_rate(self) -> Any:
        """Return the rate of the next update, float32 scalar; of the network's weights beside the encoder's."""
        return self._rate(self._groups[-1][0])

    def _rate(self, steps: _Steps) -> Any:
        return steps.rate() * self._loss_scale.taken if self._loss_scale else steps.rate()

    @property
    def variables(self) -> list[Any]:
        """The part of a checkpoint from which updates resume: moments, number of steps, loss scale."""
        state = [variable for steps, _ in self._groups for variable in steps.variables]
        return state + (self._loss_scale.variables if self._loss_scale else [])


class _Steps:
    """The optimizer of weights with the same rate: Adam and AdamW, LAMB, or gradient descent.

    taken: how many steps; variables: that and the moments
    """

    def __init__(self, options: Optimizer, schedule: WarmUpAndDecay, weights: list[Any]) -> None:
        self._name, self._schedule, self._weights = options.name, schedule, weights
        self._decay = options.weight_decay if options.name in ("adamw", "lamb") else 0.0
        first_only = tf.VariableAggregation.ONLY_FIRST_REPLICA
        self.taken = tf.Variable(0, dtype=tf.int64, trainable=False, aggregation=first_only)
        self._moments = [] if options.name == "sgd" else [(_zeros_beside(w), _zeros_beside(w)) for w in weights]
        self.variables = [self.taken, *(moment for pair in self._moments for moment in pair)]

    def rate(self) -> Any:
        """Return the schedule's rate of the next step."""
        return self._schedule(self.taken)

    def take(self, gradients: list[Any], rate: Any) -> None:
        step = tf.cast(self.taken, tf.float32) + 1.0
        for number, (weight, gradient) in enumerate(zip(self._weights, gradients, strict=True)):
            # Where the weight is kept, which may be a parameter server.
            with tf.device(weight.device):
                if self._decay and len(weight.shape) > 1:
                    _subtract(weight, weight * self._decay * rate)
                if self._name == "sgd":
                    _subtract(weight, gradient * rate)
                else:
                    move = _lamb if self._name == "lamb" else _adam
                    move(weight, *self._moments[number], gradient, rate, step)
        self.taken.assign_add(1)


def _adam(weight: Any, mean: Any, square: Any, gradient: Any, rate: Any, step: Any) -> None:
    """Take m ← m + (1 − β₁)(g − m), v ← v + (1 − β₂)(g² − v), w ← w − η √(1 − β₂ᵗ) / (1 − β₁ᵗ) · m / (√v + ε)"""
    tf.raw_ops.ResourceApplyAdam(
        var=weight.handle,
        m=mean.handle,
        v=square.handle,
        beta1_power=tf.pow(_BETA_1, step),
        beta2_power=tf.pow(_BETA_2, step),
        lr=rate,
        beta1=_BETA_1,
        beta2=_BETA_2,
        epsilon=_EPSILON,
        grad=gradient,
    )


def _lamb(weight: Any, mean: Any, square: Any, gradient: Any, rate: Any, step: Any) -> None:
    """Take m and v as Adam does, d = m / (1 − β₁ᵗ) / (√(v / (1 − β₂ᵗ)) + ε), w ← w − η |w| / |d| · d"""
    m = mean + (gradient - mean) * (1 - _BETA_1)
    v = square + (tf.square(gradient) - square) * (1 - _BETA_2)
    tf.raw_ops.AssignVariableOp(resource=mean.handle, value=m)
    tf.raw_ops.AssignVariableOp(resource=square.handle, value=v)
    direction = m / (1.0 - tf.pow(_BETA_1, step)) / (tf.sqrt(v / (1.0 - tf.pow(_BETA_2, step))) + _EPSILON)
    own, moved = (tf.sqrt(tf.reduce_sum(tf.square(values))) for values in (weight, direction))
    ratio = tf.where((own > 0) & (moved > 0), own / moved, 1.0)
    _subtract(weight, ratio * rate * direction)


def _subtract(weight: Any, values: Any) -> None:
    # Not weight.assign_sub, which is refused in a replica.
    tf.raw_ops.AssignSubVariableOp(resource=weight.handle, value=values)


def _zeros_beside(weight: Any) -> Any:
    with tf.distribute.get_strategy().extended.colocate_vars_with(weight):
        return tf.Variable(tf.zeros(weight.shape), trainable=False)
