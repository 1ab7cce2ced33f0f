"""TFRecord files: read in chunks of whole records, split into byte ranges, written.

A record is stored as: its length (uint64), the masked CRC-32C of that length (uint32), the payload, the masked CRC-32C
of the payload (uint32); all little-endian. Source: https://www.tensorflow.org/tutorials/load_data/tfrecord.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from gdmix_core.data import record_frames as frames
from gdmix_core.data.byte_streams import (
    ByteSource,
    compression_of,
    is_url,
    open_sink,
    open_source,
    stored_bytes,
)
from gdmix_core.errors import DataError
