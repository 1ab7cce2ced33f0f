"""The network's score, written out in NumPy from the fields' vectors; its weights, and one trace for all batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from gdmix_core.errors import DataError
from gdmix_core.text.network.interactions import SHORT
from gdmix_core.text.network.network import TextNetwork
from gdmix_core.text.network_inputs import NetworkInputs
from tests.text.text_model import IDS, batch_of, network_inputs, raw_rows, text_model, text_network

ROWS = 12


def weights_of(network: TextNetwork) -> dict[str, NDArray[np.float32]]:
    return network.weights.arrays()


def expected_scores(network: TextNetwork, raw: dict[str, Any]) -> NDArray[np.float64]:
    """[B, outputs]. The encoder's vectors are taken from the network, everything else is written out."""
    settings, w = network.settings, weights_of(network)
    vectors = {}
    for field in settings.text_fields:
        tokens = network.tokenize(field, tf.constant(raw[field]))
        vectors[field] = network.encode(field, tokens, training=False).numpy()
    for field in settings.id_fields:
        means = []
        for text in raw[field]:
            rows = [IDS.index(word) + 2 if word in IDS else 1 for word in text.split()]
            means.append(w[f"ids/{field}"][rows].mean(axis=0) if rows else np.zeros(settings.id_embedding))
        vectors[field] = np.array(means) @ w[f"field/{field}/kernel"] + w[f"field/{field}/bias"]
    sides = {}
    for side, fields in [("user", settings.user_fields), ("document", settings.document_fields)]:
        sides[side] = [vectors[field] for field in fields]
        if settings.combine_fields and len(fields) > 1:
            kernel, bias = w[f"combined/{side}/kernel"], w[f"combined/{side}/bias"]
            sides[side] = [np.tanh(np.hstack(sides[side]) @ kernel + bias)]
    parts = []
    for kind in settings.interactions if sides["user"] else ["concat"]:
        if kind == "concat":
            parts += sides["user"] + sides["document"]
            continue
        for u in sides["user"]:
            for d in sides["document"]:
                dot = np.sum(u * d, axis=1, keepdims=True)
                norms = np.sqrt((np.sum(u**2, 1, keepdims=True) + SHORT) * (np.sum(d**2, 1, keepdims=True) + SHORT))
                parts.append({"dot": dot, "cosine": dot / norms, "hadamard": u * d, "difference": u - d}[kind])
    linear = np.zeros((ROWS, network.inputs.outputs))
    for bag in settings.dense:
        parts.append(np.tanh(raw[bag] * w[f"dense/{bag}/scale"] + w[f"dense/{bag}/shift"]))
        if bag in settings.linear_bags:
            linear += raw[bag] @ w[f"linear/{bag}"]
    for bag in settings.sparse:
        matrix = np.zeros((ROWS, 7))
        for row, (indices, values) in enumerate(zip(raw[f"{bag}_indices"], raw[f"{bag}_values"], strict=True)):
            for index, value in zip(indices, values, strict=True):
                matrix[row, index] += value if index >= 0 else 0.0
        parts.append(matrix @ w[f"sparse/{bag}"])
        if bag in settings.linear_bags:
            linear += matrix @ w[f"linear/{bag}"]
    x = np.hstack(parts)
    for number in range(len(settings.hidden)):
        x = x @ w[f"hidden/{number}/kernel"] + w[f"hidden/{number}/bias"]
        x = {"relu": lambda v: np.maximum(v, 0), "tanh": np.tanh}[settings.activation](x)
    return x @ w["output/kernel"] + w["output/bias"] + linear


@pytest.mark.parametrize(
    "options",
    [
        {"interactions": ["cosine", "dot", "hadamard", "difference", "concat"]},
        {"combine_fields": True, "document": ["title", "text"], "interactions": ["concat"], "activation": "tanh"},
        {"document_ids": ["author"], "linear": ["tags"], "hidden": []},
        {"query": None, "user_ids": [], "hidden": [5, 3], "linear": ["context"]},
        {"outputs": 3, "dense": [], "linear": []},
        {"document": [], "document_ids": ["author"], "query": None, "sparse": []},
    ],
)
def test_the_score_is_its_formula(options: dict[str, Any]) -> None:
    network = text_network(**options)
    raw = raw_rows(ROWS) | {"text": raw_rows(ROWS, 1)["title"], "author": raw_rows(ROWS, 2)["user"]}
    expected = expected_scores(network, raw)
    found = network(batch_of(network, raw), training=False)
    assert found.dtype == tf.float32
    np.testing.assert_allclose(found, expected if network.inputs.outputs > 1 else expected[:, 0], atol=1e-4)
    assert np.std(expected, axis=0).max() > 0.05


