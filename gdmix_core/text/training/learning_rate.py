"""The learning rate over the steps: it rises linearly, then falls to 0 at the end."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from gdmix_core.config.text import Optimizer


class WarmUpAndDecay:
    """rate · (t + 1) / (w + 1) in the w steps of the warm-up, then rate · (1 − s) or rate · ½ (1 + cos π s), where s
    is the share of the remaining steps that are done."""

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
