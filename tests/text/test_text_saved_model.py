"""The exported network: without our code, on raw features, the same scores."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from gdmix_core.data.ragged import Bag
from gdmix_core.text.network import TextNetwork
from gdmix_core.text.saved_model import write_saved_model
from gdmix_core.text.scorer import SavedModelScorer
from tests.text.text_model import batch_of, raw_rows, text_network

ROWS = 40

# In a process of its own, in an empty folder, so that nothing of this package can be imported.
SCORE = """
import json, sys
import numpy as np, tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
raw = json.load(open(sys.argv[2]))
types = {"tags_indices": tf.int64}
raw = {name: tf.constant(value, types.get(name)) for name, value in raw.items()}
scores = model.signatures["serving_default"](**raw)["score"]
fields = ["title", "query", "user"]
vectors = model.signatures["embeddings"](**{field: raw[field] for field in fields})
from_vectors = model.signatures["score_from_embeddings"](**(raw | vectors))["score"]
assert not any(name.startswith("gdmix") for name in sys.modules)
json.dump([scores.numpy().tolist(), from_vectors.numpy().tolist()], open(sys.argv[3], "w"))
"""


def bag_of(raw: dict[str, Any]) -> Bag:
    there = raw["tags_indices"] >= 0
    offsets = np.concatenate([[0], np.cumsum(there.sum(axis=1))])
    return Bag(offsets, raw["tags_indices"][there].astype(np.int32), raw["tags_values"][there])


def dense_bag_of(raw: dict[str, Any]) -> Bag:
    rows, features = raw["context"].shape
    indices = np.tile(np.arange(features, dtype=np.int32), rows)
    return Bag(np.arange(rows + 1) * features, indices, raw["context"].ravel())


def scored(folder: Path, raw: dict[str, Any], network: TextNetwork) -> np.ndarray:
    texts = {field: pa.array(raw[field]) for field in network.settings.fields}
    return SavedModelScorer(str(folder)).score(texts, {"tags": bag_of(raw), "context": dense_bag_of(raw)}, ROWS)


@pytest.mark.slow
@pytest.mark.tensorflow
def test_a_process_without_our_code_gives_the_same_scores(tmp_path: Path) -> None:
    network = text_network()
    raw = raw_rows(ROWS)
    expected = network(batch_of(network, raw), training=False).numpy()
    write_saved_model(network, str(tmp_path / "model"))
    listed = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in raw.items()}
    (tmp_path / "raw.json").write_text(json.dumps(listed))
    arguments = [str(tmp_path / name) for name in ("model", "raw.json", "scores.json")]
    subprocess.run([sys.executable, "-c", SCORE, *arguments], cwd=tmp_path, check=True, timeout=120)
    scores, from_vectors = json.loads((tmp_path / "scores.json").read_text())
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    np.testing.assert_allclose(from_vectors, expected, atol=1e-5)
    np.testing.assert_allclose(scored(tmp_path / "model", raw, network), expected, atol=1e-5)
    assert np.std(expected) > 0.1
