"""Rows of the frame packed into files that TensorFlow reads by itself, and batches made of them in the graph.

A worker of the parameter-server mode runs graphs alone: no Python of ours could read the frame for it. A file has one
record, a tf.train.Example that holds each array of a NetworkRows as bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from gdmix_core.config.text import TextModel
from gdmix_core.text.network_rows import NetworkRows


def pack(rows: NetworkRows, path: str) -> None:
    arrays: dict[str, NDArray[Any]] = {"label": rows.label, "weight": rows.weight, "offset": rows.offset}
    for field, texts in rows.texts.items():
        arrays |= {f"{field}/{part}": getattr(texts, part) for part in ("offsets", "tokens", "codes")}
    bags = dict(rows.bags) | ({} if rows.classes is None else {_CLASSES: rows.classes})
    for name, bag in bags.items():
        arrays |= {f"{name}/offsets": bag.offsets, f"{name}/indices": bag.indices}
        arrays[f"{name}/values"] = bag.values.astype(np.float32, copy=False)
    features = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[np.ascontiguousarray(array).tobytes()]))
        for name, array in arrays.items()
    }
    with tf.io.TFRecordWriter(path) as writer:
        writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())


_CLASSES = "label/classes"
_DTYPES = {"label": tf.float32, "weight": tf.float32, "offset": tf.float32}
_DTYPES |= {"offsets": tf.int64, "tokens": tf.int32, "codes": tf.int32, "indices": tf.int32, "values": tf.float32}


@dataclass(frozen=True)
class RowsInGraph:
    """The arrays that `pack` wrote, as tensors of the graph that reads it; batches are as those of NetworkRows."""

    arrays: dict[str, Any]
    settings: TextModel
    dense: dict[str, int]
    classes: int | None

    @classmethod
    def read(cls, path: Any, settings: TextModel, bags: dict[str, int], classes: int | None) -> RowsInGraph:
        """Read a file. path: a string tensor; bags: features of each; classes: of several labels, else None."""
        names = ["label", "weight", "offset"]
        names += [f"{field}/{part}" for field in settings.fields for part in ("offsets", "tokens", "codes")]
        of_bags = [*settings.bags, *([] if classes is None else [_CLASSES])]
        names += [f"{bag}/{part}" for bag in of_bags for part in ("offsets", "indices", "values")]
        record = tf.data.TFRecordDataset(path).get_single_element()
        parsed = tf.io.parse_single_example(record, {name: tf.io.FixedLenFeature([], tf.string) for name in names})
        arrays = {name: tf.io.decode_raw(raw, _DTYPES[name.rsplit("/", 1)[-1]]) for name, raw in parsed.items()}
        return cls(arrays, settings, {bag: bags[bag] for bag in settings.dense}, classes)

    @property
    def count(self) -> Any:
        return tf.shape(self.arrays["label"])[0]

    def batch(self, rows: Any) -> dict[str, Any]:
        """Make the batch of rows int32 [B]."""
        batch = {}
        for field in self.settings.fields:
            used, which = tf.unique(tf.gather(self.arrays[f"{field}/codes"], rows))
            tokens = self._ragged(field, "tokens", used).to_tensor(0)
            # A column of padding, which the network cuts off: there is at least one.
            batch[f"tokens/{field}"], batch[f"rows/{field}"] = tf.pad(tokens, [[0, 0], [0, 1]]), which
        for bag in self.settings.bags:
            if bag in self.dense:
                batch[f"dense/{bag}"] = self._dense(bag, rows, self.dense[bag])
            else:
                indices, values = self._ragged(bag, "indices", rows), self._ragged(bag, "values", rows)
                batch[f"indices/{bag}"], batch[f"values/{bag}"] = indices.flat_values, values.flat_values
                batch[f"entry_rows/{bag}"] = tf.cast(indices.value_rowids(), tf.int32)
        return batch

    def targets(self, rows: Any) -> dict[str, Any]:
        label = tf.gather(self.arrays["label"], rows)
        if self.classes is not None:
            label = tf.cast(self._dense(_CLASSES, rows, self.classes) > 0.0, tf.float32)
        return {
            "label": label,
            "weight": tf.gather(self.arrays["weight"], rows),
            "offset": tf.gather(self.arrays["offset"], rows),
            "group": tf.zeros_like(rows),
        }

    def _ragged(self, name: str, part: str, rows: Any) -> Any:
        values, splits = self.arrays[f"{name}/{part}"], self.arrays[f"{name}/offsets"]
        return tf.gather(tf.RaggedTensor.from_row_splits(values, splits, validate=False), rows)

    def _dense(self, bag: str, rows: Any, features: int) -> Any:
        indices, values = self._ragged(bag, "indices", rows), self._ragged(bag, "values", rows)
        places = tf.stack([tf.cast(indices.value_rowids(), tf.int32), indices.flat_values], axis=1)
        return tf.scatter_nd(places, values.flat_values, tf.stack([tf.shape(rows)[0], features]))
