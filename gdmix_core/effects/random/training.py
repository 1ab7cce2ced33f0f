"""Training a random effect: its shards, each on its own, spread over worker processes or over threads."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from gdmix_core.data.shard_groups import balance_shards, rows_by_shard
from gdmix_core.effects.random.automatic_l2 import prior_variance, update_l2
from gdmix_core.effects.random.shard import ShardTraining
from gdmix_core.effects.random.shard_markers import describe, once_by_shards, total_counts
from gdmix_core.training_context import TrainingContext
from gdmix_core.workers import processes, progress

log = logging.getLogger(__name__)


def train(context: TrainingContext, *, group: int | None = None) -> dict[str, Any]:
    """Train and score every shard of the step that is not done; return counts over the shards of the group.

    group: which of the effect's groups of shards; None: all. The step's marker is written when no shard is missing.
    """
    result = once_by_shards(
        context,
        group,
        lambda todo: _train_shards(context, todo),
        lambda numbers: total_counts(context, numbers),
        lambda: update_l2(context),
    )
    if context.is_done and "l2" in (whole := context.result):
        result["l2"] = whole["l2"]
    log.info("%s: %s", context.id, describe(result))
    return result


def _train_shards(context: TrainingContext, todo: Sequence[int]) -> None:
    prior_variance(context)  # once, before the workers ask for it
    report = progress.reporter()
    if len(todo) == 1 or context.cores == 1:
        # One shard cannot be spread over processes, but its entities can be over threads.
        shards = ShardTraining(context)
        for done, number in enumerate(todo):
            shards.train(number, threads=context.cores)
            report(done + 1, len(todo), context.id)
        return
    parts = balance_shards(todo, rows_by_shard(context.partition), min(context.cores, len(todo)))
    threads = max(1, context.cores // len(parts))
    step = ["--run", context.run.root, "--step", context.id, "--threads", str(threads)]
    workers = [
        processes.start("gdmix_core.effects.random.worker", [*step, "--shards", ",".join(map(str, part))])
        for part in parts
    ]
    done = 0
    errors: list[str] = []

    def on_event(worker: int, event: processes.Event) -> None:
        nonlocal done
        if "error" in event:
            errors.append(event["error"])
        else:
            done += 1
            report(done, len(todo), context.id)

    codes = processes.wait_all(workers, on_event)
    if any(codes):
        raise processes.explain(codes, errors, f"{context.id}: {done} of {len(todo)} shards done, then")
