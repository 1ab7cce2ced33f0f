"""Interactions of user fields and document fields: similarities and products of their vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

# A text without words starts as a zero vector, where the cosine's gradient has no bound; so it has one, and the cosine
# of a vector of length 0.1 is only half a percent less.
SHORT = 1e-4


def interaction_vector(kinds: Sequence[str], users: Sequence[Any], documents: Sequence[Any]) -> Any:
    """Return [B, interaction_width(…)]: each kind for every pair of a user and a document vector, float32 [B, d] each.

    Without users the documents' vectors side by side. The cosine is u·d / √((|u|² + SHORT)(|d|² + SHORT)).
    """
    if not users:
        return tf.concat(list(documents), axis=1)
    pairs = [(user, document) for user in users for document in documents]
    parts: list[Any] = []
    for kind in kinds:
        if kind == "cosine":
            parts += [tf.reduce_sum(_unit(u) * _unit(d), axis=1, keepdims=True) for u, d in pairs]
        elif kind == "dot":
            parts += [tf.reduce_sum(u * d, axis=1, keepdims=True) for u, d in pairs]
        elif kind == "hadamard":
            parts += [u * d for u, d in pairs]
        elif kind == "difference":
            parts += [u - d for u, d in pairs]
        else:
            parts += [*users, *documents]
    return tf.concat(parts, axis=1)


def interaction_width(kinds: Sequence[str], users: int, documents: int, units: int) -> int:
    """Return the columns of `interaction_vector` for that many vectors of units."""
    if not users:
        return documents * units
    pairs = users * documents
    of_kind = {"cosine": pairs, "dot": pairs, "hadamard": pairs * units, "difference": pairs * units}
    return sum(of_kind.get(kind, (users + documents) * units) for kind in kinds)


def _unit(vectors: Any) -> Any:
    squares = tf.reduce_sum(tf.square(vectors), axis=1, keepdims=True)
    return vectors * tf.math.rsqrt(squares + SHORT)
