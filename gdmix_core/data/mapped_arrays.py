"""Arrays in files that are mapped into memory: the system keeps the parts that are in use, and reads the rest again.

They are what memory would not hold: their speed is that of the disk. The system gets no advice: where several threads
read several arrays each, MADV_SEQUENTIAL halved the speed, and MADV_WILLNEED did not raise it.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gdmix_core.errors import StorageError

_TRIES = 20

Empty = Callable[[int, DTypeLike], NDArray]  # makes an array of a length and a type, as np.empty does


class MappedArrays:
    """Makes arrays in files of a folder. The files have no name, so that nothing of them is left behind.

    Parameters
    ----------
    folder
        Made where it is missing, and removed again where nobody else uses it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def empty(self, length: int, dtype: DTypeLike) -> NDArray:
        """Return an array [length] of any content, which can be written to.

        Raises StorageError where the folder cannot be written to, or has not so much room.
        """
        size = length * np.dtype(dtype).itemsize
        if size == 0:
            return np.empty(length, dtype)
        try:
            with self._unnamed_file() as file:
                # All of it now: where a page of a sparse file finds no room, the process would be killed.
                os.posix_fallocate(file.fileno(), 0, size)
                mapped = mmap.mmap(file.fileno(), size)
        except OSError as error:
            raise StorageError(
                f"{self._folder}: no room for {size / 1e9:.3g} GB of rows, which memory does not hold "
                f"({error.strerror}); make room there, let engine.local.spill name another folder, or raise "
                "engine.local.memory"
            ) from None
        with contextlib.suppress(OSError):
            self._folder.rmdir()
        return np.frombuffer(mapped, dtype)

    def _unnamed_file(self) -> IO[bytes]:
        for _ in range(_TRIES):
            self._folder.mkdir(parents=True, exist_ok=True)
            # Another process may remove the folder, which looks empty, at any moment.
            with contextlib.suppress(FileNotFoundError):
                return tempfile.TemporaryFile(dir=self._folder)
        return tempfile.TemporaryFile(dir=self._folder)
