"""Small networks and batches for the tests of the text network."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from gdmix_core.config.text import TextModel
from gdmix_core.text.network.network import TextNetwork
from gdmix_core.text.network_inputs import NetworkInputs

WORDS = ("star", "wars", "toy", "story", "the", "ärger")
IDS = ("A", "b", "c3")
TITLES = ["Star Wars", "", "toy STORY: the Ärger", "unheard of", "the"]
QUERIES = ["star", "toy the toy", ""]
USERS = ["A b", "nobody", "", "c3 A c3 b"]


def text_model(**options: Any) -> TextModel:
    """All kinds of fields and bags, few units, no dropout, float32."""
    small: dict[str, Any] = {
        "document": ["title"],
        "query": "query",
        "user_ids": ["user"],
        "dense": ["context"],
        "sparse": ["tags"],
        "units": 6,
        "embedding": 5,
        "id_embedding": 3,
        "sparse_embedding": 2,
        "hidden": [4],
        "encoder": {"type": "cnn", "filters": 3, "windows": [1, 3]},
        "max_tokens": 7,
        "dropout": 0.0,
        "precision": "float32",
    }
    chosen = {"model": "text"} | small | options
    # What is about fields and bags that are not there would be refused.
    for key, there in (
        ("id_embedding", ("user_ids", "document_ids")),
        ("sparse_embedding", ("sparse",)),
        ("encoder", ("document", "query", "user")),
    ):
        if not any(chosen.get(name) for name in there):
            del chosen[key]
    return TextModel.model_validate(chosen)


def network_inputs(settings: TextModel, **options: Any) -> NetworkInputs:
    bags = dict.fromkeys(settings.dense, 3) | dict.fromkeys(settings.sparse, 7)
    given: dict[str, Any] = {"tokens": WORDS, "ids": dict.fromkeys(settings.id_fields, IDS), "bags": bags}
    return NetworkInputs(**(given | options))


def text_network(**options: Any) -> TextNetwork:
    """One whose weights that start at zero are not zero."""
    outputs = options.pop("outputs", 1)
    settings = text_model(**options)
    network = TextNetwork(settings, network_inputs(settings, outputs=outputs))
    perturb(network)
    return network


def perturb(network: TextNetwork) -> None:
    random = np.random.default_rng(1)
    for variable in network.weights.variables.values():
        variable.assign_add(0.2 * random.standard_normal(tuple(variable.shape)).astype(np.float32))


def raw_rows(rows: int, seed: int = 0) -> dict[str, Any]:
    """Raw features as the exported model takes them."""
    random = np.random.default_rng(seed)
    indices = random.integers(-1, 7, (rows, 3))
    return {
        "title": random.choice(TITLES, rows).tolist(),
        "query": random.choice(QUERIES, rows).tolist(),
        "user": random.choice(USERS, rows).tolist(),
        "context": random.standard_normal((rows, 3)).astype(np.float32),
        "tags_indices": indices.astype(np.int64),
        "tags_values": random.standard_normal((rows, 3)).astype(np.float32),
    }


def batch_of(network: TextNetwork, raw: dict[str, Any]) -> dict[str, Any]:
    """The network's batch of raw rows: distinct texts in the order of their text."""
    batch: dict[str, Any] = {}
    for field in network.settings.fields:
        distinct, rows = np.unique(np.array(raw[field], object), return_inverse=True)
        batch[f"tokens/{field}"] = network.tokenize(field, tf.constant(distinct.tolist(), tf.string))
        batch[f"rows/{field}"] = tf.constant(rows, tf.int32)
    for bag in network.settings.dense:
        batch[f"dense/{bag}"] = tf.constant(raw[bag])
    for bag in network.settings.sparse:
        there = raw[f"{bag}_indices"] >= 0
        batch[f"indices/{bag}"] = tf.constant(raw[f"{bag}_indices"][there], tf.int32)
        batch[f"values/{bag}"] = tf.constant(raw[f"{bag}_values"][there])
        batch[f"entry_rows/{bag}"] = tf.constant(np.nonzero(there)[0], tf.int32)
    return batch
