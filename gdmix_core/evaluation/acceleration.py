"""Anderson acceleration of the passes, on the score vectors: no features are read, and 4 bytes a row are written.

A pass maps the scores that its coordinates find when it begins, x, to those they leave, g(x); at the joint optimum the
two are the same. Where coordinates explain the same rows, such as a fixed intercept and the entities' intercepts, the
passes go there by a factor near 1. From the last passes' pairs (x_k, g_k), with residuals f_k = g_k − x_k and the
differences ΔF and ΔG from one pass to the next, the next pass begins with

    x = g_k − ΔG γ,   γ = argmin ‖f_k − ΔF γ‖

(Anderson 1965, "Iterative procedures for nonlinear integral equations"; Walker and Ni 2011, "Anderson acceleration for
fixed-point iterations"). The models are still those of their coordinates' own optimum, with other offsets.

One such direction is known. At the joint optimum of a model with a free fixed intercept, the penalised intercepts of
each random effect have a mean of 0: to move it into the fixed intercept changes no score, and makes the penalty
smaller. So g is what the pass has left after that move. (Where both train on all rows: with samples.min or max, or
downsampling, that is not so, and nothing is moved.)
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from gdmix_core import storage
from gdmix_core.config.coordinate import Coordinate
from gdmix_core.data.frame import Frame
from gdmix_core.data.scores import begun_with
from gdmix_core.pipeline.once import once
from gdmix_core.pipeline.plan import Step, accelerated, evaluate_id, train_id, trained
from gdmix_core.pipeline.run import Run

log = logging.getLogger(__name__)

MEMORY = 5  # differences that are looked back at
# Where the scores move by less than float32 resolves, there is nothing to learn from how they do.
_RESOLVED = 1e-6
# Of the (scaled) Gram matrix's eigenvalues: what is below is the rounding of float32 scores.
_INDEPENDENT = 1e-10
# A pass that moves the scores so much more than the one before follows another map, as with another λ.
_GROWTH = 2.0
# Of the extrapolation, in lengths of the last residual.
_FARTHEST = 100.0
_ROWS_AT_A_TIME = 1 << 16


def accelerate(run: Run, step: Step) -> dict[str, Any]:
    """Write the scores that a pass begins with; return how far the pass before moved them, in the margin's unit."""
    return once(run, step, lambda: _accelerate(run, step))


def _accelerate(run: Run, step: Step) -> dict[str, Any]:
    assert step.pass_number is not None
    number, names = step.pass_number, accelerated(run.config, step.pass_number)
    rows = Frame(run).rows("training")
    history = _History(run, names, range(max(1, number - 1 - MEMORY), number), rows)
    # BLAS rounds by its number of threads.
    with threadpool_limits(1, "blas"):
        moved, coefficients = history.coefficients()
        for name in names:
            storage.write_array(run.accelerated(number, name), history.extrapolated(name, coefficients))
    log.info(
        "%s: the pass before moved the scores by %.3g (root mean square), %.3g at most; extrapolated from %d passes",
        step.id, moved["rms"], moved["largest"], len(coefficients) + 1,
    )  # fmt: skip
    return {"pass": number, "moved": moved, "coefficients": coefficients.tolist()}


