"""Which shards of a random effect are done, and what came of them: a marker beside each shard's model says so."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from gdmix_core import storage
from gdmix_core.effects.random.automatic_l2 import evidence_path
from gdmix_core.pipeline import manifests
from gdmix_core.pipeline.plan import CoordinateStep
from gdmix_core.pipeline.run import Run
from gdmix_core.solvers.entity.newton import STATUS_NAMES

# What a shard says of initial models without data, as far as there are any.
INITIAL_COUNTS = ("kept_entities", "dropped_entities", "kept_coefficients", "dropped_coefficients")

log = logging.getLogger(__name__)


def shard_marker(run: Run, step: CoordinateStep, number: int) -> str:
    return run.coordinate(step.pass_number, step.coordinate, "model", f"shard-{number:05d}.json")


def commit_shard(run: Run, step: CoordinateStep, number: int, counts: dict[str, Any]) -> dict[str, Any]:
    """Declares a shard's result whole, with the files that its training alone has written; returns the marker."""
    root = run.coordinate(step.pass_number, step.coordinate)
    written = [run.model(step.pass_number, step.coordinate, number), evidence_path(run, step, number)]
    paths = [path.removeprefix(f"{root}/") for path in written if storage.exists(path)]
    content = {"key": run.keys[step.id], **counts, "files": manifests.describe(root, paths)}
    storage.write_json(shard_marker(run, step, number), content)
    return content


def shards_to_do(run: Run, step: CoordinateStep, everything: Sequence[int], mine: Sequence[int]) -> list[int]:
    """Those of mine that are not done; all are to be done again where the vector of all shards' scores is lost."""
    todo = [number for number in mine if not is_shard_done(run, step, number)]
    # The scores of shards that are done are in the vector, which those of the others will be brought into.
    lost = run.lost_scores(step, verified=0 < len(todo) < len(everything))
    if lost is None:
        return todo
    log.warning("%s is not whole, all its shards will be trained again: %s", step.id, lost)
    run.drop(step)
    for number in everything:
        storage.remove(shard_marker(run, step, number))
    storage.remove(run.coordinate(step.pass_number, step.coordinate, "scores"))
    return list(mine)


def is_shard_done(run: Run, step: CoordinateStep, number: int) -> bool:
    path = shard_marker(run, step, number)
    if not storage.exists(path):
        return False
    content = storage.read_json(path)
    if content.get("key") != run.keys[step.id]:
        return False
    root = run.coordinate(step.pass_number, step.coordinate)
    return manifests.first_fault(root, content.get("files", {})) is None


def summary(run: Run, step: CoordinateStep, numbers: Sequence[int]) -> dict[str, Any]:
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
