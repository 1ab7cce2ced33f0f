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
import tensorflow as tf

from gdmix_core.data.ragged import Bag
from gdmix_core.errors import DataError
from gdmix_core.text.network.network import TextNetwork
from gdmix_core.text.network_inputs import NetworkInputs
from gdmix_core.text.serving import scorer
from gdmix_core.text.serving.saved_model import write_saved_model
from gdmix_core.text.serving.scorer import SavedModelScorer, open_network
from tests.text.text_model import batch_of, perturb, raw_rows, text_model, text_network

ROWS = 40
# Ids are quickly traced; for what has nothing to do with the encoder of texts.
IDS_ALONE: dict[str, Any] = {"document": [], "query": None, "document_ids": ["title"]}

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
    return scored_at(str(folder), raw, network)


def scored_at(folder: str, raw: dict[str, Any], network: TextNetwork) -> np.ndarray:
    texts = {field: pa.array(raw[field]) for field in network.settings.fields}
    return SavedModelScorer(folder).score(texts, {"tags": bag_of(raw), "context": dense_bag_of(raw)}, ROWS)


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
    subprocess.run([sys.executable, "-c", SCORE, *arguments], cwd=tmp_path, check=True)
    scores, from_vectors = json.loads((tmp_path / "scores.json").read_text())
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    np.testing.assert_allclose(from_vectors, expected, atol=1e-5)
    np.testing.assert_allclose(scored(tmp_path / "model", raw, network), expected, atol=1e-5)
    assert np.std(expected) > 0.1


ENCODERS: list[dict[str, Any]] = [
    {"type": "lstm"},
    {"type": "transformer", "layers": 1, "heads": 2, "width": 4},
]


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_encoder_is_exported(tmp_path: Path, encoder: dict[str, Any]) -> None:
    network = text_network(encoder=encoder, query=None, user_ids=[], precision="mixed_float16")
    raw = raw_rows(ROWS)
    write_saved_model(network, str(tmp_path / "model"))
    found = scored(tmp_path / "model", raw, network)
    # The export computes in float32.
    np.testing.assert_allclose(found, network(batch_of(network, raw), training=False), atol=0.05)
    assert found.dtype == np.float32


def test_word_pieces_are_cut_inside_the_model(tmp_path: Path) -> None:
    vocabulary = {"tokenizer": "wordpiece", "file": "vocab.txt"}
    settings = text_model(vocabulary=vocabulary, query=None, user_ids=[], dense=[], sparse=[])
    network = TextNetwork(settings, NetworkInputs(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "star", "##s", "toy"), {}, {}))
    perturb(network)
    write_saved_model(network, str(tmp_path / "model"))
    raw = {"title": ["Stars", "STÄRS", "a toy", "star"]}
    texts = {field: pa.array(values) for field, values in raw.items()}
    found = SavedModelScorer(str(tmp_path / "model")).score(texts, {}, 4)
    np.testing.assert_allclose(found, network(batch_of(network, raw), training=False), atol=1e-5)


@pytest.mark.parametrize("task", ["multiclass_classification", "multilabel_classification"])
def test_classes_have_logits_and_probabilities(tmp_path: Path, task: str) -> None:
    network = text_network(**IDS_ALONE, outputs=3, dense=[])
    raw = raw_rows(ROWS)
    logits = network(batch_of(network, raw), training=False).numpy()
    write_saved_model(network, str(tmp_path / "model"), task)
    model = tf.saved_model.load(str(tmp_path / "model"))
    given = {name: tf.constant(value) for name, value in raw.items() if name not in ("query", "context")}
    found = model.signatures["serving_default"](**given)
    np.testing.assert_allclose(found["logits"], logits, atol=1e-5)
    odds = np.exp(logits)
    expected = odds / odds.sum(1, keepdims=True) if task == "multiclass_classification" else odds / (1 + odds)
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-5)
    np.testing.assert_allclose(scored(tmp_path / "model", raw, network), logits, atol=1e-5)


def test_features_the_network_does_not_know_count_as_absent(tmp_path: Path) -> None:
    network = text_network(**IDS_ALONE, user_ids=[], dense=[])
    write_saved_model(network, str(tmp_path / "model"))
    serving = tf.saved_model.load(str(tmp_path / "model")).signatures["serving_default"]

    def score(indices: list[int]) -> float:
        values = tf.ones([1, len(indices)])
        given = {"title": tf.constant(["star"]), "tags_values": values}
        return float(serving(tags_indices=tf.constant([indices], tf.int64), **given)["score"][0])

    assert score([3, 7, -1, 10**12]) == score([3])
    assert score([]) != score([3])


