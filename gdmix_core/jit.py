"""Numba's njit, for kernels whose compiled code is kept on disk and loaded by other processes.

Numba numbers the functions that it compiles, from 1 in each process, and the numbers become a part of the symbols in
the compiled code. Two kernels that were compiled by two processes can so bring along different functions under one
symbol, of which a third process that loads both uses the first for both: it crashes, or computes something else
(https://github.com/numba/numba/issues/10486). Random numbers make every symbol the only one of its name.
"""

from __future__ import annotations

import secrets
from functools import partial

from numba import njit
from numba.core.bytecode import FunctionIdentity

__all__ = ["njit"]

# An iterator without an end that threads may share, as Numba's own is.
FunctionIdentity._unique_ids = iter(partial(secrets.randbits, 63), -1)
