"""Runs with a text network over titles and users, whose words and ids say something about the label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdmix_core import storage
from gdmix_core.pipeline.run import Run
from tests.run_directory import Rows, make_run

STEP = "pass_01.global.train"
WORDS = ["good", "bad", "old", "new", "big", "small", "red", "blue", "one", "two"]
EFFECT_OF_WORD = np.array([2.0, -2.0, 1.0, -1.0, 0.5, -0.5, 0.0, 0.0, 0.0, 0.0])
# A small network, which TensorFlow traces fast; without dropout.
NETWORK: dict[str, Any] = {
    "model": "text",
    "document": ["title"],
    "max_tokens": 6,
    "embedding": 8,
    "units": 8,
    "encoder": {"type": "cnn", "filters": 4, "windows": [1]},
    "hidden": [],
    "dropout": 0.0,
    "batch": 64,
    "epochs": 3,
    "patience": 50,
    "optimizer": {"learning_rate": 0.02, "warmup": 0.1},
    "tensorboard": False,
}
# Fields and bags of every kind beside.
EVERYTHING: dict[str, Any] = {
    "user_ids": ["user"],
    "dense": ["context"],
    "sparse": ["tags"],
    "id_embedding": 4,
    "sparse_embedding": 2,
    "encoder": {"type": "cnn", "filters": 4, "windows": [1, 2]},
    "interactions": ["cosine", "concat"],
    "hidden": [8],
}


def text_rows(n: int, seed: int, **columns: Any) -> Rows:
    """columns: in place of the label, weight or offset."""
    random = np.random.default_rng(seed)
    chosen = [random.integers(0, len(WORDS), random.integers(0, 5)) for _ in range(n)]
    context = random.normal(size=(n, 2))
    tags = (random.random((n, 6)) < 0.3) * random.normal(size=(n, 6))
    margin = np.array([EFFECT_OF_WORD[words].sum() for words in chosen]) + context[:, 0] + tags[:, 1]
    return Rows(
        **{
            "label": (random.random(n) < 1 / (1 + np.exp(-margin))).astype(float),
            "weight": random.uniform(0.5, 2.0, n),
            "offset": 0.1 * random.normal(size=n),
            "ids": {
                "title": [" ".join(WORDS[word] for word in words) for words in chosen],
                "user": [f"u{random.integers(0, 9)} u{random.integers(0, 9)}" for _ in range(n)],
            },
            "bags": {"context": context.astype(np.float32), "tags": tags.astype(np.float32)},
            **columns,
        }
    )


def text_run(
    root: Path,
    training: Rows,
    validation: Rows | None = None,
    config: dict[str, Any] | None = None,
    others: dict[str, Any] | None = None,
    **settings: Any,
) -> Run:
    """settings: in place of NETWORK's; config: of the pipeline; others: further coordinates. Blocks of 200 rows."""
    coordinates = {"global": {"fixed_effect": {**NETWORK, **settings}}, **(others or {})}
    pipeline = {"coordinates": coordinates, **(config or {})}
    return make_run(root, pipeline, training, validation, rows_per_block=200)


def scores(run: Run, split: str, coordinate: str = "global", number: int = 1) -> NDArray[np.float32]:
    parts = storage.list_files(run.coordinate(number, coordinate, "scores", split))
    return np.concatenate([storage.read_array(path) for path, _, _ in parts])
