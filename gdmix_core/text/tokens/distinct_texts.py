"""A column of texts, each distinct one tokenised once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gdmix_core.jit import njit

Tokenize = Callable[[Any], Any]

# Texts tokenised at once: a table of them, padded, is in memory for a moment.
_AT_ONCE = 16_384


@dataclass(frozen=True)
class DistinctTexts:
    """offsets int64 [U + 1], tokens int32 [Σ]: the tokens of text u are tokens[offsets[u] : offsets[u + 1]].

    codes int32 [n]: which text each row has
    """

    offsets: NDArray[np.int64]
    tokens: NDArray[np.int32]
    codes: NDArray[np.int32]

    def of_rows(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return (int32 [U, T]: distinct texts of the rows, padded with 0; int32 [rows]: which of them a row has)."""
        used, which = np.unique(self.codes[rows], return_inverse=True)
        longest = int(np.max(self.offsets[used + 1] - self.offsets[used], initial=1))
        padded = np.zeros((len(used), longest), np.int32)
        _pad(self.offsets, self.tokens, used, padded)
        return padded, which.astype(np.int32)


def encode(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Encode strings or integers as dictionary-encoded strings; an absent one is ""."""
    if not pa.types.is_string(column.type):
        column = column.cast(pa.string())
    return pc.fill_null(column, "").dictionary_encode()


def distinct_texts(column: pa.ChunkedArray, tokenize: Tokenize) -> DistinctTexts:
    """Tokenize each distinct text of a column once.

    column: of dictionary-encoded strings, whose chunks may have dictionaries of their own
    tokenize: string [n] → int32 [n, T], padded with 0 at the end
    """
    column = column.unify_dictionaries()
    texts = column.chunk(0).dictionary if column.num_chunks else pa.array([], pa.string())
    codes = [chunk.indices.to_numpy(zero_copy_only=False).astype(np.int32, copy=False) for chunk in column.chunks]
    lengths, tokens = [np.zeros(1, np.int64)], [np.empty(0, np.int32)]
    for start in range(0, len(texts), _AT_ONCE):
        padded = np.asarray(tokenize(texts.slice(start, _AT_ONCE).to_numpy(zero_copy_only=False)))
        length = padded.shape[1] - np.argmax(padded[:, ::-1] != 0, axis=1)
        length[~np.any(padded != 0, axis=1)] = 0
        lengths.append(length.astype(np.int64))
        tokens.append(padded[np.arange(padded.shape[1]) < length[:, None]].astype(np.int32, copy=False))
    return DistinctTexts(
        np.cumsum(np.concatenate(lengths)),
        np.concatenate(tokens),
        np.concatenate([np.empty(0, np.int32), *codes]),
    )


@njit(cache=True, nogil=True)
def _pad(
    offsets: NDArray[np.int64], tokens: NDArray[np.int32], used: NDArray[np.int32], padded: NDArray[np.int32]
) -> None:
    for k in range(len(used)):
        begin = offsets[used[k]]
        for t in range(offsets[used[k] + 1] - begin):
            padded[k, t] = tokens[begin + t]
