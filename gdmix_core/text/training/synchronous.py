"""Training in step: one update for each batch, of whose rows every worker holds a part."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdmix_core.data.frame import share_of_rows
from gdmix_core.errors import DataError
from gdmix_core.evaluation.evaluate import group_codes
from gdmix_core.text.network.network import TextNetwork
from gdmix_core.text.network_rows import NetworkRows, RowReader
from gdmix_core.text.training.group import TrainingGroup
from gdmix_core.text.training.loop import TrainingLoop
from gdmix_core.text.training.monitored_metric import MonitoredMetric
from gdmix_core.text.training.optimizer import Update
from gdmix_core.text.training.row_order import OrderOfGroups, OrderOfRows, RowOrder
from gdmix_core.text.training.row_scores import RowScores
from gdmix_core.text.training.train_step import TrainStep, as_tensors
from gdmix_core.training_context import TrainingContext
from gdmix_core.workers.prefetch import prefetch


def train(
    context: TrainingContext, network: TextNetwork, reader: RowReader, scorer: RowScores, group: TrainingGroup
) -> TrainingLoop:
    """Train until it is over; the loop knows the best weights. Raises StepError, WorkerLostError."""
    settings = context.settings.text
    order, rows, which = _own_rows(context, reader, group)
    update = Update(settings, network, order.steps * settings.epochs)
    metric = MonitoredMetric(context, group)
    monitored = rows
    if metric.split == "validation":
        which = np.arange(*share_of_rows(metric.rows, group.rank, group.workers))
        monitored = reader.read("validation", which)
    loop = TrainingLoop(context, network, update, group, order.steps, metric, lambda: (scorer.of(monitored), which))
    loop.begin()
    step_of_training = TrainStep(network, update, context.config.task, group)
    state = loop.state
    step_of_training.sums = state.loss, state.weight
    while not state.over:
        order.begin(state.epoch)
        for size, batch, targets in prefetch(batches(order, rows, state.step)):
            step_of_training.take(batch, targets, state.steps)
            if loop.taken(size, lambda: step_of_training.sums):
                step_of_training.sums = 0.0, 0.0
                if state.over:
                    break
    return loop


def _own_rows(
    context: TrainingContext, reader: RowReader, group: TrainingGroup
) -> tuple[RowOrder, NetworkRows, NDArray[np.int64]]:
    """Return (which rows make up a batch, this worker's rows, their numbers)."""
    settings = context.settings.text
    frame = context.frame
    if settings.group is None:
        total = frame.rows("training")
        start, stop = share_of_rows(total, group.rank, group.workers)
        numbers = np.arange(start, stop)
        alone = OrderOfRows(total, start, stop, settings.batch, settings.seed)
        return alone, reader.read("training", numbers), numbers
    codes = group_codes(frame, "training", settings.group)
    together = OrderOfGroups(codes, group.rank, group.workers, settings.batch, settings.seed)
    rows = reader.read("training", together.rows, codes)
    if settings.loss == "listwise" and np.any(rows.label < 0.0):
        raise DataError(
            f"coordinate {context.name}: loss listwise takes labels as shares of a group's attention, and a row has "
            f"{rows.label.min():g}; use labels of 0 or more, or loss: pairwise"
        )
    return together, rows, together.rows


def batches(order: RowOrder, rows: NetworkRows, first: int) -> Iterator[tuple[int, dict[str, Any], dict[str, Any]]]:
    """Yield (rows of all workers together, this worker's part as tensors, its targets) of batches from `first` on."""
    for number in range(first, order.steps):
        own = order.own(number)
        yield order.size(number), as_tensors(rows.batch(own)), as_tensors(rows.targets(own))
