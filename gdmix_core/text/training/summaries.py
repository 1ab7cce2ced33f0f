"""Event files for TensorBoard, from the points of a training's curve."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from gdmix_core import storage


class Summaries:
    """A writer into a local folder at once, so that it can be watched; into another when closed."""

    def __init__(self, folder: str, metric: str, curve: list[dict[str, Any]]) -> None:
        """curve: the points there are already. What an earlier attempt left in the folder goes."""
        self._folder, self._metric = folder, metric
        storage.remove(folder)
        local = storage.local_path(folder)
        self._temporary = tempfile.TemporaryDirectory() if local is None else None
        self._local = self._temporary.name if self._temporary else str(local)
        self._writer = tf.summary.create_file_writer(self._local)
        for point in curve:
            self.add(point)

    def add(self, point: Mapping[str, Any]) -> None:
        names = {"loss": "training loss", "metric": self._metric, "learning_rate": "learning rate"}
        names["rows_per_second"] = "rows per second"
        with self._writer.as_default(step=point["step"]):
            for key, name in names.items():
                if point[key] is not None:
                    tf.summary.scalar(name, point[key])
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
        if self._temporary:
            storage.copy_directory(self._local, self._folder)
            self._temporary.cleanup()
