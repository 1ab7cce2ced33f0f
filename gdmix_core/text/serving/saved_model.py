"""A trained network as a TensorFlow SavedModel, which scores raw features without this package."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import tensorflow as tf

from gdmix_core import storage
from gdmix_core.text.network.network import TextNetwork
from gdmix_core.text.serving.signature_columns import COLUMNS_FILE, SignatureColumns


def write_saved_model(network: TextNetwork, folder: str, task: str = "logistic_regression") -> None:
    """Write the network with three signatures; the folder, a path or URL, appears when it is whole.

    serving_default:       FIELD string [B] for text and id fields; for dense bags BAG float32 [B, n]; for sparse bags
                           BAG_indices int64 [B, any], padded with -1, and BAG_values float32 [B, any]. Features the
                           network does not know count as absent. Gives score float32 [B]; for the two tasks of
                           classes logits and probabilities float32 [B, K].
    embeddings:            FIELD string [any] → FIELD float32 [any, units]; fields may have different lengths, also 0
    score_from_embeddings: FIELD float32 [B, units] and the bags → as serving_default

    Where a name has characters TensorFlow does not allow, they are _ in the signatures; the asset columns.json tells
    which input a column is. It computes in float32, whatever the network was trained in, so that it runs anywhere.
    Not to be called in a strategy's scope.
    """
    settings = network.settings.model_copy(update={"precision": "float32"})
    # A copy outside of any strategy: its variables are plain ones.
    copy = TextNetwork(settings, network.inputs, portable=True)
    copy.weights.assign(network.weights.arrays())
    columns = SignatureColumns.of(copy)
    module = _Exported(copy, task, columns)
    with tempfile.TemporaryDirectory() as parent:
        listed = os.path.join(parent, COLUMNS_FILE)
        storage.write_json(listed, asdict(columns))
        # An asset is written into the model, and read beside it.
        module.columns = tf.saved_model.Asset(listed)
        written = os.path.join(parent, "model")
        tf.saved_model.save(module, written, signatures=module.signatures())
        _place(written, folder)


def _place(written: str, folder: str) -> None:
    storage.remove(folder)
    local = storage.local_path(folder)
    if local is not None:
        os.makedirs(os.path.dirname(os.path.abspath(local)), exist_ok=True)
        beside = tempfile.mkdtemp(dir=os.path.dirname(os.path.abspath(local)), prefix=".saved_model.")
        os.rename(shutil.move(written, os.path.join(beside, "model")), local)
        os.rmdir(beside)
        return
    # The graph last: without it a reader finds no model.
    for path in sorted(storage.paths_within(written, hidden=True), key=lambda path: path == "saved_model.pb"):
        storage.copy_file(os.path.join(written, path), storage.join(folder, path))


class _Exported(tf.Module):
    """The module that is saved: the functions of the signatures, and `score_rows`, which our own scorer calls."""

    def __init__(self, network: TextNetwork, task: str, columns: SignatureColumns) -> None:
        super().__init__()
        self._network = network
        self._task = task
        self._columns = columns
        # What the functions use must hang on the module to be saved.
        self.weights = [variable.value for variable in network.weights.variables.values()]
        self.tokenizers = [network.tokenizers[field].table for field in network.settings.fields]
        vectors = tf.TensorSpec([None, network.settings.units], tf.float32)
        spec = {f"vectors/{field}": vectors for field in network.settings.fields}
        spec |= {f"rows/{field}": tf.TensorSpec([None], tf.int32) for field in network.settings.fields}
        self.score_rows = tf.function(self._score_rows, input_signature=[spec | network.wide_spec()], autograph=False)

    def _score_rows(self, batch: dict[str, Any]) -> Any:
        """Score distinct vectors/FIELD [U, units], rows/FIELD [B] and bags of the network: float32 [B] or [B, K]."""
        vectors = {
            field: tf.gather(batch[f"vectors/{field}"], batch[f"rows/{field}"])
            for field in self._network.settings.fields
        }
        return self._network.score(vectors, batch, training=False)

    def signatures(self) -> dict[str, Any]:
        fields = self._columns.fields.values()
        texts = {name: tf.TensorSpec([None], tf.string) for name in fields}
        vectors = {name: tf.TensorSpec([None, self._network.settings.units], tf.float32) for name in fields}
        bags = self._bag_specs()
        # Traced once for all that call them. No attributes, which would be saved by themselves too.
        encode, score = tf.function(self._encode, autograph=False), tf.function(self._score, autograph=False)
        return {
            "serving_default": _signature(lambda given: score(encode(given), given), texts | bags),
            "embeddings": _signature(lambda given: encode(given), texts),
            "score_from_embeddings": _signature(lambda given: score(given, given), vectors | bags),
        }

    def _bag_specs(self) -> dict[str, Any]:
        columns = self._columns
        specs = {name: tf.TensorSpec([None, columns.features[bag]], tf.float32) for bag, name in columns.dense.items()}
        for name in columns.sparse.values():
            specs[f"{name}_indices"] = tf.TensorSpec([None, None], tf.int64)
            specs[f"{name}_values"] = tf.TensorSpec([None, None], tf.float32)
        return specs

    def _encode(self, given: dict[str, Any]) -> dict[str, Any]:
        network = self._network
        return {
            name: network.encode(field, network.tokenize(field, given[name]), training=False)
            for field, name in self._columns.fields.items()
        }

    def _score(self, vectors: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
        columns = self._columns
        batch = {f"dense/{bag}": given[name] for bag, name in columns.dense.items()}
        for bag, name in columns.sparse.items():
            batch |= _entries(bag, given[f"{name}_indices"], given[f"{name}_values"], columns.features[bag])
        of_fields = {field: vectors[name] for field, name in columns.fields.items()}
        scores = self._network.score(of_fields, batch, training=False)
        if self._task == "multiclass_classification":
            return {"logits": scores, "probabilities": tf.nn.softmax(scores)}
        if self._task == "multilabel_classification":
            return {"logits": scores, "probabilities": tf.nn.sigmoid(scores)}
        return {"score": scores}


def _signature(function: Callable[[dict[str, Any]], dict[str, Any]], specs: dict[str, Any]) -> Any:
    """Make a signature whose inputs have the names of the specs."""

    def by_position(*given: Any) -> dict[str, Any]:
        return function(dict(zip(specs, given, strict=True)))

    named = [tf.TensorSpec(spec.shape, spec.dtype, name=name) for name, spec in specs.items()]
    return tf.function(by_position, autograph=False).get_concrete_function(*named)


def _entries(bag: str, indices: Any, values: Any, features: int) -> dict[str, Any]:
    """Unpad the entries of a sparse bag, as the network takes them."""
    places = tf.where((indices >= 0) & (indices < features))
    return {
        f"indices/{bag}": tf.cast(tf.gather_nd(indices, places), tf.int32),
        f"values/{bag}": tf.gather_nd(values, places),
        f"entry_rows/{bag}": tf.cast(places[:, 0], tf.int32),
    }
