"""In what precision the network computes. Weights and scores are float32 always."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


def dtype_policy(precision: str) -> Any:
    """The keras policy of settings.precision; auto: mixed_float16 when TensorFlow sees a GPU, else float32."""
    if precision == "auto":
        precision = "mixed_float16" if tf.config.list_physical_devices("GPU") else "float32"
    return keras.DTypePolicy(precision)
