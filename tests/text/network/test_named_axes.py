"""Weights of one vocabulary in the network of another: what both know scores as before, to the last digits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gdmix_core.errors import DataError
from gdmix_core.text.network.named_axes import Vocabularies, named_axes, remapped
from gdmix_core.text.network.network import TextNetwork
from gdmix_core.text.network_inputs import NetworkInputs
from tests.text.text_model import batch_of, perturb, text_model

pytestmark = pytest.mark.tensorflow

OLD_WORDS, NEW_WORDS = ("star", "wars", "gone", "toy"), ("toy", "new", "star", "other", "wars")
OLD_IDS, NEW_IDS = ("A", "b", "gone"), ("c", "b", "A")
# Features by number; the new list of the sparse bag lacks one, that of the dense bag none: its shift would be gone too.
OLD_BAGS, NEW_BAGS = {"context": (0, 1), "tags": (0, 1, 2)}, {"context": (1, 5, 0), "tags": (7, 2, 0)}


def vocabularies(words: Any, ids: Any, bags: Any, classes: Any = None, pieces: bool = False) -> Vocabularies:
    tokens = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *words) if pieces else words
    sizes = {bag: len(features) for bag, features in bags.items()}
    inputs = NetworkInputs(tokens, {"user": ids}, sizes, len(classes) if classes else 1)
    named = {bag: [(bag, str(number)) for number in features] for bag, features in bags.items()}
    return Vocabularies(inputs, named, [(c, "") for c in classes] if classes else None)


def raw(bags: Any) -> dict[str, Any]:
    """Rows of what both know, in the lists of one of them."""
    random = np.random.default_rng(0)
    n = 30
    values = random.normal(size=(n, 10)).astype(np.float32)
    context = np.stack([values[:, f] * (f in (0, 1)) for f in bags["context"]], axis=1)
    tags = [bags["tags"].index(feature) for feature in (0, 2)]
    return {
        "title": random.choice(["Star wars", "toy", "", "never seen toy", "wars toy star"], n).tolist(),
        "query": random.choice(["toy", "star star"], n).tolist(),
        "user": random.choice(["A b", "b", "", "nobody A"], n).tolist(),
        "context": context,
        "tags_indices": np.tile(tags, (n, 1)),
        "tags_values": values[:, 8:10],
    }


def carry(settings: Any, there: Vocabularies, here: Vocabularies) -> tuple[TextNetwork, TextNetwork, TextNetwork]:
    """(earlier network, one that starts from it, the same one anew)."""
    old, new, fresh = (TextNetwork(settings, v.inputs) for v in (there, here, here))
    perturb(old)
    axes = [
        named_axes(settings, v, {name: values.shape for name, values in network.weights.arrays().items()})
        for v, network in ((there, old), (here, new))
    ]
    new.weights.assign(remapped(old.weights.arrays(), axes[0], new.weights.arrays(), axes[1], "old"), "old")
    return old, new, fresh


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"hidden": [], "combine_fields": True, "user": ["user_text"], "query": None},
        {"encoder": "gru", "linear": ["tags"]},
        {"encoder": {"type": "transformer", "layers": 1, "heads": 2, "width": 4, "feed_forward": 4}},
    ],
    ids=["cnn", "no_hidden_layer", "gru", "transformer"],
)
def test_rows_of_what_both_know_score_the_same(options: dict[str, Any]) -> None:
    settings = text_model(**options)
    there, here = vocabularies(OLD_WORDS, OLD_IDS, OLD_BAGS), vocabularies(NEW_WORDS, NEW_IDS, NEW_BAGS)
    old, new, fresh = carry(settings, there, here)
    rows = [raw(OLD_BAGS), raw(NEW_BAGS)]
    for given in rows:
        given["user_text"] = given["query"]
    before, after, anew = (
        network(batch_of(network, given), training=False).numpy()
        for network, given in ((old, rows[0]), (new, rows[1]), (fresh, rows[1]))
    )
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)
    assert np.std(before) > 0.01
    assert not np.allclose(anew, before, atol=0.01)
    # What is new starts as in a network of its own.
    table, untouched = new.weights.arrays()["ids/user"], fresh.weights.arrays()["ids/user"]
    np.testing.assert_array_equal(table[2], untouched[2])
    linear = new.weights.arrays()["linear/tags"]
    assert linear[0] == 0.0
    assert linear[1] == old.weights.arrays()["linear/tags"][2]


def test_word_pieces_have_no_ids_before_them() -> None:
    settings = text_model(vocabulary={"tokenizer": "wordpiece", "file": "unread"})
    there, here = (vocabularies(w, OLD_IDS, OLD_BAGS, pieces=True) for w in (OLD_WORDS, NEW_WORDS))
    old, new, fresh = (network.weights.arrays()["encoder/tokens"] for network in carry(settings, there, here))
    for number, token in enumerate(here.inputs.tokens):
        known = token in there.inputs.tokens
        expected = old[there.inputs.tokens.index(token)] if known else fresh[number]
        np.testing.assert_array_equal(new[number], expected)


def test_classes_by_name() -> None:
    settings = text_model()
    there = vocabularies(OLD_WORDS, OLD_IDS, OLD_BAGS, ("red", "gone", "blue"))
    here = vocabularies(NEW_WORDS, NEW_IDS, NEW_BAGS, ("blue", "red", "new", "more"))
    old, new, _ = carry(settings, there, here)
    before = old(batch_of(old, raw(OLD_BAGS)), training=False).numpy()
    after = new(batch_of(new, raw(NEW_BAGS)), training=False).numpy()
    np.testing.assert_allclose(after[:, :2], before[:, [2, 0]], rtol=1e-5, atol=1e-6)


def test_weights_that_belong_to_something_else() -> None:
    settings = text_model()
    there = vocabularies(OLD_WORDS, OLD_IDS, OLD_BAGS)
    longer = vocabularies((*OLD_WORDS, "more"), OLD_IDS, OLD_BAGS)
    old = TextNetwork(settings, there.inputs).weights.arrays()
    shapes = {name: values.shape for name, values in old.items()}
    axes = named_axes(settings, there, shapes)
    with pytest.raises(DataError, match=r"here: encoder/tokens has shape \(6, 5\), but its vocabulary 7 entries"):
        remapped(old, named_axes(settings, longer, shapes), old, axes, "here")
    wider = TextNetwork(text_model(units=7), there.inputs).weights.arrays()
    of_wider = named_axes(settings, there, {name: values.shape for name, values in wider.items()})
    with pytest.raises(DataError, match="belong to other settings of the network"):
        remapped(old, axes, wider, of_wider, "here")
    with pytest.raises(DataError, match="the weights and the network differ in output/bias"):
        remapped({k: v for k, v in old.items() if k != "output/bias"}, axes, old, axes, "here")
