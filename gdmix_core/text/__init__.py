"""A text network on Keras: its inputs, layers, losses, optimizer and SavedModel. It knows nothing of runs and frames.

Imported by the steps that need it, never at the start of a program: TensorFlow takes seconds to import.
"""

from __future__ import annotations

import os

# Keras reads these once, when it is imported; a backend set in the user's keras.json would not run this code.
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
