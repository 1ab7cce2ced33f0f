"""Ranges of uids, and bringing the records of one uid together, against plain Python."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from gdmix_core.data.engines.uid_ranges import UidSample, range_of, range_starts, smallest_hashes
from gdmix_core.data.ingest.record_checks import UID_DISJOINT, UID_IN_ALL, UID_UNIQUE
from gdmix_core.data.ingest.shuffled_records import join_by_uid

records = st.lists(
    st.tuples(
        st.one_of(st.none(), st.integers(-5, 12)), st.integers(0, 1), st.integers(0, 2), st.sampled_from([0, 0, 0, 4])
    ),
    max_size=40,
)


def name(uid: int | None, text: bool) -> int | str | None:
    return f"{uid + 50:03d}" if text and uid is not None else uid


@settings(deadline=None, max_examples=200, derandomize=True)
@given(records, st.integers(1, 3), st.booleans())
def test_what_is_kept_and_what_is_wrong(content, sources, text):
    content = [(name(uid, text), split, min(source, sources - 1), broken) for uid, split, source, broken in content]
    uid, split, source, violations = zip(*content, strict=True) if content else ((), (), (), ())
    table = pa.table(
        {
            "uid": pa.array(uid, pa.string() if text else pa.int64()),
            "split": pa.array(split, pa.int32()),
            "source": pa.array(source, pa.int32()),
            "file": pa.array(source, pa.int32()),
            "violations": pa.array(violations, pa.int64()),
        }
    )
    joined = join_by_uid(table, sources)

    of_uid = defaultdict(list)
    for u, s, d, broken in content:
        if u is not None:
            of_uid[u].append((s, d, broken))
    unique, disjoint, in_all, kept = set(), set(), set(), []
    for u, found in of_uid.items():
        places = [(s, d) for s, d, _ in found]
        splits = {s for s, _ in places}
        if len(set(places)) < len(places):
            unique.add(u)
        if len(splits) > 1:
            disjoint.add(u)
        in_all |= {(u, s) for s in splits if len({d for t, d in places if t == s}) < sources}
        if (
            len(places) == sources
            and len(splits) == 1
            and len(set(places)) == sources
            and not any(b for *_, b in found)
        ):
            kept.append(u)
    uids = joined.table["uid"].to_pylist()
    assert [uids[i] for i in joined.first] == sorted(kept)
    for i in joined.first:
        assert uids[i : i + sources] == [uids[i]] * sources
        assert joined.table["source"].to_pylist()[i : i + sources] == list(range(sources))
    if not of_uid:
        return
    marked = {check: np.flatnonzero(where) for check, where in joined.faults.items()}
    assert sorted(uids[i] for i in marked[UID_UNIQUE.name]) == sorted(unique)
    assert sorted(uids[i] for i in marked[UID_DISJOINT.name]) == sorted(disjoint)
    splits_of = joined.table["split"].to_pylist()
    assert sorted((uids[i], splits_of[i]) for i in marked[UID_IN_ALL.name]) == sorted(in_all)


uid_lists = st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=300, unique=True)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(uid_lists, st.integers(1, 12), st.booleans())
def test_ranges_are_in_order_and_about_even(uids, ranges, text):
    array = pa.array([f"{u + 2**40:015d}" for u in uids]) if text else pa.array(uids)
    starts = range_starts(array, ranges)
    found = range_of(array, starts)
    ordered = np.array(array.to_pylist())[np.argsort(found, kind="stable")]
    by_range = [sorted(ordered[np.sort(found) == r].tolist()) for r in range(len(starts) + 1)]
    assert [u for part in by_range for u in part] == sorted(array.to_pylist())
    assert max(map(len, by_range)) <= -(-len(uids) // ranges) + 1


@settings(deadline=None, max_examples=60, derandomize=True)
@given(uid_lists, st.integers(1, 40), st.integers(1, 7), st.randoms())
def test_the_sample_depends_on_the_set_of_uids_alone(uids, limit, batches, random):
    whole = set(smallest_hashes(pa.array(uids), limit).to_pylist())
    random.shuffle(uids)
    sample = UidSample(limit)
    for k in range(batches):
        sample.add(pa.array(uids[k::batches], pa.int64()))
    found = sample.uids()
    assert found is not None
    assert (set(found.to_pylist()), sample.count) == (whole, len(uids))


def test_nulls_go_to_the_first_range():
    assert range_of(pa.array([None, 5, 50]), pa.array([0, 10])).tolist() == [0, 1, 2]
    assert range_of(pa.array([None, "b", "z"]), pa.array(["a", "c"])).tolist() == [0, 1, 2]
