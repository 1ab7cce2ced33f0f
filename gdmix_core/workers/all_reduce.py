"""Sums over the workers of one training: the only thing they tell each other."""

from __future__ import annotations

import contextlib
import zlib
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gdmix_core.errors import StepError


class WorkerLostError(StepError):
    """Another worker is gone, or does not answer; all have to start again from the checkpoint."""


class AllReduce(Protocol):
    """A group of workers; each calls `sum` equally often, with vectors of equal length."""

    rank: int
    workers: int

    def sum(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Add up float64 [n] of every worker; the sum is the same to the bit on each. Raises WorkerLostError."""


class SingleWorker:
    """The group of one: what TensorFlowAllReduce does, without TensorFlow's cluster."""

    rank = 0
    workers = 1

    def sum(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values

    def sum_in_graph(self, values: Any) -> Any:
        return values

    def barrier(self) -> None:
        pass

    def leave(self) -> None:
        pass

    def losing_workers(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


class DataTerm(Protocol):
    """The part of a GlobalObjective that is computed of the rows it holds; its docstrings say what each is."""

    def value_and_gradient(self, w: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]: ...
    def move_to(self, w: NDArray[np.float64]) -> None: ...
    def product(self, v: NDArray[np.float64]) -> NDArray[np.float64]: ...
    def diagonal(self) -> NDArray[np.float64]: ...
    def hessian(self) -> NDArray[np.float64]: ...
    def third_product(self, q: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]: ...
    def margin_variance_gradient(self, V: NDArray[np.float64]) -> NDArray[np.float64]: ...


class SharedObjective:
    """The data term over the rows of all workers, from each worker's own: one all-reduce for each thing asked.

    Every worker runs the same optimiser on the same numbers, so that all ask for the same w without being told.
    Between machines with different processors or libraries that could fail in the last bit, and they would drift
    apart unnoticed; so a checksum of what was asked is summed along.

    evaluations: passes over the rows for loss and gradient; hessian_products: those for any further derivative
    All methods raise WorkerLostError, and StepError when the workers do not ask for the same.
    """

    def __init__(self, own: DataTerm, group: AllReduce) -> None:
        self._own = own
        self._group = group
        self.evaluations = 0
        self.hessian_products = 0

    def value_and_gradient(self, w: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        self.evaluations += 1
        value, gradient = self._own.value_and_gradient(w)
        total = self._sum(np.concatenate([[value], gradient]), w)
        return float(total[0]), total[1:]

    def move_to(self, w: NDArray[np.float64]) -> None:
        self._own.move_to(w)

    def product(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        return self._counted_sum(self._own.product(v), v)

    def diagonal(self) -> NDArray[np.float64]:
        return self._counted_sum(self._own.diagonal())

    def hessian(self) -> NDArray[np.float64]:
        return self._counted_sum(self._own.hessian())

    def third_product(self, q: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
        return self._counted_sum(self._own.third_product(q, v), q, v)

    def margin_variance_gradient(self, V: NDArray[np.float64]) -> NDArray[np.float64]:
        return self._counted_sum(self._own.margin_variance_gradient(V), V)

    def _counted_sum(self, own: NDArray[np.float64], *asked: NDArray[np.float64]) -> NDArray[np.float64]:
        self.hessian_products += 1
        return self._sum(own, *asked)

    def _sum(self, own: NDArray[np.float64], *asked: NDArray[np.float64]) -> NDArray[np.float64]:
        if self._group.workers == 1:
            return own
        # A sum of 32-bit integers is exact in float64.
        checksum = float(zlib.crc32(b"".join(vector.tobytes() for vector in asked)))
        total = self._group.sum(np.concatenate([[checksum], own.ravel()]))
        if total[0] != checksum * self._group.workers:
            raise StepError(
                f"worker {self._group.rank} evaluates other coefficients than the rest after {self.evaluations} "
                "evaluations; all workers need the same NumPy and SciPy, the same kind of processor, and "
                "OPENBLAS_NUM_THREADS=1"
            )
        return total[1:].reshape(own.shape)
