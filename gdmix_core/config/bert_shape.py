"""The shape of a transformer, and the one that a BERT model's config.json describes. Known without TensorFlow, so that
a run can check it before it starts."""

from __future__ import annotations

import os
from dataclasses import dataclass

from gdmix_core import storage
from gdmix_core.errors import DataError


@dataclass(frozen=True)
class TransformerShape:
    """The sizes of a transformer. tokens: rows of the table of token vectors; positions: tokens of a text at most"""

    tokens: int
    positions: int
    layers: int
    heads: int
    width: int
    feed_forward: int
    activation: str = "gelu"
    epsilon: float = 1e-12


def read_bert_shape(folder: str, tokens: int, max_tokens: int, lowercase: bool) -> TransformerShape:
    """Read the shape that config.json describes, checked against the vocabulary's number of tokens and the settings.

    Raises DataError, which names what is missing, unsupported or at odds.
    """
    path = os.path.join(folder, "config.json")
    config = storage.read_json(path)
    kind = config.get("model_type")
    if kind != "bert":
        raise DataError(f"{path}: model_type {kind!r} is not supported, only 'bert'; a Keras encoder could be given")
    positions = config.get("position_embedding_type", "absolute")
    if positions != "absolute":
        raise DataError(f"{path}: position_embedding_type {positions!r} is not supported, only 'absolute'")
    activation = config.get("hidden_act", "gelu")
    if activation not in ("gelu", "relu"):
        raise DataError(f"{path}: hidden_act {activation!r} is not supported, only 'gelu' and 'relu'")
    try:
        shape = TransformerShape(
            tokens=int(config["vocab_size"]),
            positions=int(config["max_position_embeddings"]),
            layers=int(config["num_hidden_layers"]),
            heads=int(config["num_attention_heads"]),
            width=int(config["hidden_size"]),
            feed_forward=int(config["intermediate_size"]),
            activation=activation,
            epsilon=float(config.get("layer_norm_eps", 1e-12)),
        )
    except KeyError as error:
        raise DataError(f"{path}: {error.args[0]} is missing; it must be the configuration of a BERT model") from None
    if max_tokens > shape.positions:
        raise DataError(f"{path}: the model has {shape.positions} positions; set max_tokens to that at most")
    if tokens > shape.tokens:
        raise DataError(f"{path}: vocab_size is {shape.tokens}, but the vocabulary has {tokens} tokens; take its own")
    path = os.path.join(folder, "tokenizer_config.json")
    if os.path.exists(path):
        trained = storage.read_json(path).get("do_lower_case", lowercase)
        if trained != lowercase:
            raise DataError(f"{path}: the model was trained with do_lower_case {trained}; set vocabulary.lowercase so")
    return shape
