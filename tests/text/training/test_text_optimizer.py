"""Updates of weights against the optimizers' formulas in NumPy, over several steps."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from gdmix_core.config.text import Optimizer, TextModel
from gdmix_core.text.training.optimizer import Update, WarmUpAndDecay
from tests.text.text_model import text_model

STEPS, RATE, DECAY = 6, 0.1, 0.3
SHAPES = {"encoder": (3, 2), "kernel": (2, 4), "bias": (4,)}
Arrays = dict[str, NDArray[Any]]


class SmallNetwork:
    """The three kinds of weights an update tells apart."""

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self.named = {
            name: keras.Variable(random.standard_normal(shape).astype(np.float32)) for name, shape in SHAPES.items()
        }
        self.trainable_variables = list(self.named.values())
        self.encoder_variables = [self.named["encoder"]]

    def arrays(self) -> Arrays:
        return {name: variable.numpy().astype(float) for name, variable in self.named.items()}


def settings_of(precision: str = "float32", **options: Any) -> TextModel:
    decay = {} if options.get("name") in ("adam", "sgd") else {"weight_decay": DECAY}
    fixed = {"learning_rate": RATE, **decay, "warmup": 0.0, "decay": "none", "gradient_norm": 0.0}
    return text_model(precision=precision, optimizer=fixed | options)


def update_of(network: SmallNetwork, settings: TextModel, steps: int = STEPS) -> Update:
    return Update(settings, network, steps)  # type: ignore[arg-type]


def gradients_of(step: int) -> Arrays:
    random = np.random.default_rng(100 + step)
    return {name: random.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}


def numpy_step(name: str, x: Any, g: Any, state: dict[str, Any], t: int, rate: float, decay: float) -> Any:
    """x after step t = 1, 2, …; Kingma and Ba 2015, Loshchilov and Hutter 2019, You et al. 2020."""
    x = x - rate * decay * x
    if name == "sgd":
        return x - rate * g
    m = state["m"] = 0.9 * state.get("m", 0) + 0.1 * g
    v = state["v"] = 0.999 * state.get("v", 0) + 0.001 * g**2
    m, v = m / (1 - 0.9**t), v / (1 - 0.999**t)
    if name == "lamb":
        direction = m / (np.sqrt(v) + 1e-6)
        return x - rate * np.linalg.norm(x) / np.linalg.norm(direction) * direction
    return x - rate * m / (np.sqrt(v) + 1e-7)


@pytest.mark.parametrize("name", ["adamw", "lamb", "adam", "sgd"])
def test_updates_follow_the_formulas(name: str) -> None:
    network = SmallNetwork()
    update = update_of(network, settings_of(name=name, encoder_learning_rate=0.01))
    expected = network.arrays()
    states: dict[str, dict[str, Any]] = {part: {} for part in SHAPES}
    # A step as a training loop has it: traced once.
    spec = [[tf.TensorSpec(shape, tf.float32) for shape in SHAPES.values()]]
    apply = tf.function(update.apply, input_signature=spec)
    for step in range(STEPS):
        gradients = gradients_of(step)
        apply([tf.constant(gradient) for gradient in gradients.values()])
        for part in SHAPES:
            rate = 0.01 if part == "encoder" else RATE
            decay = DECAY if name in ("adamw", "lamb") and part != "bias" else 0.0
            expected[part] = numpy_step(name, expected[part], gradients[part], states[part], step + 1, rate, decay)
    for part, array in network.arrays().items():
        np.testing.assert_allclose(array, expected[part], rtol=2e-4, atol=1e-6, err_msg=part)


def test_the_rate_of_all_is_that_of_the_encoder_by_default() -> None:
    same, named = SmallNetwork(), SmallNetwork()
    update_of(same, settings_of()).apply(list(gradients_of(0).values()))
    update_of(named, settings_of(encoder_learning_rate=RATE)).apply(list(gradients_of(0).values()))
    for part, array in same.arrays().items():
        np.testing.assert_allclose(array, named.arrays()[part], rtol=1e-6)


@pytest.mark.parametrize("decay", ["linear", "cosine", "none"])
def test_the_rate_rises_and_falls(decay: str) -> None:
    schedule = WarmUpAndDecay(Optimizer(warmup=0.3, decay=decay), 2.0, 10)  # type: ignore[arg-type]
    rates = [float(schedule(tf.constant(step, tf.int64))) for step in range(12)]
    np.testing.assert_allclose(rates[:4], [0.5, 1.0, 1.5, 2.0])
    shares = [min((step - 3) / 7, 1.0) for step in range(3, 12)]
    expected = {
        "linear": [2 * (1 - share) for share in shares],
        "cosine": [1 + math.cos(math.pi * share) for share in shares],
        "none": [2.0] * 9,
    }
    np.testing.assert_allclose(rates[3:], expected[decay], atol=1e-6)


def test_the_rate_in_use_is_told_and_frozen_weights_do_not_move() -> None:
    network = SmallNetwork()
    frozen = network.encoder_variables[0].numpy()
    network.trainable_variables = network.trainable_variables[1:]
    update = update_of(network, settings_of(decay="linear", encoder_learning_rate=0), steps=4)
    rates = []
    for step in range(4):
        rates.append(float(update.learning_rate()))
        update.apply(list(gradients_of(step).values())[1:])
    np.testing.assert_allclose(rates, RATE * np.array([1, 0.75, 0.5, 0.25]), rtol=1e-6)
    np.testing.assert_array_equal(network.encoder_variables[0].numpy(), frozen)


def test_gradients_are_clipped_to_their_norm_over_all_weights() -> None:
    network = SmallNetwork()
    before, gradients = network.arrays(), gradients_of(0)
    norm = math.sqrt(sum(float(np.sum(gradient**2)) for gradient in gradients.values()))
    update_of(network, settings_of(name="sgd", gradient_norm=norm / 4)).apply(list(gradients.values()))
    for part, array in network.arrays().items():
        np.testing.assert_allclose(array, before[part] - RATE * gradients[part] / 4, rtol=1e-5)


def test_rows_of_a_table_that_were_read_twice_are_summed_before_clipping() -> None:
    network = SmallNetwork()
    before = network.arrays()
    rows = tf.IndexedSlices(tf.ones([2, 2]), tf.constant([1, 1]), tf.constant([3, 2]))
    update_of(network, settings_of(name="sgd", gradient_norm=1.0)).apply([rows, None, None])
    moved = (before["encoder"] - network.arrays()["encoder"]) / RATE
    np.testing.assert_allclose(moved, [[0, 0], [math.sqrt(0.5)] * 2, [0, 0]], atol=1e-5)


def test_a_step_that_overflows_in_float16_changes_no_weight_and_halves_the_scale() -> None:
    network = SmallNetwork()
    update = update_of(network, settings_of("mixed_float16", weight_decay=0.0))
    scale = float(update.scaled(tf.constant(1.0)))
    before = network.arrays()
    update.apply([np.full(shape, np.inf, np.float32) for shape in SHAPES.values()])
    for part, array in network.arrays().items():
        np.testing.assert_array_equal(array, before[part])
    assert float(update.scaled(tf.constant(1.0))) == scale / 2
    # The next one is as without a scale.
    exact = SmallNetwork()
    update_of(exact, settings_of(name="sgd")).apply(list(gradients_of(0).values()))
    network = SmallNetwork()
    update = update_of(network, settings_of("mixed_float16", name="sgd"))
    update.apply([gradient * scale for gradient in gradients_of(0).values()])
    for part, array in network.arrays().items():
        np.testing.assert_allclose(array, exact.arrays()[part], rtol=1e-5)


def test_a_checkpoint_of_its_variables_goes_on_where_it_was() -> None:
    network = SmallNetwork()
    update = update_of(network, settings_of(decay="linear"))
    for step in range(2):
        update.apply(list(gradients_of(step).values()))
    other = SmallNetwork()
    restored = update_of(other, settings_of(decay="linear"))
    for mine, theirs in [
        *zip(other.trainable_variables, network.trainable_variables, strict=True),
        *zip(restored.variables, update.variables, strict=True),
    ]:
        mine.assign(theirs.numpy())
    for one in (update, restored):
        one.apply(list(gradients_of(2).values()))
    for part, array in network.arrays().items():
        np.testing.assert_array_equal(array, other.arrays()[part])


# Two replicas in one process; the devices must be made before TensorFlow starts, hence a process of its own.
TWO_REPLICAS = """
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from tests.text.training.test_text_optimizer import SHAPES, SmallNetwork, gradients_of, settings_of, update_of
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
# sgd shows a gradient summed twice, from which adam's steps would not differ.
for name, precision in [("sgd", "float32"), ("adamw", "mixed_float16")]:
    settings = settings_of(precision, name=name, gradient_norm=1e4, decay="linear")
    alone = SmallNetwork()
    update = update_of(alone, settings)
    with strategy.scope():
        together = SmallNetwork()
        shared = update_of(together, settings)

    @tf.function
    def step(gradients):
        def in_replica(gradients):
            replica = tf.distribute.get_replica_context()
            half = [gradient / 2 for gradient in gradients]
            shared.apply(replica.all_reduce(tf.distribute.ReduceOp.SUM, half))
        strategy.run(in_replica, (gradients,))

    for number in range(4):
        gradients = [tf.constant(1000 * gradient) for gradient in gradients_of(number).values()]
        update.apply(gradients)
        step(gradients)
    for part, array in alone.arrays().items():
        for copy in together.named[part].value.values:
            np.testing.assert_allclose(copy.numpy(), array, rtol=1e-5, atol=1e-6)
"""


@pytest.mark.slow
@pytest.mark.tensorflow
def test_replicas_do_not_sum_gradients_a_second_time() -> None:
    repository = Path(__file__).resolve().parents[3]
    subprocess.run([sys.executable, "-c", TWO_REPLICAS], cwd=repository, check=True)
