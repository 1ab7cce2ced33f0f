"""An index of the positions of ids in a long array: built once, looked up batch by batch."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gdmix_core.data.hashing import hash_ids
from gdmix_core.data.id_types import among


class IdIndex:
    """ids: int64, uint64 or string [n], without nulls and repeats. Takes 16 bytes an id beside them."""

    def __init__(self, ids: pa.Array) -> None:
        self._ids = ids
        hashes = hash_ids(ids)
        self._order = np.argsort(hashes, kind="stable")
        self._sorted = hashes[self._order]
        # Two strings may have one hash, in theory; a search by the hash would then find one of them only.
        self._ambiguous = bool(np.any(self._sorted[1:] == self._sorted[:-1]))

    def __len__(self) -> int:
        return len(self._ids)

    def positions(self, wanted: pa.Array) -> NDArray[np.int64]:
        """Return int64 [len(wanted)]: the position of each in ids; −1 for one that is not there, and for a null.

        wanted: of the same type, or integers of another
        """
        wanted = among(wanted, self._ids.type)
        if len(self._ids) == 0 or self._ambiguous:
            found = pc.index_in(wanted, value_set=self._ids, skip_nulls=True)
            return found.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        at = np.searchsorted(self._sorted, hash_ids(wanted))
        positions = self._order[np.minimum(at, len(self._order) - 1)]
        same = pc.equal(self._ids.take(pa.array(positions)), wanted).fill_null(False)
        return np.where(same.to_numpy(zero_copy_only=False), positions, -1)
