"""Scores of models trained elsewhere, brought to the records of the same uid within one range."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gdmix_core.data.ingest.external_scores import ScoreFiles
from gdmix_core.data.ingest.record_checks import score_checks
from gdmix_core.data.ingest.shuffled_records import Joined


@dataclass
class JoinedScores:
    """The result of joining the scores of one range.

    joined: the records, without the uids that lack a usable score
    values: float32 [kept] by coordinate
    missing: check name → bool [rows of joined.table]: the records (one for each uid) without a score
    broken: check name → bool [rows of the scores' table]: the scores (one for each uid) that break a rule
    counts: by coordinate: scores in the range; unused, whose uid the data do not have; zeros put for missing ones
    """

    joined: Joined
    values: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    missing: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    broken: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)


def join_scores(joined: Joined, scores: pa.Table, files: Sequence[ScoreFiles], first_source: int) -> JoinedScores:
    """Join scores to records. scores: columns uid, source and score; those of files[k] have source first_source + k.

    A uid needs one finite score of every coordinate; with missing: zero none, too, which is then 0.
    """
    result = JoinedScores(joined)
    scores = scores.combine_chunks()
    uids = joined.table["uid"].take(pa.array(joined.begins))
    kept = np.isin(joined.begins, joined.first)
    number = scores["source"].to_numpy()
    at = pc.index_in(scores["uid"], value_set=uids, skip_nulls=True).to_numpy(zero_copy_only=False)
    known = ~np.isnan(at)
    position = np.where(known, at, 0).astype(np.int64)
    with np.errstate(over="ignore"):  # found to be infinite below
        values = scores["score"].to_numpy(zero_copy_only=False).astype(np.float32)
    by_uid: dict[str, NDArray[np.float32]] = {}
    without: dict[str, NDArray[np.bool_]] = {}
    for k, source in enumerate(files):
        mine = number == first_source + k
        rows = np.flatnonzero(mine & known)
        found = np.zeros(len(uids), np.float32)
        found[position[rows]] = values[rows]
        times = np.bincount(position[rows], minlength=len(uids))
        repeated = np.zeros(len(values), bool)
        repeated[_second(rows, position[rows])] = True
        infinite = np.zeros(len(values), bool)
        infinite[rows] = ~np.isfinite(values[rows])
        usable = np.ones(len(uids), bool)
        usable[position[repeated | infinite]] = False
        checks = score_checks(source)
        unique, finite = checks["unique"], checks["finite"]
        result.broken |= {unique.name: repeated, finite.name: infinite}
        if "present" in checks:
            absent = np.zeros(joined.table.num_rows, bool)
            absent[joined.begins[times == 0]] = True
            result.missing[checks["present"].name] = absent
            usable &= times > 0
        kept &= usable
        by_uid[source.coordinate] = found
        without[source.coordinate] = times == 0
        result.counts[source.coordinate] = {
            "scores": int(np.count_nonzero(mine)),
            "unused": int(np.count_nonzero(mine)) - len(rows),
        }
    result.joined = replace(joined, first=joined.begins[kept])
    result.values = {name: found[kept] for name, found in by_uid.items()}
    for name, counts in result.counts.items():
        counts["zeros"] = int(np.count_nonzero(without[name] & kept))
    return result


def _second(rows: NDArray[np.int64], position: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the row of the second score of each uid that has several."""
    order = np.argsort(position, kind="stable")
    ordered = position[order]
    same = np.zeros(len(order), bool)
    same[1:] = ordered[1:] == ordered[:-1]
    third = same.copy()
    third[1:] &= same[:-1]
    third[:1] = False
    return rows[order[same & ~third]]
