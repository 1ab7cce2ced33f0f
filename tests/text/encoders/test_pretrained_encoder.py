"""Transformer encoders from folders: BERT as Hugging Face saves it, against BERT in NumPy; and Keras models."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from gdmix_core.errors import ConfigError, DataError
from gdmix_core.text.network.network import TextNetwork
from gdmix_core.text.network_inputs import NetworkInputs
from gdmix_core.text.serving.saved_model import write_saved_model
from gdmix_core.text.serving.scorer import SavedModelScorer
from gdmix_core.text.tokens.vocabulary import given_tokens
from tests.text.text_model import perturb, text_model

TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "star", "wars", "##s", "toy")
WIDTH, INNER, HEADS, LAYERS = 6, 10, 2, 2
CONFIG = {
    "model_type": "bert", "vocab_size": 9, "max_position_embeddings": 8, "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS, "hidden_size": WIDTH, "intermediate_size": INNER, "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
}  # fmt: skip
Tensors = dict[str, NDArray[np.float32]]


def bert_tensors() -> Tensors:
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (9, WIDTH),
        "embeddings.position_embeddings.weight": (8, WIDTH),
        "embeddings.token_type_embeddings.weight": (2, WIDTH),
        "embeddings.LayerNorm.weight": (WIDTH,),
        "embeddings.LayerNorm.bias": (WIDTH,),
        "pooler.dense.weight": (WIDTH, WIDTH),
    }
    for layer in range(LAYERS):
        for name, (outputs, inputs) in {
            "attention.self.query": (WIDTH, WIDTH),
            "attention.self.key": (WIDTH, WIDTH),
            "attention.self.value": (WIDTH, WIDTH),
            "attention.output.dense": (WIDTH, WIDTH),
            "intermediate.dense": (INNER, WIDTH),
            "output.dense": (WIDTH, INNER),
        }.items():
            shapes[f"encoder.layer.{layer}.{name}.weight"] = (outputs, inputs)
            shapes[f"encoder.layer.{layer}.{name}.bias"] = (outputs,)
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes[f"encoder.layer.{layer}.{name}.weight"] = (WIDTH,)
            shapes[f"encoder.layer.{layer}.{name}.bias"] = (WIDTH,)
    random = np.random.default_rng(3)
    return {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def bert(tensors: Tensors, tokens: list[int]) -> NDArray[np.float64]:
    """Last hidden states [T, width] of one text without padding."""

    def linear(x: Any, name: str) -> Any:
        return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]

    def normalized(x: Any, name: str) -> Any:
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    x = tensors["embeddings.word_embeddings.weight"][tokens] + tensors["embeddings.token_type_embeddings.weight"][0]
    x = normalized(x + tensors["embeddings.position_embeddings.weight"][: len(tokens)], "embeddings.LayerNorm")
    for number in range(LAYERS):
        name = f"encoder.layer.{number}"
        query, key, value = (
            np.split(linear(x, f"{name}.attention.self.{part}"), HEADS, axis=1) for part in ("query", "key", "value")
        )
        heads = []
        for q, k, v in zip(query, key, value, strict=True):
            agreement = np.exp(q @ k.T / math.sqrt(WIDTH / HEADS))
            heads.append(agreement / agreement.sum(1, keepdims=True) @ v)
        attended = linear(np.concatenate(heads, axis=1), f"{name}.attention.output.dense")
        x = normalized(x + attended, f"{name}.attention.output.LayerNorm")
        inner = linear(x, f"{name}.intermediate.dense")
        inner = 0.5 * inner * (1 + np.vectorize(math.erf)(inner / math.sqrt(2)))
        x = normalized(x + linear(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")
    return x


def write_bert(folder: Path, tensors: Tensors, **config: Any) -> None:
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    (folder / "vocab.txt").write_text("\n".join(TOKENS) + "\n")
    save_file(tensors, folder / "model.safetensors")


def network_of(folder: Path, tokenizer: str = "wordpiece", **options: Any) -> TextNetwork:
    encoder = {"type": "transformer", "path": str(folder), "pooling": options.pop("pooling", "first")}
    vocabulary = {"tokenizer": tokenizer}
    only_text = {"query": None, "user_ids": [], "dense": [], "sparse": []}
    settings = text_model(encoder=encoder, vocabulary=vocabulary, **(only_text | options))
    return TextNetwork(settings, NetworkInputs(tokens=given_tokens(settings) or ()))


def projected(network: TextNetwork, vectors: NDArray[Any]) -> NDArray[Any]:
    weights = network.weights.arrays()
    return np.tanh(vectors @ weights["field/title/kernel"] + weights["field/title/bias"])


@pytest.mark.parametrize("pooling", ["first", "mean"])
@pytest.mark.parametrize("names", ["plain", "prefixed", "old"])
def test_bert_is_read_and_computed_as_published(tmp_path: Path, pooling: str, names: str) -> None:
    tensors = bert_tensors()
    written = tensors
    if names == "prefixed":
        written = {f"bert.{name}": tensor for name, tensor in tensors.items()}
    if names == "old":
        new, old = ("LayerNorm.weight", "LayerNorm.bias"), ("LayerNorm.gamma", "LayerNorm.beta")
        written = {name.replace(new[0], old[0]).replace(new[1], old[1]): t for name, t in tensors.items()}
    write_bert(tmp_path, written)
    network = network_of(tmp_path, pooling=pooling)
    texts = ["stars wars", "Toy", ""]
    found = network.encode("title", network.tokenize("title", tf.constant(texts)), training=False).numpy()
    for vector, tokens in zip(found, [[2, 4, 6, 5, 3], [2, 7, 3], [2, 3]], strict=True):
        hidden = bert(tensors, tokens)
        expected = hidden[0] if pooling == "first" else hidden.mean(axis=0)
        np.testing.assert_allclose(vector, projected(network, expected), atol=1e-4)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "roberta"}, "model_type 'roberta' is not supported"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type 'relative_key' is not supported"),
        ({"hidden_act": "silu"}, "hidden_act 'silu' is not supported"),
        ({"max_position_embeddings": 5}, "set max_tokens"),
        ({"vocab_size": 7}, "the vocabulary has 8 tokens"),
        ({"intermediate_size": 11}, r"intermediate.dense.weight has shape \(10, 6\).*must be \(11, 6\)"),
        ({"num_hidden_layers": 3}, "encoder.layer.2.attention.self.query.weight is missing"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    write_bert(tmp_path, bert_tensors(), **config)
    with pytest.raises(DataError, match=message):
        network_of(tmp_path)


def test_a_folder_without_weights_or_with_another_case_is_refused(tmp_path: Path) -> None:
    write_bert(tmp_path, bert_tensors())
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    with pytest.raises(DataError, match=r"set vocabulary\.lowercase"):
        network_of(tmp_path)
    with pytest.raises(ConfigError, match="wordpiece"):
        network_of(tmp_path, tokenizer="words")
    (tmp_path / "tokenizer_config.json").unlink()
    (tmp_path / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(DataError, match="cannot be read"):
        network_of(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(DataError, match="model_type None"):
        network_of(tmp_path)


def test_the_encoder_may_stay_as_it_is(tmp_path: Path) -> None:
    write_bert(tmp_path, bert_tensors())
    network = network_of(tmp_path, optimizer={"encoder_learning_rate": 0})
    assert len(network.encoder_variables) == 3 + 1 + LAYERS * 16
    assert not {id(v) for v in network.trainable_variables} & {id(v) for v in network.encoder_variables}
    tokens = load_file(tmp_path / "model.safetensors")["embeddings.word_embeddings.weight"]
    np.testing.assert_array_equal(network.encoder_variables[0].numpy(), tokens)


def keras_model(folder: Path, width: int, length: int | None = None, pooled: bool = False, ids: int = 10) -> Any:
    given = keras.Input([length], dtype="int32")
    values = keras.layers.Embedding(ids, width)(given)
    values = keras.layers.Dropout(0.5)(values)
    outputs = keras.layers.GlobalMaxPooling1D()(values) if pooled else values
    model = keras.Model(given, outputs)
    model.save(folder / "model.keras")
    (folder / "vocab.txt").write_text("\n".join(TOKENS[4:]) + "\n")
    return model


@pytest.mark.parametrize("tokenizer", ["words", "wordpiece"])
@pytest.mark.parametrize("length", [None, 9])
def test_a_keras_model_gives_vectors_of_tokens_or_of_texts(tmp_path: Path, tokenizer: str, length: int | None) -> None:
    model = keras_model(tmp_path, 4, length)
    if tokenizer == "wordpiece":
        (tmp_path / "vocab.txt").write_text("\n".join(TOKENS) + "\n")
    network = network_of(tmp_path, tokenizer, pooling="mean")
    tokens = [2, 5] if tokenizer == "words" else [2, 4, 7, 3]
    found = network.encode("title", network.tokenize("title", tf.constant(["star toy"])), training=False).numpy()
    expected = model.get_weights()[0][tokens].mean(axis=0)
    np.testing.assert_allclose(found[0], projected(network, expected), atol=1e-6)
    assert len(network.encoder_variables) == 1


def test_batch_normalisations_of_a_keras_model_stay_as_they_are(tmp_path: Path) -> None:
    """Statistics that follow each worker's part of a batch would make the workers' copies differ."""
    given = keras.Input([None], dtype="int32")
    inner = keras.Sequential([keras.Input([None, 4]), keras.layers.BatchNormalization()])
    keras.Model(given, inner(keras.layers.Embedding(10, 4)(given))).save(tmp_path / "model.keras")
    (tmp_path / "vocab.txt").write_text("\n".join(TOKENS[4:]) + "\n")
    network = network_of(tmp_path, "words", pooling="mean")
    before = network.weights.arrays()
    network.encode("title", network.tokenize("title", tf.constant(["star toy", "wars"])), training=1)
    for (name, old), new in zip(before.items(), network.weights.arrays().values(), strict=True):
        np.testing.assert_array_equal(old, new, err_msg=name)


def test_a_keras_model_of_another_form_is_refused(tmp_path: Path) -> None:
    keras_model(tmp_path, 4, pooled=True)
    network_of(tmp_path, "words")
    keras_model(tmp_path, 4, length=3)
    with pytest.raises(DataError, match="it takes 3 tokens"):
        network_of(tmp_path, "words")
    keras_model(tmp_path, 4, ids=5)
    with pytest.raises(DataError, match="knows 5 token ids, but the vocabulary gives 6"):
        network_of(tmp_path, "words")
    keras.Sequential([keras.Input([3, 4]), keras.layers.Dense(2)]).save(tmp_path / "model.keras")
    with pytest.raises(DataError, match="must take token ids"):
        network_of(tmp_path, "words")
    (tmp_path / "model.keras").write_bytes(b"no model")
    with pytest.raises(DataError, match="not a Keras model"):
        network_of(tmp_path, "words")


@pytest.mark.parametrize("kind", ["bert", "keras"])
def test_a_pretrained_encoder_is_exported_whole(tmp_path: Path, kind: str) -> None:
    """The SavedModel needs neither folder."""
    folder = tmp_path / "pretrained"
    folder.mkdir()
    if kind == "bert":
        write_bert(folder, bert_tensors())
    else:
        keras_model(folder, 4)
    network = network_of(folder, "wordpiece" if kind == "bert" else "words")
    perturb(network)
    texts = ["stars wars", "", "toy"]
    batch = {"tokens/title": network.tokenize("title", tf.constant(texts)), "rows/title": tf.range(3)}
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(network(batch, training=1))
    assert all(gradient is not None for gradient in tape.gradient(total, network.trainable_variables))
    write_saved_model(network, str(tmp_path / "model"))
    shutil.rmtree(folder)
    found = SavedModelScorer(str(tmp_path / "model")).score({"title": pa.array(texts)}, {}, 3)
    np.testing.assert_allclose(found, network(batch, training=False), atol=1e-4)
