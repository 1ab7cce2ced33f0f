"""Scores of models trained elsewhere and the uids of a range, brought together, against a dictionary."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from gdmix_core.data.ingest.external_scores import ScoreFiles
from gdmix_core.data.ingest.score_join import join_scores
from gdmix_core.data.ingest.shuffled_records import join_by_uid

FILES = (ScoreFiles("strict", (), (), "error"), ScoreFiles("lenient", (), (), "zero"))
uids = st.one_of(st.none(), st.integers(-3, 8))
records = st.lists(st.tuples(uids, st.integers(0, 1), st.sampled_from([0, 0, 0, 2])), max_size=15)
values = st.one_of(st.none(), st.sampled_from([float("nan"), float("inf"), 1e39]), st.floats(-4, 4, width=32))
scores = st.lists(st.tuples(uids, st.integers(0, 1), values), max_size=40)


@settings(deadline=None, max_examples=300, derandomize=True)
@given(records, scores, st.booleans())
def test_values_faults_and_counts(of_data, of_files, text):
    def named(uid):
        return f"{uid + 50:03d}" if text and uid is not None else uid

    uid_type = pa.string() if text else pa.int64()
    data = pa.table(
        {
            "uid": pa.array([named(uid) for uid, *_ in of_data], uid_type),
            "split": pa.array([split for _, split, _ in of_data], pa.int32()),
            "source": pa.array([0] * len(of_data), pa.int32()),
            "file": pa.array([0] * len(of_data), pa.int32()),
            "violations": pa.array([broken for *_, broken in of_data], pa.int64()),
        }
    )
    table = pa.table(
        {
            "uid": pa.array([named(uid) for uid, *_ in of_files], uid_type),
            "source": pa.array([1 + k for _, k, _ in of_files], pa.int32()),
            "score": pa.array([value for *_, value in of_files], pa.float64()),
        }
    )
    before = join_by_uid(data, 1)
    found = join_scores(before, table, FILES, 1)

    present = {named(uid) for uid, *_ in of_data if uid is not None}
    by_uid = [defaultdict(list), defaultdict(list)]
    for uid, k, value in of_files:
        with np.errstate(over="ignore"):
            by_uid[k][named(uid)].append(np.float32("nan" if value is None else value))
    twice = [{u for u in present if len(by_uid[k][u]) > 1} for k in (0, 1)]
    infinite = [{u for u in present if not np.isfinite(by_uid[k][u]).all()} for k in (0, 1)]
    missing = [{u for u in present if not by_uid[k][u]} for k in (0, 1)]
    bad = missing[0].union(*twice, *infinite)

    was_kept = before.table["uid"].take(pa.array(before.first)).to_pylist()
    kept = found.joined.table["uid"].take(pa.array(found.joined.first)).to_pylist()
    assert kept == [uid for uid in was_kept if uid not in bad]
    assert found.values["strict"].tolist() == [by_uid[0][uid][0] for uid in kept]
    assert found.values["lenient"].tolist() == [by_uid[1][uid][0] if by_uid[1][uid] else 0 for uid in kept]
    assert all(vector.dtype == np.float32 for vector in found.values.values())

    assert set(found.missing) == {"strict.score.present"}
    assert marked(found.joined.table, found.missing["strict.score.present"]) == sorted(missing[0])
    for k, name in enumerate(("strict", "lenient")):
        assert marked(table, found.broken[f"{name}.score.unique"]) == sorted(twice[k])
        listed = [u for u in present for value in by_uid[k][u] if not np.isfinite(value)]
        assert marked(table, found.broken[f"{name}.score.finite"]) == sorted(listed)
        assert found.counts[name]["scores"] == sum(number == k for _, number, _ in of_files)
        assert found.counts[name]["unused"] == sum(len(v) for u, v in by_uid[k].items() if u not in present)
    assert found.counts["lenient"]["zeros"] == sum(uid in missing[1] for uid in kept)
    assert found.counts["strict"]["zeros"] == 0


def marked(table: pa.Table, where: np.ndarray) -> list:
    return sorted(table["uid"].filter(pa.array(where)).to_pylist())
