"""Groups of a random effect's shards, by their rows: the work of one Airflow task, or of one worker process."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import Any

from gdmix_core.config.coordinate import RandomEffect


def group_shards(partition: Mapping[str, Any], effect: RandomEffect) -> list[list[int]]:
    """Assign the shards to groups, each the work of one Airflow task.

    They have about equal rows, and rows_per_group or more on average; there are at most `groups` of them, and one at
    least.

    partition: what the step partition says of the coordinate
    """
    rows = rows_by_shard(partition)
    count = max(1, min(effect.groups, len(rows), sum(rows.values()) // effect.rows_per_group))
    return [sorted(group) for group in balance_shards(list(rows), rows, count)]


def shards_of_group(partition: Mapping[str, Any], effect: RandomEffect, group: int) -> list[int]:
    """Return the shards of a group; none for one of `groups` that so few rows do not need."""
    groups = group_shards(partition, effect)
    return groups[group] if group < len(groups) else []


def rows_by_shard(partition: Mapping[str, Any]) -> dict[int, int]:
    """Return how many training rows every shard has."""
    rows = partition["rows"]["training"]
    return {number: rows.get(str(number), 0) for number in range(partition["shards"])}


def balance_shards(numbers: Sequence[int], rows: Mapping[int, int], parts: int) -> list[list[int]]:
    """Assign shards to parts, the largest first, each to the part with the least to do."""
    result: list[list[int]] = [[] for _ in range(parts)]
    least = [(0, part) for part in range(parts)]
    for number in sorted(numbers, key=lambda n: (-rows[n], n)):
        load, part = least[0]
        result[part].append(number)
        heapq.heapreplace(least, (load + rows[number] + 1, part))
    return result
