"""Small pieces of work, packed into tasks: what a task costs to start is paid once for many of them."""

from __future__ import annotations

from collections.abc import Sequence

TASK_BYTES = 64 << 20
OPENING_BYTES = 1 << 20
"""As long as so many bytes take to read, a file takes to open."""
_TASKS_PER_CORE = 4


def pack(sizes: Sequence[int], cores: int) -> list[list[int]]:
    """Return positions of the pieces of each task, in order; sizes: bytes of each piece.

    A task has about TASK_BYTES, or less where there would be too few tasks to keep the cores busy.
    """
    costs = [size + OPENING_BYTES for size in sizes]
    room = min(TASK_BYTES, sum(costs) // max(1, cores * _TASKS_PER_CORE))
    tasks: list[list[int]] = []
    filled = room
    for number, cost in enumerate(costs):
        if filled + cost > room:
            tasks.append([])
            filled = 0
        tasks[-1].append(number)
        filled += cost
    return tasks