def test_one_trace_serves_batches_of_every_size() -> None:
    network = text_network()

    def scores_and_gradients(batch: dict[str, Any]) -> tuple[Any, list[Any]]:
        with tf.GradientTape() as tape:
            scores = network(batch, training=True)
        gradients = tape.gradient(scores, network.trainable_variables)
        return scores, [tf.convert_to_tensor(gradient) for gradient in gradients]

    traced = tf.function(scores_and_gradients, input_signature=[network.batch_spec()])
    for rows in (1, 5, 9, 0):
        batch = batch_of(network, raw_rows(rows, seed=rows))
        scores, gradients = traced(batch)
        np.testing.assert_allclose(scores, network(batch, False), atol=1e-5)
        assert any(np.any(gradient) for gradient in gradients) == (rows > 0)
    assert traced.experimental_get_tracing_count() == 1


def test_every_weight_is_trained() -> None:
    network = text_network(interactions=["cosine", "dot"])
    batch = batch_of(network, raw_rows(60))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(network(batch, training=True) ** 2)
    gradients = tape.gradient(total, network.trainable_variables)
    for name, gradient in zip(network.weights.variables, gradients, strict=True):
        assert gradient is not None, name
        assert np.abs(tf.convert_to_tensor(gradient).numpy()).max() > 0, name


def test_gradients_are_bounded_where_a_text_has_no_words() -> None:
    """At first its vector is zero, where a cosine's gradient would be as large as the inverse of what is added."""
    settings = text_model(interactions=["cosine"])
    network = TextNetwork(settings, network_inputs(settings))
    batch = batch_of(network, raw_rows(9) | {"query": [""] * 9})
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(network(batch, training=True))
    assert float(tf.linalg.global_norm(tape.gradient(total, network.trainable_variables))) < 1e3


def test_wide_features_start_without_a_linear_score() -> None:
    settings = text_model()
    network = TextNetwork(settings, network_inputs(settings))
    for bag in ("context", "tags"):
        np.testing.assert_array_equal(weights_of(network)[f"linear/{bag}"], 0)


def test_initial_weights_depend_on_the_seed_alone() -> None:
    def initial(**options: Any) -> dict[str, NDArray[np.float32]]:
        settings = text_model(**options)
        return weights_of(TextNetwork(settings, network_inputs(settings)))

    first, again, other = initial(), initial(), initial(seed=1)
    for name, value in first.items():
        np.testing.assert_array_equal(value, again[name])
        if name.endswith("kernel"):
            assert np.abs(value - other[name]).max() > 1e-3, name
    # A field more leaves the weights of the others as they were.
    np.testing.assert_array_equal(first["field/title/kernel"], initial(user=["bio"])["field/title/kernel"])


def test_weights_are_saved_and_loaded_by_name(tmp_path: Path) -> None:
    network, other = text_network(seed=1), text_network(seed=2)
    network.weights.save(str(tmp_path / "weights.npz"))
    other.weights.load(str(tmp_path / "weights.npz"))
    for one, two in zip(weights_of(network).values(), weights_of(other).values(), strict=True):
        np.testing.assert_array_equal(one, two)
    other.weights.assign({name: 2 * array for name, array in weights_of(network).items()})
    np.testing.assert_array_equal(next(iter(weights_of(other).values())), 2 * next(iter(weights_of(network).values())))


def test_weights_of_another_network_are_refused_whole(tmp_path: Path) -> None:
    network = text_network()
    path = str(tmp_path / "weights.npz")
    before = weights_of(network)
    for options, message in [
        ({"units": 5}, "field/title/kernel has shape"),
        ({"hidden": []}, "lack hidden/0/kernel"),
        ({"user": ["bio"]}, "have encoder/bio"),
    ]:
        text_network(**options).weights.save(path)
        with pytest.raises(DataError, match=message):
            network.weights.load(path)
    (tmp_path / "weights.npz").write_bytes(b"nothing")
    with pytest.raises(DataError, match="no archive of weights"):
        network.weights.load(path)
    with pytest.raises(DataError, match="no such file"):
        network.weights.load(str(tmp_path / "none.npz"))
    for one, two in zip(before.values(), weights_of(network).values(), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("encoder", ["cnn", "gru", "transformer"])
def test_mixed_precision_keeps_weights_and_scores_in_float32(precision: str, encoder: str) -> None:
    options: dict[str, Any] = {"encoder": {"type": encoder}}
    if encoder == "transformer":
        options["encoder"] |= {"width": 8, "layers": 1, "dropout": 0.0}
    exact, mixed = text_network(**options), text_network(**options, precision=precision)
    assert {variable.dtype for variable in mixed.weights.variables.values()} == {"float32"}
    batch = batch_of(exact, raw_rows(ROWS))
    scores = mixed(batch, training=True)
    assert scores.dtype == tf.float32
    difference = np.abs(scores - exact(batch, training=False)).max()
    assert 0 < difference < 0.1


def test_inputs_survive_json_and_what_is_none_is_named() -> None:
    inputs = NetworkInputs(("a", "ü"), {"user": ("1", "A")}, {"tags": 7}, 3)
    assert NetworkInputs.from_json(inputs.to_json()) == inputs
    for text in ("{}", "[]", "no"):
        with pytest.raises(DataError, match="train the model again"):
            NetworkInputs.from_json(text)
