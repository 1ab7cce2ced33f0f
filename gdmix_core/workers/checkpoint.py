"""The checkpoint from which a killed step resumes; of a fixed effect its latest coefficients."""

from __future__ import annotations

import io
import logging
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdmix_core import storage

log = logging.getLogger(__name__)

# Share of the time that writing checkpoints may take. On a local disk most iterations are kept, on an object
# store one in a few seconds.
_SHARE = 0.05


class StepCheckpoint:
    """Arrays in a directory, with the key of the step they belong to.

    A directory of its own, so that what a killed writer left behind goes with it.
    """

    def __init__(self, directory: str, key: str, name: str) -> None:
        self.directory = directory
        self.path = storage.join(directory, name)
        self._key = key
        self._next_write = 0.0

    def read_arrays(self) -> dict[str, NDArray[Any]] | None:
        """Read them; None where there are none, or those of other settings or other input."""
        if not storage.exists(self.path):
            return None
        with storage.open_for_read(self.path) as file:
            content = file.read()
        try:
            with np.load(io.BytesIO(content)) as stored:
                if str(stored["key"]) != self._key:
                    return None
                return {name: stored[name] for name in stored.files if name != "key"}
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            log.warning("%s: not a readable checkpoint (%s); training starts anew", self.path, error)
            return None

    def write_arrays(self, arrays: Mapping[str, Any]) -> None:
        begin = time.monotonic()
        with storage.open_for_write(self.path) as file:
            np.savez(file, key=self._key, **arrays)
        end = time.monotonic()
        self._next_write = end + (end - begin) / _SHARE

    def offer_arrays(self, arrays: Callable[[], Mapping[str, Any]]) -> None:
        """Write them, unless the last were written too short a time ago."""
        if time.monotonic() >= self._next_write:
            self.write_arrays(arrays())

    def remove(self) -> None:
        storage.remove(self.directory)


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


class IterateCheckpoint(StepCheckpoint):
    """iterate.npz, the latest coefficients of a fixed effect."""

    def __init__(self, directory: str, key: str) -> None:
        super().__init__(directory, key, "iterate.npz")

    def read(self) -> Iterate | None:
        """Read it; None where there is none, or one of other settings or other input."""
        stored = self.read_arrays()
        if stored is None:
            return None
        try:
            counts = {name: int(stored[name]) for name in ("iterations", "evaluations", "hessian_products")}
            return Iterate(stored["w"], variance=stored["variance"], **counts)
        except KeyError as error:
            log.warning("%s: not a readable checkpoint (%s); training starts anew", self.path, error)
            return None

    def offer(self, iterate: Iterate) -> None:
        """Write it, unless the last one was written too short a time ago."""
        self.offer_arrays(lambda: asdict(iterate))
