"""Training a random effect: its shards, each on its own, spread over worker processes or over threads."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from gdmix_core import manifests, processes, progress, storage
from gdmix_core.effects.cores import core_count
from gdmix_core.effects.random_l2 import conclude, evidence_path, prior_variance
from gdmix_core.plan import Step
from gdmix_core.run import Run
from gdmix_core.solvers.entity_newton import STATUS_NAMES

# What a shard says of initial models without data, as far as there are any.
INITIAL_COUNTS = ("kept_entities", "dropped_entities", "kept_coefficients", "dropped_coefficients")

log = logging.getLogger("gdmix_core.random_effect")


def train(run: Run, step: Step, *, group: int | None = None) -> dict[str, Any]:
    """Trains and scores every shard of the step that is not done; returns counts over the shards of the group.

    group: which of the effect's `groups` of shards; None: all. The step's marker is written when no shard is missing.
    """
    assert step.coordinate is not None
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


def _train_shards(run: Run, step: Step, todo: Sequence[int], rows: dict[int, int]) -> None:
    cores = core_count(run.config)
    report = progress.reporter()
    if len(todo) == 1 or cores == 1:
        # One shard cannot be spread over processes, but its entities can be over threads.
        from gdmix_core.effects.random_shard import train_shard

        for done, number in enumerate(todo):
            train_shard(run, step, number, threads=cores)
            report(done + 1, len(todo), step.id)
        return
    parts = spread(todo, rows, min(cores, len(todo)))
    threads = max(1, cores // len(parts))
    workers = [
        processes.start(
            "gdmix_core.effects.random_worker",
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


def shard_marker(run: Run, step: Step, number: int) -> str:
    assert step.pass_number is not None
    assert step.coordinate is not None
    return run.coordinate(step.pass_number, step.coordinate, "model", f"shard-{number:05d}.json")


def commit_shard(run: Run, step: Step, number: int, counts: dict[str, Any]) -> dict[str, Any]:
    """Declares a shard's result whole, with the files that its training alone has written; returns the marker."""
    assert step.pass_number is not None
    assert step.coordinate is not None
    root = run.coordinate(step.pass_number, step.coordinate)
    written = [run.model(step.pass_number, step.coordinate, number), evidence_path(run, step, number)]
    paths = [path.removeprefix(f"{root}/") for path in written if storage.exists(path)]
    content = {"key": run.keys[step.id], **counts, "files": manifests.describe(root, paths)}
    storage.write_json(shard_marker(run, step, number), content)
    return content


def shards_to_do(run: Run, step: Step, everything: Sequence[int], mine: Sequence[int]) -> list[int]:
    """Those of mine that are not done; all are to be done again where the vector of all shards' scores is lost."""
    todo = [number for number in mine if not is_shard_done(run, step, number)]
    # The scores of shards that are done are in the vector, which those of the others will be brought into.
    lost = run.lost_scores(step, verified=0 < len(todo) < len(everything))
    if lost is None:
        return todo
    log.warning("%s is not whole, all its shards will be trained again: %s", step.id, lost)
    assert step.pass_number is not None
    assert step.coordinate is not None
    run.drop(step)
    for number in everything:
        storage.remove(shard_marker(run, step, number))
    storage.remove(run.coordinate(step.pass_number, step.coordinate, "scores"))
    return list(mine)


def is_shard_done(run: Run, step: Step, number: int) -> bool:
    path = shard_marker(run, step, number)
    if not storage.exists(path):
        return False
    content = storage.read_json(path)
    if content.get("key") != run.keys[step.id]:
        return False
    assert step.pass_number is not None
    assert step.coordinate is not None
    root = run.coordinate(step.pass_number, step.coordinate)
    return manifests.first_fault(root, content.get("files", {})) is None


def summary(run: Run, step: Step, numbers: Sequence[int]) -> dict[str, Any]:
    """Sums of the shards' counts: entities by outcome, coefficients, objective; and the most iterations."""
    total: dict[str, Any] = {
        "shards": len(numbers),
        "entities": 0,
        "coefficients": 0,
        "objective": 0.0,
        "iterations": 0,
    }
    total |= dict.fromkeys(STATUS_NAMES, 0)
    for number in numbers:
        counts = storage.read_json(shard_marker(run, step, number))
        for key in ("entities", "coefficients", "objective", *STATUS_NAMES):
            total[key] += counts[key]
        for key in INITIAL_COUNTS:
            if key in counts:
                total[key] = total.get(key, 0) + counts[key]
        total["iterations"] = max(total["iterations"], counts["iterations"])
    return total


def describe(counts: dict[str, Any]) -> str:
    outcome = ", ".join(f"{counts[name]} {name.replace('_', ' ')}" for name in STATUS_NAMES if counts[name])
    initial = "".join(f", {counts[k]} {k.replace('_', ' ')}" for k in INITIAL_COUNTS if k in counts)
    return (
        f"{counts['entities']} entities in {counts['shards']} shards ({outcome or 'none'}), "
        f"{counts['coefficients']} coefficients, at most {counts['iterations']} iterations, "
        f"objective {counts['objective']:.6g}{initial}"
    )
