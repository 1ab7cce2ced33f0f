"""Encoders of texts against formulas in NumPy; and what holds for all of them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from gdmix_core.text.network.network import TextNetwork
from tests.text.text_model import WORDS, text_network

ENCODERS: dict[str, dict[str, Any]] = {
    "cnn": {"type": "cnn", "filters": 3, "windows": [1, 3]},
    "lstm": {"type": "lstm", "dropout": 0.3},
    "gru": {"type": "gru", "layers": 2, "bidirectional": True},
    "first": {"type": "transformer", "layers": 1, "heads": 2, "width": 4, "feed_forward": 6},
    "mean": {"type": "transformer", "layers": 2, "heads": 2, "width": 4, "feed_forward": 6, "pooling": "mean"},
}
# Two tokens, five (as many as there may be of them here), none.
TOKENS = np.array([[2, 4, 0, 0, 0], [3, 1, 5, 2, 2], [0, 0, 0, 0, 0]], np.int32)


def weights_of(network: TextNetwork) -> dict[str, NDArray[np.float32]]:
    return network.weights.arrays()


def encode(network: TextNetwork, tokens: NDArray[np.int32], training: bool = False) -> NDArray[np.float32]:
    return network.encode("title", tf.constant(tokens), training).numpy()


@pytest.fixture(scope="module", params=ENCODERS)
def network(request: pytest.FixtureRequest) -> TextNetwork:
    return text_network(encoder=ENCODERS[request.param])


def test_padding_and_the_other_texts_of_a_batch_change_nothing(network: TextNetwork) -> None:
    together = encode(network, TOKENS)
    assert np.isfinite(together).all()
    assert np.abs(together[0] - together[1]).max() > 0.01
    for row, vector in zip(TOKENS, together, strict=True):
        alone = row[row > 0][np.newaxis, :]
        np.testing.assert_allclose(encode(network, alone)[0], vector, atol=1e-6)
        np.testing.assert_allclose(encode(network, np.pad(alone, [(0, 0), (0, 2)]))[0], vector, atol=1e-6)


def test_no_texts_at_all(network: TextNetwork) -> None:
    assert encode(network, np.zeros((0, 5), np.int32)).shape == (0, 6)


def test_every_weight_of_the_encoder_is_trained(network: TextNetwork) -> None:
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(network.encode("title", tf.constant(TOKENS), True) ** 2)
        total += tf.reduce_sum(network.encode("query", tf.constant(TOKENS), True) ** 2)
    for variable, gradient in zip(
        network.encoder_variables, tape.gradient(total, network.encoder_variables), strict=True
    ):
        assert gradient is not None, variable.path
        assert np.abs(tf.convert_to_tensor(gradient).numpy()).max() > 0, variable.path


def test_dropout_is_for_training_alone() -> None:
    network = text_network(encoder=ENCODERS["first"] | {"dropout": 0.5})
    assert np.abs(encode(network, TOKENS) - encode(network, TOKENS, training=True)).max() > 1e-3
    np.testing.assert_array_equal(encode(network, TOKENS), encode(network, TOKENS))


def test_cnn_takes_the_largest_response_of_every_window() -> None:
    network = text_network(encoder=ENCODERS["cnn"])
    weights = weights_of(network)
    for row, found in zip(TOKENS, encode(network, TOKENS), strict=True):
        words = [weights["encoder/tokens"][token] for token in row if token]
        features: list[float] = []
        for place, window in enumerate([1, 3]):
            name = f"encoder/title/{place}_window_{window}"
            kernel, bias = weights[f"{name}/kernel"], weights[f"{name}/bias"]
            padded = [*words, *[np.zeros(5)] * (window - 1)]
            responses = [
                np.maximum(np.tensordot(np.array(padded[start : start + window]), kernel, 2) + bias, 0)
                for start in range(len(words))
            ]
            features += np.max(responses, axis=0).tolist() if responses else [0.0] * 3
        expected = np.tanh(np.array(features) @ weights["field/title/kernel"] + weights["field/title/bias"])
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_filters_are_separate_for_every_field_and_the_recurrent_encoder_is_shared() -> None:
    cnn, lstm = (text_network(encoder=ENCODERS[name]).weights.variables for name in ("cnn", "lstm"))
    assert {"encoder/title/0_window_1/kernel", "encoder/query/0_window_1/kernel"} <= set(cnn)
    assert [name for name in lstm if name.startswith("encoder/") and name.endswith("/kernel")] == [
        "encoder/0_forward/kernel"
    ]


def test_lstm_is_its_formula() -> None:
    network = text_network(encoder=ENCODERS["lstm"])
    weights = weights_of(network)
    kernel, recurrent, bias = (weights[f"encoder/0_forward/{name}"] for name in ("kernel", "recurrent_kernel", "bias"))

    def sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return 1 / (1 + np.exp(-x))

    for row, found in zip(TOKENS, encode(network, TOKENS), strict=True):
        state, cell = np.zeros(6), np.zeros(6)
        for token in row[row > 0]:
            gates = weights["encoder/tokens"][token] @ kernel + state @ recurrent + bias
            enter, forget, new, leave = np.split(gates, 4)
            cell = sigmoid(forget) * cell + sigmoid(enter) * np.tanh(new)
            state = sigmoid(leave) * np.tanh(cell)
        expected = np.tanh(state @ weights["field/title/kernel"] + weights["field/title/bias"])
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_stacked_layers_in_two_directions_are_those_of_keras() -> None:
    network = text_network(encoder=ENCODERS["gru"])
    weights = weights_of(network)
    layers = [keras.layers.Bidirectional(keras.layers.GRU(3, return_sequences=number == 0)) for number in range(2)]
    values, present = weights["encoder/tokens"][TOKENS[:2]], tf.constant(TOKENS[:2] > 0)
    for number, layer in enumerate(layers):
        layer.build((None, None, values.shape[-1]))
        layer.set_weights(
            [
                weights[f"encoder/{number}_{direction}/{name}"]
                for direction in ("forward", "backward")
                for name in ("kernel", "recurrent_kernel", "bias")
            ]
        )
        values = layer(values, mask=present).numpy()
    expected = np.tanh(values @ weights["field/title/kernel"] + weights["field/title/bias"])
    np.testing.assert_allclose(encode(network, TOKENS)[:2], expected, atol=1e-5)


def test_unknown_tokens_say_nothing_at_first() -> None:
    from gdmix_core.text.network_inputs import NetworkInputs
    from tests.text.text_model import text_model

    settings = text_model(encoder=ENCODERS["cnn"], query=None, user_ids=[], dense=[], sparse=[])
    network = TextNetwork(settings, NetworkInputs(tokens=WORDS))
    np.testing.assert_array_equal(encode(network, np.array([[1, 1]], np.int32)), np.zeros((1, 6)))


def test_recurrent_layers_read_something_of_every_text_as_cudnn_asks() -> None:
    network = text_network(encoder=ENCODERS["gru"])
    layers = network._encoder._layers
    masks = []

    def listening(layer: Any) -> Any:
        return lambda values, mask: (masks.append(mask.numpy()), layer(values, mask=mask))[1]

    network._encoder._layers = [[listening(layer) for layer in directions] for directions in layers]
    nothing = np.tanh(weights_of(network)["field/title/bias"])
    np.testing.assert_allclose(encode(network, TOKENS[2:])[0], nothing, rtol=1e-6)
    assert len(masks) == 4
    assert all(mask.any(axis=1).all() for mask in masks)
    portable = TextNetwork(network.settings, network.inputs, portable=True)
    assert not any(layer.use_cudnn for directions in portable._encoder._layers for layer in directions)