def test_fields_may_have_any_name(tmp_path: Path) -> None:
    fields = ["doc title", "doc_title", "größe/b.c-d:0", "2nd", "self", "inputs", "global"]
    network = text_network(
        document=[], document_ids=fields, query=None, user_ids=[], dense=["doc?title"], sparse=["x", "x_values", "é"]
    )
    texts = {field: ["A", None, "b c3"] if number % 2 else ["b", "A", "A"] for number, field in enumerate(fields)}
    bag = Bag(np.array([0, 1, 1, 2]), np.array([1, 2], np.int32), np.array([1.0, 2.0], np.float64))
    batch: dict[str, Any] = {"dense/doc?title": tf.constant([[0, 1.0, 0], [0, 0, 0], [0, 0, 2.0]])}
    for field, values in texts.items():
        batch[f"tokens/{field}"] = network.tokenize(field, tf.constant([text or "" for text in values]))
        batch[f"rows/{field}"] = tf.range(3)
    for name in network.settings.sparse:
        batch[f"indices/{name}"], batch[f"entry_rows/{name}"] = tf.constant([1, 2]), tf.constant([0, 2])
        batch[f"values/{name}"] = tf.constant([1.0, 2.0])
    write_saved_model(network, str(tmp_path / "model"))
    scorer = SavedModelScorer(str(tmp_path / "model"))
    arrays = {field: pa.array(values) for field, values in texts.items()}
    found = scorer.score(arrays, dict.fromkeys(network.settings.bags, bag), 3)
    np.testing.assert_allclose(found, network(batch, training=False), atol=1e-5)
    assert scorer.columns.fields["doc title"] == "doc_title"
    names = tf.saved_model.load(str(tmp_path / "model")).signatures["serving_default"].structured_input_signature[1]
    assert set(names) == {
        *scorer.columns.fields.values(),
        *scorer.columns.dense.values(),
        *(f"{name}_{part}" for name in scorer.columns.sparse.values() for part in ("indices", "values")),
    }


def test_scores_do_not_depend_on_how_many_rows_are_seen_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, raw = text_network(**IDS_ALONE), raw_rows(ROWS)
    write_saved_model(network, str(tmp_path / "model"))
    expected = scored(tmp_path / "model", raw, network)
    texts = {field: pa.array(raw[field]) for field in network.settings.fields}
    bags = {"tags": bag_of(raw), "context": dense_bag_of(raw)}
    exported = open_network(str(tmp_path / "model"), network.settings)
    np.testing.assert_array_equal(exported.score(texts, bags, ROWS), expected)
    monkeypatch.setattr(scorer, "CHUNK", 3)
    np.testing.assert_allclose(scored(tmp_path / "model", raw, network), expected, atol=1e-6)
    texts = {field: pa.array([], pa.string()) for field in network.settings.fields}
    bags = {"tags": Bag.empty(0), "context": Bag.empty(0)}
    assert SavedModelScorer(str(tmp_path / "model")).score(texts, bags, 0).shape == (0,)


def test_a_model_is_replaced_whole_and_is_found_at_a_url(tmp_path: Path) -> None:
    network, other, raw = text_network(**IDS_ALONE, seed=1), text_network(**IDS_ALONE, seed=2), raw_rows(ROWS)
    for folder in (str(tmp_path / "deep" / "model"), "memory://text/model"):
        write_saved_model(other, folder)
        write_saved_model(network, folder)
        found = scored_at(folder, raw, network)
        np.testing.assert_allclose(found, network(batch_of(network, raw), training=False), atol=1e-5)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["model"]


def test_what_is_no_model_or_lacks_a_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no SavedModel"):
        SavedModelScorer(str(tmp_path))
    tf.saved_model.save(tf.Module(), str(tmp_path / "other"))
    with pytest.raises(DataError, match="no SavedModel of a text network"):
        SavedModelScorer(str(tmp_path / "other"))
    write_saved_model(text_network(**IDS_ALONE), str(tmp_path / "model"))
    with pytest.raises(DataError, match="needs user, which"):
        SavedModelScorer(str(tmp_path / "model")).score({"title": pa.array(["a"])}, {}, 1)
    with pytest.raises(DataError, match="the configuration names query"):
        open_network(str(tmp_path / "model"), text_model(**IDS_ALONE | {"query": "query"}))
    with pytest.raises(DataError, match="the model reads user"):
        open_network(str(tmp_path / "model"), text_model(**IDS_ALONE, user_ids=[]))
