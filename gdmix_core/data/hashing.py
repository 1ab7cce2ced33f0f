"""Stable 64-bit hashes of ids: the same on every machine, in every process, for every release."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gdmix_core.data.id_types import as_bits
from gdmix_core.jit import njit


@njit(cache=True, nogil=True, inline="always")
def mix(x: np.uint64) -> np.uint64:
    """Apply SplitMix64's finaliser (Steele, Lea, Flood 2014): an input bit flips each output bit half of the time."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(cache=True, nogil=True)
def _hash_integers(ids: NDArray[np.int64], out: NDArray[np.uint64]) -> None:
    for i in range(len(ids)):
        out[i] = mix(np.uint64(ids[i]) + np.uint64(0x9E3779B97F4A7C15))


@njit(cache=True, nogil=True)
def _hash_strings(data: NDArray[np.uint8], offsets: NDArray[np.int64], out: NDArray[np.uint64]) -> None:
    for i in range(len(out)):
        h = np.uint64(0xCBF29CE484222325)  # FNV-1a, then mixed: FNV alone leaves the high bits of short strings alike
        for s in range(offsets[i], offsets[i + 1]):
            h = (h ^ np.uint64(data[s])) * np.uint64(0x100000001B3)
        out[i] = mix(h)


def hash_ids(ids: pa.Array) -> NDArray[np.uint64]:
    """Hash int64, uint64 or string ids without nulls to uint64 [n]; a null hashes like 0 or the empty string."""
    out = np.empty(len(ids), np.uint64)
    if pa.types.is_integer(ids.type):
        _hash_integers(as_bits(ids).fill_null(0).to_numpy(zero_copy_only=False), out)
        return out
    text = ids.cast(pa.large_string())
    _, offsets, data = text.buffers()
    begins = np.frombuffer(offsets, np.int64)[text.offset : text.offset + len(text) + 1]
    _hash_strings(np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8), begins, out)
    return out
