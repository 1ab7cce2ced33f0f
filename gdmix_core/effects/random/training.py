"""Training a random effect: its shards, each on its own, spread over worker processes or over threads."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from gdmix_core.effects.random.automatic_l2 import conclude, prior_variance
from gdmix_core.effects.random.shard import train_shard
from gdmix_core.effects.random.shard_markers import describe, is_shard_done, shards_to_do, summary
from gdmix_core.pipeline.plan import CoordinateStep
from gdmix_core.pipeline.run import Run
from gdmix_core.workers import processes, progress
from gdmix_core.workers.cores import core_count

log = logging.getLogger(__name__)


def train(run: Run, step: CoordinateStep, *, group: int | None = None) -> dict[str, Any]:
    """Trains and scores every shard of the step that is not done; returns counts over the shards of the group.

    group: which of the effect's `groups` of shards; None: all. The step's marker is written when no shard is missing.
    """
    effect = run.config.coordinates[step.coordinate].random_effect
    assert effect is not None
    manifest = run.result("partition")["coordinates"][step.coordinate]
    everything = list(range(manifest["shards"]))
    mine = everything if group is None else everything[group :: effect.groups]
    rows = {number: manifest["rows"]["training"].get(str(number), 0) for number in mine}
    todo = shards_to_do(run, step, everything, mine)
    if len(todo) < len(mine):
        log.info("%s: %d of %d shards are done already", step.id, len(mine) - len(todo), len(mine))
    if todo:
        run.drop(step)
        prior_variance(run, step)  # once, before the workers ask for it
        _train_shards(run, step, todo, rows)
    if not run.is_done(step) and all(is_shard_done(run, step, number) for number in everything):
        run.commit(step, summary(run, step, everything) | conclude(run, step, manifest["shards"]))
    result = summary(run, step, mine)
    if run.is_done(step) and "l2" in (whole := run.result(step.id)):
        result["l2"] = whole["l2"]
    log.info("%s: %s", step.id, describe(result))
    return result


def _train_shards(run: Run, step: CoordinateStep, todo: Sequence[int], rows: dict[int, int]) -> None:
    cores = core_count(run.config)
    report = progress.reporter()
    if len(todo) == 1 or cores == 1:
        # One shard cannot be spread over processes, but its entities can be over threads.
        for done, number in enumerate(todo):
            train_shard(run, step, number, threads=cores)
            report(done + 1, len(todo), step.id)
        return
    parts = spread(todo, rows, min(cores, len(todo)))
    threads = max(1, cores // len(parts))
    workers = [
        processes.start(
            "gdmix_core.effects.random.worker",
            ["--run", run.root, "--step", step.id, "--threads", str(threads), "--shards", ",".join(map(str, part))],
        )
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
            report(done, len(todo), step.id)

    codes = processes.wait_all(workers, on_event)
    if any(codes):
        raise processes.explain(codes, errors, f"{step.id}: {done} of {len(todo)} shards done, then")


def spread(numbers: Sequence[int], rows: dict[int, int], parts: int) -> list[list[int]]:
    """Shards to workers, the largest first, each to the worker with the least to do."""
    result: list[list[int]] = [[] for _ in range(parts)]
    load = np.zeros(parts, np.int64)
    for number in sorted(numbers, key=lambda n: (-rows[n], n)):
        least = int(np.argmin(load))
        result[least].append(number)
        load[least] += rows[number] + 1
    return result
