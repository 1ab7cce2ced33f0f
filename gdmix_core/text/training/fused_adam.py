"""Adam's step as one kernel of TensorFlow, in place of Keras' dozen operations, each a pass over all weights.

The same arithmetic as keras.optimizers.Adam.update_step:
m ← m + (1 − β₁)(g − m), v ← v + (1 − β₂)(g² − v), w ← w − η √(1 − β₂ᵗ) / (1 − β₁ᵗ) · m / (√v + ε)
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf


class FusedAdam:
    """Put before keras.optimizers.Adam, or AdamW, among the bases of a class."""

    beta_1: float
    beta_2: float
    epsilon: float
    iterations: Any
    _momentums: list[Any]
    _velocities: list[Any]
    _get_variable_index: Any

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        place = self._get_variable_index(variable)
        step = tf.cast(self.iterations.value, tf.float32) + 1.0
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[place].value.handle,
            v=self._velocities[place].value.handle,
            beta1_power=tf.pow(self.beta_1, step),
            beta2_power=tf.pow(self.beta_2, step),
            lr=tf.cast(learning_rate, tf.float32),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )
