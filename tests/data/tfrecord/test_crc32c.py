"""CRC-32C against published values and the crc32c package."""

from __future__ import annotations

import crc32c as oracle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdmix_core.data.tfrecord.crc32c import crc32c_of_range, masked_crc32c_of_range


def crc32c(data: bytes) -> int:
    octets = np.array(np.frombuffer(data, np.uint8))
    return int(crc32c_of_range(octets, 0, len(octets)))


@pytest.mark.parametrize(
    ("data", "crc"),
    [
        # RFC 3720, appendix B.4
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        # the check value of the catalogue of CRC algorithms
        (b"123456789", 0xE3069283),
        (b"", 0),
    ],
)
def test_published_values(data: bytes, crc: int) -> None:
    assert crc32c(data) == crc


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_as_the_crc32c_package(data: bytes) -> None:
    crc = oracle.crc32c(data)
    assert crc32c(data) == crc
    octets = np.array(np.frombuffer(data, np.uint8))
    assert masked_crc32c_of_range(octets, 0, len(octets)) == (((crc >> 15) | (crc << 17)) + 0xA282EAD8) % (1 << 32)


@settings(deadline=None)
@given(st.binary(max_size=100), st.data())
def test_a_range_alone_counts(data: bytes, draw: st.DataObject) -> None:
    start = draw.draw(st.integers(0, len(data)))
    stop = draw.draw(st.integers(start, len(data)))
    octets = np.array(np.frombuffer(data, np.uint8))
    assert crc32c_of_range(octets, start, stop) == oracle.crc32c(data[start:stop])


def test_a_megabyte() -> None:
    data = np.random.default_rng(3).integers(0, 256, 1 << 20, dtype=np.uint8)
    assert crc32c(data.tobytes()) == oracle.crc32c(data.tobytes())
