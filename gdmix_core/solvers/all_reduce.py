"""Sums over the workers of one training: the only thing they tell each other."""

from __future__ import annotations

import zlib
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gdmix_core.errors import StepError
from gdmix_core.solvers.lbfgs import ValueAndGradient


class WorkerLostError(StepError):
    """Another worker is gone, or does not answer; all have to start again from the checkpoint."""


class AllReduce(Protocol):
    """A group of workers; each calls `sum` equally often, with vectors of equal length."""

    rank: int
    workers: int

    def sum(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """float64 [n] of every worker → their sum, the same to the bit on each. Raises WorkerLostError."""


class Alone:
    """The group of one."""

    rank = 0
    workers = 1

    def sum(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values


class SharedObjective:
    """The data term over the rows of all workers, from each worker's own: one all-reduce an evaluation.

    Every worker runs the same optimiser on the same numbers, so that all ask for the same w without being told.
    Between machines with different processors or libraries that could fail in the last bit, and they would drift
    apart unnoticed; so a checksum of w is summed along.
    """

    def __init__(self, own: ValueAndGradient, group: AllReduce) -> None:
        self._own = own
        self._group = group
        self.evaluations = 0

    def value_and_gradient(self, w: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Raises WorkerLostError, and StepError when the workers do not evaluate the same w."""
        self.evaluations += 1
        value, gradient = self._own(w)
        if self._group.workers == 1:
            return value, gradient
        # A sum of 32-bit integers is exact in float64.
        checksum = float(zlib.crc32(w.tobytes()))
        total = self._group.sum(np.concatenate([[value, checksum], gradient]))
        if total[1] != checksum * self._group.workers:
            raise StepError(
                f"worker {self._group.rank} evaluates other coefficients than the rest after {self.evaluations} "
                "evaluations; all workers need the same NumPy and SciPy, the same kind of processor, and "
                "OPENBLAS_NUM_THREADS=1"
            )
        return float(total[0]), total[2:]
