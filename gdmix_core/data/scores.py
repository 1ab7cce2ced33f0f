"""Score vectors: float32 [N], or [N, K] in the tasks of K classes, addressed by row.

They are what travels between coordinates, instead of data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gdmix_core import storage
from gdmix_core.data.frame import Frame
from gdmix_core.errors import StepError
from gdmix_core.pipeline.plan import CoordinateStep, accelerate_id, accelerated, evaluate_id, latest_scores
from gdmix_core.pipeline.run import SPLITS, Run

# A coordinate under l2: auto also leaves the posterior variance of each training row's score, for the others' use.
MARGIN_VARIANCE = "leverage"  # the name of its file


class ScoreSum:
    """The sum of the scores of several coordinates, read where it is needed; memory-mapped when local."""

    def __init__(self, run: Run, passes: Mapping[str, int], split: str, begun: int | None = None) -> None:
        """passes: for each coordinate, the pass whose scores count; 0: the initial model's, if it has one

        begun: a pass for which the scores of the pass before may have been extrapolated
        """
        self._vectors = []
        for name, number in passes.items():
            extrapolated = begun is not None and number == begun - 1
            found = begun_with(run, number + 1, name) if extrapolated else _written(run, number, name, split)
            if found is not None:
                self._vectors.append(found)

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return float64 [len(rows)], summed in the order of the coordinates; [len(rows), K] in the tasks of K classes.

        Raises StepError for a row that a vector does not have: the rows are those of another frame, or damaged.
        """
        if len(rows) and any(rows.min() < 0 or rows.max() >= len(vector) for vector in self._vectors):
            raise StepError(
                f"rows {rows.min()} to {rows.max()} are asked for, and there are scores of "
                f"{min(map(len, self._vectors))}; the shards are of another frame: run partition again"
            )
        total = self._nothing(len(rows))
        for vector in self._vectors:
            total += vector[rows]
        return total

    def span(self, start: int, stop: int) -> NDArray[np.float64]:
        """Return what `gather` returns for the rows start … stop - 1."""
        total = self._nothing(stop - start)
        for vector in self._vectors:
            total += vector[start:stop]
        return total

    def _nothing(self, rows: int) -> NDArray[np.float64]:
        return np.zeros((rows, *(self._vectors[0].shape[1:] if self._vectors else ())))


def begun_with(run: Run, pass_number: int, name: str) -> NDArray[np.float32] | None:
    """Return the training scores of a coordinate that a pass begins with: extrapolated, or those that the pass before
    has left; None where there are none before the first."""
    if name in accelerated(run.config, pass_number):
        path = run.whole(run.accelerated(pass_number, name), accelerate_id(pass_number))
        found: NDArray[np.float32] = storage.read_array(path, memory_map=True)
        return found
    return _written(run, pass_number - 1, name, "training")


def _written(run: Run, number: int, name: str, split: str) -> NDArray[np.float32] | None:
    """Return the scores that a pass has left; of pass 0 the initial model's, None without one."""
    path = run.scores(number, name, split)
    if number == 0 and (run.config.initial_model is None or not storage.exists(path)):
        return None
    # Of the coordinate that is evaluated just now, the vector was made a moment ago.
    run.whole(path, evaluate_id(number, name) if number > 0 else "initialize")
    found: NDArray[np.float32] = storage.read_array(path, memory_map=True)
    return found


def other_scores(run: Run, step: CoordinateStep, split: str) -> ScoreSum:
    """Return the scores of all other coordinates: `step` adds them to the data's own offset to train.

    They are the latest, or what these were heading for (evaluation/acceleration.py).
    """
    passes = latest_scores(run.config, step.pass_number, step.coordinate)
    return ScoreSum(run, passes, split, step.pass_number if split == "training" else None)


def other_margin_variance(run: Run, step: CoordinateStep) -> ScoreSum:
    """Posterior variance of what the other coordinates add to the training rows' offsets, where they know it."""
    passes = latest_scores(run.config, step.pass_number, step.coordinate)
    known = {
        name: number
        for name, number in passes.items()
        if run.config.coordinates[name].automatic and storage.exists(run.scores(number, name, MARGIN_VARIANCE))
    }
    return ScoreSum(run, known, MARGIN_VARIANCE)


def assemble(run: Run, step: CoordinateStep) -> None:
    """Make scores/<split>.npy of a trained coordinate out of the parts its workers wrote, and remove the parts."""
    number, name = step.pass_number, step.coordinate
    frame = Frame(run)
    fixed = run.config.coordinates[name].fixed_effect is not None
    for vector in (*SPLITS, MARGIN_VARIANCE):
        directory = run.coordinate(number, name, "scores", vector)
        parts = [path for path, _, _ in storage.list_files(directory)]
        if not parts:
            continue
        split = "training" if vector == MARGIN_VARIANCE else vector
        rows = frame.rows(split)
        if fixed:
            scores = np.concatenate([storage.read_array(part) for part in parts])
            whole = run.scores(number, name, vector)
            if len(scores) != rows and storage.exists(whole):
                # Training is done, so all parts existed: another task assembled them before it removed any.
                scores = storage.read_array(whole)
        else:
            scores = _scatter(run, step, split, run.scores(number, name, vector), parts, rows)
        if len(scores) != rows:
            raise StepError(f"{directory}: {len(scores)} scores for {rows} rows; run {step.id} again")
        storage.write_array(run.scores(number, name, vector), scores)
        storage.remove(directory)


def _scatter(
    run: Run, step: CoordinateStep, split: str, whole: str, parts: Sequence[str], rows: int
) -> NDArray[np.float32]:
    coordinate = step.coordinate
    scores = np.full(rows, np.nan, np.float32)
    if storage.exists(whole):
        # A shard that is done and has no part was brought in earlier; the parts are those trained since.
        before = storage.read_array(whole)
        scores = before if len(before) == rows else scores
    shards = int(run.result("partition")["coordinates"][coordinate]["shards"])
    for part in parts:
        shard = int(part.rsplit("-", 1)[-1].removesuffix(".npy"))
        if shard >= shards:  # left by a run that was killed, with more shards
            continue
        scores[shard_rows(run, coordinate, split, shard)] = storage.read_array(part)
    missing = int(np.count_nonzero(np.isnan(scores)))
    if missing:
        raise StepError(f"{coordinate}: {missing} of {rows} {split} rows have no score; a shard's part is missing")
    return scores


def shard_rows(run: Run, coordinate: str, split: str, shard: int) -> NDArray[np.int64]:
    """Return int64: the numbers of a shard's rows in the frame, in the shard's order."""
    with storage.open_for_read(run.whole(run.shard(coordinate, split, shard), "partition")) as file:
        rows: NDArray[np.int64] = pq.read_table(file, columns=["row"])["row"].to_numpy()
    return rows
