"""Named sparse features of rows, put together from attributes: categories, sets of categories, numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack

from gdmix_core.data.ragged import Bag

FeatureName = tuple[str, str]

# Values up to this size are not stored; the threshold of GDMix's sample.
_NEGLIGIBLE = 1e-6


@dataclass(frozen=True)
class Features:
    """Rows of features.

    names: (name, term) of each column
    matrix: CSR, float32 [rows, len(names)], columns ascending within a row
    """

    names: tuple[FeatureName, ...]
    matrix: csr_matrix

    def __len__(self) -> int:
        return int(self.matrix.shape[0])

    def rows(self, rows: NDArray[np.integer]) -> Features:
        return Features(self.names, self.matrix[rows])

    def bag(self) -> Bag:
        matrix = self.matrix
        return Bag(matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), matrix.data)


def number(name: str, values: NDArray[np.floating]) -> Features:
    """Make one column. NaN: the row does not have the feature."""
    present = np.abs(values) > _NEGLIGIBLE  # False for NaN
    offsets = np.concatenate([[0], np.cumsum(present)])
    kept = values[present].astype(np.float32)
    matrix = csr_matrix((kept, np.zeros(len(kept), np.int32), offsets), shape=(len(values), 1))
    return Features(((name, ""),), matrix)


def categories(
    values: pa.Array | pa.ChunkedArray, *, name: str | None = None, terms: Sequence[str] | None = None
) -> Features:
    """Make one column per distinct string, with 1 where the row has it; a null row has none.

    name: feature (name, term) for each string; without it the string is the name and the term is empty
    terms: the columns and their order; default: the strings that occur, sorted
    """
    single = pc.fill_null(values, "")
    flat = single.combine_chunks() if isinstance(single, pa.ChunkedArray) else single
    lists = pa.ListArray.from_arrays(pa.array(np.arange(len(flat) + 1, dtype=np.int32)), flat)
    if terms is None:
        terms = sorted(pc.unique(values.drop_null()).to_pylist())
    return category_sets(lists, name=name, terms=terms)


def category_sets(lists: pa.ListArray, *, name: str | None = None, terms: Sequence[str] | None = None) -> Features:
    """Make features as `categories` does, of rows that hold a list of strings; unknown terms are left out."""
    strings = lists.flatten()
    if terms is None:
        terms = sorted(pc.unique(strings).to_pylist())
    codes = pc.index_in(strings, value_set=pa.array(terms, pa.string()))
    known = codes.is_valid().to_numpy(zero_copy_only=False)
    row_of = np.repeat(np.arange(len(lists)), lists.value_lengths().to_numpy(zero_copy_only=False))[known]
    columns = codes.drop_null().to_numpy().astype(np.int32)
    matrix = csr_matrix((np.ones(len(columns), np.float32), (row_of, columns)), shape=(len(lists), len(terms)))
    matrix.data[:] = 1  # a string twice in one list was summed
    matrix.sort_indices()
    return Features(tuple((term, "") if name is None else (name, term) for term in terms), matrix)


def flags(names: Sequence[str], columns: Sequence[NDArray[np.integer]]) -> Features:
    """Make one column per array of zeros and ones, under the given names without a term."""
    matrix = csr_matrix(np.stack(columns, axis=1).astype(np.float32))
    return Features(tuple((name, "") for name in names), matrix)


def side_by_side(parts: Sequence[Features]) -> Features:
    """Join the columns of all parts, in their order. A feature name must not occur in two of them."""
    names = tuple(name for part in parts for name in part.names)
    assert len(set(names)) == len(names), f"a feature stands twice among {names}"
    if len(parts) == 1:
        return parts[0]
    matrix = hstack([part.matrix for part in parts], format="csr")
    matrix.sort_indices()
    return Features(names, matrix)
