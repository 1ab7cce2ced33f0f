"""The input of a trainer of the user's own: the rows, and what the other coordinates already say of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from numpy.typing import NDArray

from gdmix_core.data.frame import Frame


@dataclass(frozen=True)
class TrainerInput:
    """One call of the function that `model: python` names.

    It returns {split: scores}, of every split in `splits`, a score a row in row order, [rows(split)]: what the model
    alone adds to the margin, without the offset and without link function. Row i of a split is the same row
    everywhere: in the files, the offsets, the columns and bags.

    Parameters
    ----------
    splits
        "training" and, where the data have one, "validation".
    files
        By split, the frame's Parquet files in row order (columns uid, label, weight, offset, texts, ids; of a bag KEY
        the lists KEY_indices and KEY_values).
    offsets
        By split, float64 [rows]: the data's own offset and the scores of all other coordinates, as far as they are
        trained; the model is to explain what is left.
    settings
        The configuration's `settings`, as they are.
    folder
        An empty folder on this machine; what the function leaves there is kept with the run and exported.
    previous
        What it left there in the pass before; None in the first, or if it left nothing.
    pass_number
        1, 2, …
    seed
        Differs by pipeline, coordinate and pass; the same whenever this step is made again.
    task
        The pipeline's, such as logistic_regression.
    coordinate
        Its name.
    """

    splits: tuple[str, ...]
    files: Mapping[str, list[str]]
    offsets: Mapping[str, NDArray[np.float64]]
    settings: Mapping[str, Any]
    folder: Path
    previous: Path | None
    pass_number: int
    seed: int
    task: str
    coordinate: str
    _frame: Frame = field(repr=False)

    def rows(self, split: str) -> int:
        return self._frame.rows(split)

    def labels(self, split: str) -> NDArray[np.float64]:
        """Return the labels, float64 [rows]."""
        return self._frame.column(split, "label")

    def weights(self, split: str) -> NDArray[np.float64]:
        """Return the weights, float64 [rows], all above 0; 1 without a weight column."""
        return self._frame.column(split, "weight")

    def column(self, split: str, name: str) -> pa.ChunkedArray:
        """Return `uid`, or a column of `columns`: string, int64 or uint64 [rows]. A text that is absent is ""."""
        known = ("uid", *self._frame.manifest["ids"])
        if name not in known:
            raise KeyError(f"{name} is no column of the frame ({', '.join(known)}); name it in fixed_effect.columns")
        return self._frame.ids(split, name)

    def bag(self, split: str, name: str) -> sp.csr_matrix:
        """Return one of `bags`, [rows, features], float32 or float64 as in the input, indices ascending."""
        key = self._key(name)
        found = self._frame.bag(split, key)
        shape = (len(found), self._frame.feature_count(key))
        return sp.csr_matrix((found.values, found.indices, found.offsets), shape=shape)

    def features(self, name: str) -> list[tuple[str, str]]:
        """Return (name, term) of every feature of a bag, by its index."""
        return list(self._frame.feature_list(self._key(name)).names)

    def _key(self, name: str) -> str:
        bags = self._frame.bags_of(self.coordinate)
        if name not in bags:
            raise KeyError(f"{name} is none of the bags of coordinate {self.coordinate}: {', '.join(bags) or 'none'}")
        return bags[name]
