"""CRC-32C (Castagnoli) and the masked form that TFRecord files store.

Slicing-by-8: eight table look-ups take in eight bytes at a time. Source: Kounavis and Berry, "A systematic
approach to building high performance software-based CRC generators", ISCC 2005.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gdmix_core.jit import njit

REVERSED_POLYNOMIAL = 0x82F63B78
# TFRecord stores rotate_right(crc, 15) + MASK_DELTA, so that a CRC of data that holds CRCs is not degenerate.
MASK_DELTA = np.uint32(0xA282EAD8)
_ALL_ONES = np.uint32(0xFFFFFFFF)


def _slicing_tables() -> NDArray[np.uint32]:
    """Return uint32 [8, 256]: tables[k, b] is the CRC state that byte b leaves behind after k more zero bytes."""
    tables = np.empty((8, 256), np.uint32)
    state = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        state = np.where(state & 1, (state >> 1) ^ np.uint32(REVERSED_POLYNOMIAL), state >> 1)
    tables[0] = state
    for k in range(1, 8):
        tables[k] = (tables[k - 1] >> 8) ^ tables[0][tables[k - 1] & 0xFF]
    return tables


_TABLES = _slicing_tables()


@njit(cache=True, nogil=True)
def load_uint32(data: NDArray[np.uint8], at: int) -> np.uint32:
    """Return the little-endian uint32 at data[at : at + 4] (one machine load after compilation)."""
    return (
        np.uint32(data[at])
        | (np.uint32(data[at + 1]) << np.uint32(8))
        | (np.uint32(data[at + 2]) << np.uint32(16))
        | (np.uint32(data[at + 3]) << np.uint32(24))
    )


@njit(cache=True, nogil=True)
def crc32c_of_range(data: NDArray[np.uint8], start: int, stop: int) -> np.uint32:
    """CRC-32C of data[start:stop]; data is uint8 [n], the caller answers for 0 <= start <= stop <= n."""
    state = _ALL_ONES
    at = start
    while stop - at >= 8:
        low = state ^ load_uint32(data, at)
        high = load_uint32(data, at + 4)
        state = (
            _TABLES[7, low & np.uint32(0xFF)]
            ^ _TABLES[6, (low >> np.uint32(8)) & np.uint32(0xFF)]
            ^ _TABLES[5, (low >> np.uint32(16)) & np.uint32(0xFF)]
            ^ _TABLES[4, low >> np.uint32(24)]
            ^ _TABLES[3, high & np.uint32(0xFF)]
            ^ _TABLES[2, (high >> np.uint32(8)) & np.uint32(0xFF)]
            ^ _TABLES[1, (high >> np.uint32(16)) & np.uint32(0xFF)]
            ^ _TABLES[0, high >> np.uint32(24)]
        )
        at += 8
    while at < stop:
        state = _TABLES[0, (state ^ np.uint32(data[at])) & np.uint32(0xFF)] ^ (state >> np.uint32(8))
        at += 1
    return np.uint32(state ^ _ALL_ONES)


@njit(cache=True, nogil=True)
def masked_crc32c_of_range(data: NDArray[np.uint8], start: int, stop: int) -> np.uint32:
    """Return the masked CRC-32C of data[start:stop], as TFRecord stores it."""
    crc = np.uint64(crc32c_of_range(data, start, stop))
    rotated = (crc >> np.uint64(15)) | (crc << np.uint64(17))
    return np.uint32((rotated + np.uint64(MASK_DELTA)) & np.uint64(0xFFFFFFFF))
