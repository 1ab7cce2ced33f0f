"""Training of a text network: rows a second of ours, beside Keras' model.fit of the same network on the same data.

python benchmarks/text_training.py [--rows 40000] [--seconds 15]

A CNN over titles with wide features, the defaults of `model: text`. First titles that many rows share, as those of
films or news do, which ours encodes once a batch; then a title of its own for every row. model.fit is given the titles
tokenised and padded to the longest of all, from a tf.data pipeline that shuffles and prefetches.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import machine

from gdmix_core.text.training.group import start_tensorflow

start_tensorflow(machine.cores())

import keras  # noqa: E402
import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import tensorflow as tf  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from gdmix_core.config.text import CnnEncoder, TextModel  # noqa: E402
from gdmix_core.data.ragged import Bag  # noqa: E402
from gdmix_core.text.network.network import TextNetwork  # noqa: E402
from gdmix_core.text.network_inputs import NetworkInputs  # noqa: E402
from gdmix_core.text.network_rows import NetworkRows  # noqa: E402
from gdmix_core.text.tokens.distinct_texts import distinct_texts, encode  # noqa: E402
from gdmix_core.text.training.optimizer import Update  # noqa: E402
from gdmix_core.text.training.row_order import OrderOfRows  # noqa: E402
from gdmix_core.text.training.synchronous import batches  # noqa: E402
from gdmix_core.text.training.train_step import TrainStep  # noqa: E402
from gdmix_core.workers.all_reduce import SingleWorker  # noqa: E402
from gdmix_core.workers.prefetch import prefetch  # noqa: E402

TASK = "logistic_regression"
WIDE = 20
SETTINGS = TextModel.model_validate({"model": "text", "document": ["title"], "dense": ["wide"], "epochs": 1000})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--words", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=15.0)
    arguments = parser.parse_args()
    print(machine.describe())
    for titles in (2_000, arguments.rows):
        print(f"{arguments.rows} rows, {titles} titles of 1 to 15 words, batches of {SETTINGS.batch}")
        inputs, rows = problem(arguments.rows, titles, arguments.words)
        # In turns, so that both meet the same machine.
        mine, theirs = ours(inputs, rows), fit(inputs, rows)
        rates = [(mine(arguments.seconds / 3), theirs(arguments.seconds / 3)) for _ in range(3)]
        own, peer = (float(np.median(column)) for column in zip(*rates, strict=True))
        print(f"ours            {own:9.0f} rows/s   {own / peer:5.2f} x model.fit")
        print(f"Keras model.fit {peer:9.0f} rows/s")


def problem(rows: int, titles: int, words: int) -> tuple[NetworkInputs, NetworkRows]:
    random = np.random.default_rng(0)
    vocabulary = [f"word{number}" for number in range(words)]
    drawn = random.choice(words, (titles, 15), p=falling(words))
    length = 1 + random.binomial(14, 0.35, titles)
    texts = [" ".join(vocabulary[word] for word in drawn[k, : length[k]]) for k in range(titles)]
    which = random.choice(titles, rows, p=falling(titles)) if titles < rows else np.arange(rows)
    inputs = NetworkInputs(tokens=tuple(vocabulary), bags={"wide": WIDE})
    network = TextNetwork(SETTINGS, inputs)
    wide = random.standard_normal((rows, WIDE)).astype(np.float32)
    margin = wide[:, 0] + 0.5 * random.standard_normal(words)[drawn[which, :3]].sum(axis=1)
    indices = np.tile(np.arange(WIDE, dtype=np.int32), rows)
    column = encode(pa.chunked_array([pa.array(texts).take(pa.array(which))]))
    return inputs, NetworkRows(
        texts={"title": distinct_texts(column, lambda some: network.tokenize("title", some))},
        bags={"wide": Bag(np.arange(0, rows * WIDE + 1, WIDE), indices, wide.ravel())},
        dense={"wide": WIDE},
        label=(random.random(rows) < 1 / (1 + np.exp(-margin))).astype(np.float32),
        weight=np.ones(rows, np.float32),
        offset=np.zeros(rows, np.float32),
        group=np.zeros(rows, np.int32),
        classes=None,
        outputs=1,
    )


def falling(count: int) -> NDArray[np.float64]:
    """How often each of so many words or titles occurs: few often, many seldom (Zipf)."""
    share = 1.0 / np.arange(10, count + 10)
    return np.asarray(share / share.sum())


def ours(inputs: NetworkInputs, rows: NetworkRows) -> Any:
    network = TextNetwork(SETTINGS, inputs)
    order = OrderOfRows(len(rows), 0, len(rows), SETTINGS.batch, SETTINGS.seed)
    step = TrainStep(network, Update(SETTINGS, network, order.steps * SETTINGS.epochs), TASK, SingleWorker())
    state = {"epoch": 0, "step": 0}

    def train(seconds: float) -> float:
        done, began = 0, time.perf_counter()
        while True:
            order.begin(state["epoch"])
            for size, batch, targets in prefetch(batches(order, rows, 0)):
                step.take(batch, targets, state["step"])
                state["step"] += 1
                done += size
                if time.perf_counter() - began > seconds:
                    return done / (time.perf_counter() - began)
            state["epoch"] += 1

    train(2.0)
    return train


def fit(inputs: NetworkInputs, rows: NetworkRows) -> Any:
    model = plain_model(inputs)
    data = plain_data(rows)

    class Stop(keras.callbacks.Callback):
        def __init__(self, seconds: float) -> None:
            super().__init__()
            self.steps, self._end = 0, time.perf_counter() + seconds

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.steps += 1
            self.model.stop_training = time.perf_counter() > self._end

    def train(seconds: float) -> float:
        stop, began = Stop(seconds), time.perf_counter()
        model.fit(data, epochs=1000, shuffle=False, verbose=0, callbacks=[stop])
        return stop.steps * SETTINGS.batch / (time.perf_counter() - began)

    train(2.0)
    return train


def plain_model(inputs: NetworkInputs) -> Any:
    """The same layers, as one would write them with Keras alone."""
    layers = keras.layers
    assert isinstance(SETTINGS.encoder, CnnEncoder)
    tokens = keras.Input([None], dtype="int32", name="tokens")
    wide = keras.Input([WIDE], name="wide")
    vectors = layers.Embedding(len(inputs.tokens) + 2, SETTINGS.embedding)(tokens)
    encoder = SETTINGS.encoder
    windows = [
        layers.GlobalMaxPooling1D()(layers.Conv1D(encoder.filters, window, padding="same", activation="relu")(vectors))
        for window in encoder.windows
    ]
    title = layers.Dense(SETTINGS.units, "tanh")(layers.Concatenate()(windows))
    scaled = layers.Activation("tanh")(layers.Rescaling(1.0)(wide))
    hidden = layers.Concatenate()([title, scaled])
    for size in SETTINGS.hidden:
        hidden = layers.Dropout(SETTINGS.dropout)(layers.Dense(size, SETTINGS.activation)(hidden))
    score = layers.Add()([layers.Dense(1)(hidden), layers.Dense(1, use_bias=False)(wide)])
    model = keras.Model([tokens, wide], score)
    options = SETTINGS.optimizer
    model.compile(
        keras.optimizers.AdamW(
            options.learning_rate, weight_decay=options.weight_decay, global_clipnorm=options.gradient_norm or None
        ),
        keras.losses.BinaryCrossentropy(from_logits=True),
    )
    return model


def plain_data(rows: NetworkRows) -> Any:
    everything = np.arange(len(rows))
    tokens, which = rows.texts["title"].of_rows(everything)
    wide: NDArray[np.float32] = rows.batch(everything)["dense/wide"]
    features = {"tokens": tokens[which], "wide": wide}
    data = tf.data.Dataset.from_tensor_slices((features, rows.label, rows.weight))
    return data.shuffle(10_000).batch(SETTINGS.batch).prefetch(tf.data.AUTOTUNE)


if __name__ == "__main__":
    main()
