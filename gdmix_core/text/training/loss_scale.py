"""Scaling of the loss in mixed_float16 (Micikevicius et al., "Mixed precision training", 2018).

Small gradients would be 0 in float16. The factor doubles after many steps without an overflow and halves after one.
Without a conditional, in which replicas could not act together: a step that overflowed has gradients of 0 and a
learning rate of 0.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

# The loss that is scaled is a sum over rows, some hundred times the mean this is usually chosen for.
FIRST = 2.0**10
LARGEST = 2.0**24
STEPS_TO_DOUBLE = 2000


class LossScale:
    def __init__(self) -> None:
        options = {"trainable": False, "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA}
        self._scale = tf.Variable(FIRST, **options)
        self._steps = tf.Variable(0.0, **options)
        # 1, or 0 when the last step overflowed.
        self.taken = tf.Variable(1.0, **options)

    def scaled(self, loss: Any) -> Any:
        return loss * self._scale

    def unscaled(self, gradients: list[Any]) -> list[Any]:
        """Return the gradients of the loss itself; all 0, and `taken` 0, if one of them is not finite."""
        scale = tf.convert_to_tensor(self._scale)
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients])
        # Not tf.where alone: 0 · inf is nan.
        result = [tf.where(finite, gradient / scale, tf.zeros_like(gradient)) for gradient in gradients]
        steps = tf.where(finite, self._steps + 1.0, 0.0)
        doubles = steps >= STEPS_TO_DOUBLE
        larger = tf.where(doubles, tf.minimum(2.0 * scale, LARGEST), scale)
        self._scale.assign(tf.where(finite, larger, tf.maximum(scale / 2.0, 1.0)))
        self._steps.assign(tf.where(doubles, 0.0, steps))
        self.taken.assign(tf.cast(finite, tf.float32))
        return result

    @property
    def variables(self) -> list[Any]:
        return [self._scale, self._steps, self.taken]
