"""The checkpoint of a fixed effect in training: its latest coefficients, for a killed step to go on from."""

from __future__ import annotations

import io
import logging
import time
import zipfile
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from gdmix_core import storage
from gdmix_core.plan import Step
from gdmix_core.run import Run

log = logging.getLogger("gdmix_core.fixed_effect")

# Share of the time that writing checkpoints may take. On a local disk most iterations are kept, on an object
# store one in a few seconds.
_SHARE = 0.05


@dataclass(frozen=True)
class Iterate:
    """w float64 [features + 1], in the scaled features' units, and how many passes over the rows led there.

    variance: float64 [groups], 1/λ in use there; empty where λ is given
    """

    w: NDArray[np.float64]
    iterations: int = 0
    evaluations: int = 0
    hessian_products: int = 0
    variance: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))


class Checkpoint:
    """passes/<nn>/<coordinate>/checkpoint/iterate.npz, with the key of the step it belongs to.

    A directory of its own, so that what a killed writer left behind goes with it.
    """

    def __init__(self, run: Run, step: Step) -> None:
        assert step.pass_number is not None
        assert step.coordinate is not None
        self._directory = run.coordinate(step.pass_number, step.coordinate, "checkpoint")
        self._path = storage.join(self._directory, "iterate.npz")
        self._key = run.keys[step.id]
        self._next_write = 0.0

    def read(self) -> Iterate | None:
        """None where there is none, or one of other settings or other input."""
        if not storage.exists(self._path):
            return None
        with storage.open_for_read(self._path) as file:
            content = file.read()
        try:
            with np.load(io.BytesIO(content)) as stored:
                if str(stored["key"]) != self._key:
                    return None
                counts = {name: int(stored[name]) for name in ("iterations", "evaluations", "hessian_products")}
                return Iterate(stored["w"], variance=stored["variance"], **counts)
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            log.warning("%s: not a readable checkpoint (%s); training starts anew", self._path, error)
            return None

    def offer(self, iterate: Iterate) -> None:
        """Writes it, unless the last one was written too short a time ago."""
        begin = time.monotonic()
        if begin < self._next_write:
            return
        with storage.open_for_write(self._path) as file:
            np.savez(file, key=self._key, **asdict(iterate))
        end = time.monotonic()
        self._next_write = end + (end - begin) / _SHARE

    def remove(self) -> None:
        storage.remove(self._directory)
