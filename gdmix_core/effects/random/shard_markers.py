"""The markers beside the shards' models of a random effect: which shards are done, and with what result."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from gdmix_core import storage
from gdmix_core.data.shard_groups import shards_of_group
from gdmix_core.effects.random.automatic_l2 import l2_statistics_path
from gdmix_core.errors import DataError
from gdmix_core.pipeline import manifests
from gdmix_core.solvers.entity.newton import STATUS_NAMES
from gdmix_core.training_context import TrainingContext

# What a shard says of initial models without data, as far as there are any.
INITIAL_COUNTS = ("kept_entities", "dropped_entities", "kept_coefficients", "dropped_coefficients")

log = logging.getLogger(__name__)


def shard_marker(context: TrainingContext, number: int) -> str:
    return context.model_file(f"shard-{number:05d}.json")


def commit_shard(context: TrainingContext, number: int, counts: dict[str, Any]) -> dict[str, Any]:
    """Declare a shard's result whole, with the files that its training alone has written; return the marker."""
    root = context.folder()
    written = [context.model(number), l2_statistics_path(context, number)]
    paths = [path.removeprefix(f"{root}/") for path in written if storage.exists(path)]
    content = {"key": context.key, **counts, "files": manifests.describe(root, paths)}
    storage.write_json(shard_marker(context, number), content)
    return content


def once_by_shards(
    context: TrainingContext,
    group: int | None,
    work: Callable[[list[int]], object],
    summarize: Callable[[Sequence[int]], dict[str, Any]],
    finish: Callable[[], dict[str, Any]] = dict,
) -> dict[str, Any]:
    """Run a step as `once` does, shard by shard and by several tasks, and return the summary of the group's shards.

    group: which of the effect's groups of shards (data/shard_groups.py); None: all. work: makes shards and their
    markers; finish: what the step's own marker, which is written when no shard is missing, says beside the summary
    """
    context.run.require(context.step)
    effect = context.settings.random_effect
    assert effect is not None
    everything = list(range(context.partition["shards"]))
    mine = everything if group is None else shards_of_group(context.partition, effect, group)
    todo = _shards_to_do(context, everything, mine)
    if len(todo) < len(mine):
        log.info("%s: %d of %d shards are done already", context.id, len(mine) - len(todo), len(mine))
    if todo:
        context.drop()
        work(todo)
    if not context.is_done and all(is_shard_done(context, number) for number in everything):
        context.commit(summarize(everything) | finish())
    return summarize(mine)


def _shards_to_do(context: TrainingContext, everything: Sequence[int], mine: Sequence[int]) -> list[int]:
    """Return those of `mine` that are not done; all of them if the vector of all shards' scores is lost."""
    todo = [number for number in mine if not is_shard_done(context, number)]
    # The scores of shards that are done are in the vector, which those of the others will be brought into.
    lost = context.run.lost_scores(context.step, verified=0 < len(todo) < len(everything))
    if lost is None:
        return todo
    log.warning("%s is not whole, all its shards will be trained again: %s", context.id, lost)
    context.drop()
    for number in everything:
        storage.remove(shard_marker(context, number))
    storage.remove(context.folder("scores"))
    return list(mine)


def is_shard_done(context: TrainingContext, number: int) -> bool:
    path = shard_marker(context, number)
    if not storage.exists(path):
        return False
    try:
        content = storage.read_json(path)
    except DataError as error:
        log.warning("%s: shard %d will be made again: %s", context.id, number, error)
        return False
    if not isinstance(content, dict) or content.get("key") != context.key:
        return False
    root = context.folder()
    return manifests.first_fault(root, content.get("files", {})) is None


def total_counts(context: TrainingContext, numbers: Sequence[int]) -> dict[str, Any]:
    """Return sums of the shards' counts: entities by outcome, coefficients, objective; the most iterations, and the
    mean of the intercepts of entities with data."""
    total: dict[str, Any] = {
        "shards": len(numbers),
        "entities": 0,
        "coefficients": 0,
        "objective": 0.0,
        "iterations": 0,
    }
    total |= dict.fromkeys(STATUS_NAMES, 0)
    intercepts, intercept_sum = 0, 0.0
    for number in numbers:
        counts = storage.read_json(shard_marker(context, number))
        for key in ("entities", "coefficients", "objective", *STATUS_NAMES):
            total[key] += counts[key]
        for key in INITIAL_COUNTS:
            if key in counts:
                total[key] = total.get(key, 0) + counts[key]
        total["iterations"] = max(total["iterations"], counts["iterations"])
        intercepts += counts.get("intercepts", 0)
        intercept_sum += counts.get("intercept_sum", 0.0)
    return total | {"intercept_mean": intercept_sum / max(1, intercepts)}


def describe(counts: dict[str, Any]) -> str:
    outcome = ", ".join(f"{counts[name]} {name.replace('_', ' ')}" for name in STATUS_NAMES if counts[name])
    initial = "".join(f", {counts[k]} {k.replace('_', ' ')}" for k in INITIAL_COUNTS if k in counts)
    return (
        f"{counts['entities']} entities in {counts['shards']} shards ({outcome or 'none'}), "
        f"{counts['coefficients']} coefficients, at most {counts['iterations']} iterations, "
        f"objective {counts['objective']:.6g}{initial}"
    )
