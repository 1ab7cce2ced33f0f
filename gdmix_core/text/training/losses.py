"""Losses of a batch as sums, so that those of workers can be added: (numerator, denominator), both float32 scalars.

The loss of a batch is the quotient of the sums over all workers. A row's weight multiplies its own loss alone, and a
row of weight 2 counts as the row twice.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from gdmix_core.config.text import TextModel

# e^z of a larger margin would overflow in float32 within a sum; beyond it the loss is linear, so that the
# gradient still points back.
LARGEST_MARGIN = 60.0


def loss_sums(
    settings: TextModel, task: str, logits: Any, labels: Any, weights: Any, offsets: Any, groups: Any = None
) -> tuple[Any, Any]:
    """Return (Σ w · loss, Σ w) of the task's loss, or those of the ranking loss that settings.loss names.

    logits: float32 [B], or [B, K] for the two tasks of classes
    labels: float32 [B]; multiclass_classification: the class, any number type [B]; multilabel_classification:
            float32 [B, K], 1 where a class applies
    weights, offsets: float32 [B]; offsets also [B, K]; they are added to the logits
    groups: int32 [B], any codes; for the ranking losses alone
    """
    scores = logits + (offsets[:, tf.newaxis] if logits.shape.rank > offsets.shape.rank else offsets)
    if settings.loss == "pairwise":
        return pairwise_sums(scores, labels, weights, groups)
    if settings.loss == "listwise":
        return listwise_sums(scores, labels, weights, groups)
    return tf.reduce_sum(weights * row_losses(task, scores, labels)), tf.reduce_sum(weights)


def row_losses(task: str, scores: Any, labels: Any) -> Any:
    """Return float32 [B], the loss of each row. Those of regressions are the formulas of gdmix_core.solvers.losses."""
    if task == "logistic_regression":
        return _logistic(scores, labels)
    if task == "linear_regression":
        return 0.5 * tf.square(scores - labels)
    if task == "poisson_regression":
        below = tf.minimum(scores, LARGEST_MARGIN)
        return tf.exp(below) * (1.0 + scores - below) - labels * scores
    if task == "smoothed_hinge":
        t = (2.0 * labels - 1.0) * scores
        return tf.where(t <= 0.0, 0.5 - t, 0.5 * tf.square(tf.maximum(1.0 - t, 0.0)))
    if task == "multiclass_classification":
        return tf.nn.sparse_softmax_cross_entropy_with_logits(tf.cast(labels, tf.int32), scores)
    if task == "multilabel_classification":
        # The mean over classes: the loss of a row does not grow with the number of them.
        return tf.reduce_mean(_logistic(scores, labels), axis=1)
    raise AssertionError(task)


def pairwise_sums(scores: Any, labels: Any, weights: Any, groups: Any) -> tuple[Any, Any]:
    """Sum w_i w_j · −log σ(s_i − s_j) over the pairs of a group with label_i > label_j, and w_i w_j of them.

    Burges et al., "Learning to rank using gradient descent", 2005. Holds some matrices of [B, B].
    """
    counts = (labels[:, tf.newaxis] > labels) & (groups[:, tf.newaxis] == groups)
    pair_weights = tf.where(counts, weights[:, tf.newaxis] * weights, 0.0)
    return tf.reduce_sum(pair_weights * tf.nn.softplus(scores - scores[:, tf.newaxis])), tf.reduce_sum(pair_weights)


def listwise_sums(scores: Any, labels: Any, weights: Any, groups: Any) -> tuple[Any, Any]:
    """Return −Σ w_i y_i (s_i − log Σ_j w_j e^{s_j}) with j in the group of i, and Σ w_i y_i.

    Cao et al., "Learning to rank: from pairwise approach to listwise approach", 2007, with weights of rows.
    """
    _, group_of_row = tf.unique(groups)
    number_of_groups = tf.reduce_max(tf.concat([group_of_row, [-1]], axis=0)) + 1
    # A row of weight 0 is not there: neither may its score be the largest that the others' are measured from.
    there = weights > 0.0
    largest = tf.math.unsorted_segment_max(
        tf.where(there, tf.stop_gradient(scores), scores.dtype.min), group_of_row, number_of_groups
    )
    relative = tf.where(there, scores - tf.gather(largest, group_of_row), 0.0)
    total = tf.math.unsorted_segment_sum(weights * tf.exp(relative), group_of_row, number_of_groups)
    log_total = tf.math.log(tf.where(total > 0.0, total, 1.0))
    gains = weights * labels
    return tf.reduce_sum(gains * (tf.gather(log_total, group_of_row) - relative)), tf.reduce_sum(gains)


def _logistic(scores: Any, labels: Any) -> Any:
    """Return log(1 + e^z) − y z."""
    return tf.nn.sigmoid_cross_entropy_with_logits(labels=tf.cast(labels, scores.dtype), logits=scores)