class _History:
    """What the passes began and ended with. One coordinate's vectors are open at a time, memory-mapped when local."""

    def __init__(self, run: Run, names: list[str], passes: range, rows: int) -> None:
        self._run, self._names, self._passes, self._rows = run, names, passes, rows
        self._moves = {name: np.array([[_moves(run, p).get(name, 0.0)] for p in passes]) for name in names}

    def coefficients(self) -> tuple[dict[str, float], NDArray[np.float64]]:
        """Return ({rms, largest} of the last residual, γ float64 [differences])."""
        passes = len(self._passes)
        products, of_ends, with_last = np.zeros((passes, passes)), np.zeros((passes, passes)), np.zeros(passes)
        largest = size = 0.0
        for name in self._names:
            for _, start, end in self._pieces(name):
                residual = end - start
                products += residual @ residual.T
                of_ends += end @ end.T
                with_last += end @ residual[-1]
                largest = max(largest, float(np.max(np.abs(residual[-1]), initial=0.0)))
                size = max(size, float(np.max(np.abs(end[-1]), initial=0.0)))
        squares = np.diag(products)
        moved = {"rms": float(np.sqrt(squares[-1] / max(1, self._rows * len(self._names)))), "largest": largest}
        grown = np.flatnonzero(squares[1:] > _GROWTH**2 * squares[:-1])
        first = int(grown[-1]) + 1 if len(grown) else 0
        if largest <= _RESOLVED * size:
            first = passes - 1
        found = _least_squares(products[first:, first:])
        # Passes go towards the optimum: who would have to go back, or very far, has seen a map that changes.
        difference = np.diff(np.eye(passes), axis=0)[first:]
        steps = found @ difference
        ahead = -float(steps @ with_last)
        length = math.sqrt(max(0.0, float(steps @ of_ends @ steps)))
        if ahead <= 0.0:
            return moved, found[:0]
        return moved, found * min(1.0, _FARTHEST * math.sqrt(squares[-1]) / length)

    def extrapolated(self, name: str, coefficients: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return x float32 [rows] of a coordinate."""
        found = np.empty(self._rows, np.float32)
        for first, end in self._ends(name, len(coefficients) + 1):
            found[first : first + end.shape[1]] = end[-1] - coefficients @ np.diff(end, axis=0)
        return found

    def _pieces(self, name: str) -> Iterator[tuple[int, NDArray[np.float64], NDArray[np.float64]]]:
        """Yield (first row, starts, ends) of consecutive rows, float64 [passes, rows of the piece]."""
        starts = [begun_with(self._run, p, name) for p in self._passes]
        for first, end in self._ends(name, len(self._passes)):
            rows = slice(first, first + end.shape[1])
            none = np.zeros(end.shape[1])
            start = np.stack([none if vector is None else vector[rows] for vector in starts])
            yield first, start.astype(np.float64), end

    def _ends(self, name: str, count: int) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """Yield (first row, ends of the last `count` passes) of consecutive rows, float64 [count, rows]."""
        run, passes = self._run, self._passes[-count:]
        written = (run.whole(run.scores(p, name, "training"), evaluate_id(p, name)) for p in passes)
        ends = [storage.read_array(path, memory_map=True) for path in written]
        for first in range(0, self._rows, _ROWS_AT_A_TIME):
            rows = slice(first, min(first + _ROWS_AT_A_TIME, self._rows))
            end = np.stack([vector[rows] for vector in ends]).astype(np.float64)
            yield first, end + self._moves[name][-count:]


def _moves(run: Run, number: int) -> dict[str, float]:
    """Return what the move of the random intercepts' means adds to each coordinate's scores after a pass."""
    config = run.config
    fixed = [name for name in trained(config) if _takes_means(config.coordinates[name])]
    if not fixed or (config.initial_model is not None and config.initial_model.prior_weight > 0):
        return {}
    means = {
        name: run.result(train_id(number, name))["intercept_mean"]
        for name in trained(config)
        if _has_mean_zero(config.coordinates[name])
    }
    return {name: -mean for name, mean in means.items()} | {fixed[0]: sum(means.values())}


def _takes_means(settings: Coordinate) -> bool:
    """Check for a fixed effect whose intercept is free, and which trains on all rows."""
    effect = settings.fixed_effect
    free = settings.intercept and not settings.regularize_intercept and not settings.bounds
    return effect is not None and free and settings.linear.downsampling == 1.0


def _has_mean_zero(settings: Coordinate) -> bool:
    """Check for a random effect whose intercepts are pulled to 0, all alike, and which trains on all rows.

    Of other rows than the fixed effect's the slopes of the loss do not add up to 0 where these do.
    """
    effect = settings.random_effect
    if effect is None or effect.samples.min > 1 or effect.samples.max is not None:
        return False
    pulled = settings.automatic is not None or (settings.regularize_intercept and settings.l2_weight > 0)
    return settings.intercept and pulled and settings.l1_weight == 0 and not settings.bounds


def _least_squares(products: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return γ float64 [n − 1] from the inner products of n residuals, float64 [n, n]."""
    if len(products) < 2:
        return np.empty(0)
    difference = np.diff(np.eye(len(products)), axis=0)
    gram, right = difference @ products @ difference.T, difference @ products[-1]
    scale = np.sqrt(np.diag(gram))
    scale[scale == 0.0] = 1.0
    values, vectors = np.linalg.eigh(gram / np.outer(scale, scale))
    kept = values > _INDEPENDENT * values[-1]
    inverse = (vectors[:, kept] / values[kept]) @ vectors[:, kept].T
    found: NDArray[np.float64] = (inverse @ (right / scale)) / scale
    return found
