"""Groups of shards: each shard once, about equal rows, few groups where there are few rows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gdmix_core.config.coordinate import RandomEffect
from gdmix_core.data.shard_groups import group_shards, shards_of_group


def partition_of(rows: list[int]) -> dict[str, object]:
    """As partition says it: shards without training rows are left out."""
    return {"shards": len(rows), "rows": {"training": {str(n): count for n, count in enumerate(rows) if count}}}


def test_a_small_effect_is_one_group():
    effect = RandomEffect(entity="user", groups=8)
    assert group_shards(partition_of([10_000] * 10), effect) == [list(range(10))]
    assert len(group_shards(partition_of([10_000] * 30), effect)) == 3
    assert len(group_shards(partition_of([10_000] * 30), effect.model_copy(update={"rows_per_group": 1}))) == 8


def test_one_large_shard_is_a_group_of_its_own():
    effect = RandomEffect(entity="user", groups=3, rows_per_group=100)
    assert sorted(group_shards(partition_of([100, 900, 90, 110, 80, 120]), effect)) == [[0, 3], [1], [2, 4, 5]]


@given(
    rows=st.lists(st.integers(0, 1000), min_size=1, max_size=40),
    groups=st.integers(1, 12),
    least=st.integers(1, 3000),
)
def test_every_shard_is_in_one_group(rows: list[int], groups: int, least: int):
    effect = RandomEffect(entity="user", groups=groups, rows_per_group=least)
    found = group_shards(partition_of(rows), effect)
    assert sorted(number for group in found for number in group) == list(range(len(rows)))
    assert 1 <= len(found) <= groups
    assert all(found)
    assert len(found) == 1 or sum(rows) / len(found) >= least
    loads = [sum(rows[number] + 1 for number in group) for group in found]
    assert max(loads) - min(loads) <= max(rows) + 1
    # A DAG of one's own may be mapped over all of range(groups).
    assert [shards_of_group(partition_of(rows), effect, n) for n in range(groups)] == found + [[]] * (
        groups - len(found)
    )
