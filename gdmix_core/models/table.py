"""Coefficients in memory, in the shape that training writes, scoring reads and Avro files are made from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gdmix_core.data.id_types import repeated
from gdmix_core.data.plain_columns import plain, plain_type
from gdmix_core.errors import DataError

INTERCEPT_INDEX = -1
_LARGEST_FEATURE = np.iinfo(np.int32).max


@dataclass(frozen=True)
class CoefficientTable:
    """Coefficients of one coordinate, or of one shard of it: one row per entity, sorted by entity.

    Parameters
    ----------
    entities
        string, int64 or uint64 [n]; a fixed effect has one row, whose entity is "global".
    offsets
        int64 [n + 1], offsets[0] == 0; entity i owns the entries offsets[i] : offsets[i + 1].
    features
        int32 [entries]; INTERCEPT_INDEX first where the model has an intercept, then ascending.
    means
        float64 [entries], in the features' units.
    variances
        float64 [entries], nan where there is none for an entry; None where there are none at all.

    Raises
    ------
    ValueError
        When offsets or lengths do not fit together: kernels index by them.
    """

    entities: pa.Array
    offsets: NDArray[np.int64]
    features: NDArray[np.int32]
    means: NDArray[np.float64]
    variances: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.entities, pa.Array) or plain_type(self.entities.type) != self.entities.type:
            entities = self.entities if isinstance(self.entities, pa.Array) else pa.array(self.entities)
            object.__setattr__(self, "entities", plain(entities))
        for name in ("offsets", "features", "means", "variances"):
            array = getattr(self, name)
            if array is not None and (not isinstance(array, np.ndarray) or array.ndim != 1):
                raise ValueError(f"{name} must be a NumPy array of one dimension")
        entries = len(self.features)
        if len(self.offsets) != len(self.entities) + 1:
            raise ValueError(f"{len(self.entities)} entities need one more offset, not {len(self.offsets)}")
        if self.offsets[0] != 0 or self.offsets[-1] != entries:
            raise ValueError(f"offsets span {self.offsets[0]} to {self.offsets[-1]}, not 0 to {entries} entries")
        if len(self.means) != entries or (self.variances is not None and len(self.variances) != entries):
            raise ValueError(f"features, means and variances differ in length ({entries} features)")
        falls = np.flatnonzero(self.offsets[1:] < self.offsets[:-1])
        if len(falls):
            raise ValueError(f"the offsets of entity {self.entities[int(falls[0])].as_py()!r} end before they begin")
        for name, kinds in (("offsets", "iu"), ("features", "iu"), ("means", "f"), ("variances", "f")):
            array = getattr(self, name)
            if array is not None and array.dtype.kind not in kinds:
                raise ValueError(f"{name} cannot be {array.dtype}")
        if entries and (self.features.max() > _LARGEST_FEATURE or self.features.min() < INTERCEPT_INDEX):
            raise ValueError(f"features must be from {INTERCEPT_INDEX} to {_LARGEST_FEATURE}")
        for name, dtype in (("offsets", np.int64), ("features", np.int32), ("means", np.float64)):
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), dtype))
        if self.variances is not None:
            object.__setattr__(self, "variances", np.ascontiguousarray(self.variances, np.float64))

    def check(self, where: str, *, features: int | None = None, intercept: bool | None = None) -> None:
        """Refuse a table that no training writes, so that a file is damaged, or another's.

        Parameters
        ----------
        where
            What the error names: a file, or an argument.
        features
            Length of the list that indices refer to; None for any.
        intercept
            Whether models have one; None where that is not known.

        Raises
        ------
        DataError
            For the first fault.
        """
        if self._fault is not None:
            raise DataError(f"{where}: {self._fault}")
        largest = int(self.features.max(initial=INTERCEPT_INDEX)) if features is not None else INTERCEPT_INDEX
        if features is not None and largest >= features:
            raise DataError(
                f"{where}: a model has feature index {largest}, but the feature list has {features} features; use the "
                "list that it was trained with"
            )
        if intercept is not None:
            wrong = np.flatnonzero(self._first_is_intercept != intercept)
            if len(wrong):
                entity = self.entities[int(self._with_coefficients[wrong[0]])].as_py()
                raise DataError(
                    f"{where}: the model of entity {entity!r} has {'no' if intercept else 'an'} intercept, and the "
                    f"coordinate has {'one' if intercept else 'none'} ({len(wrong)} models are so)"
                )

    @cached_property
    def _with_coefficients(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.offsets[1:] > self.offsets[:-1])

    @cached_property
    def _first_is_intercept(self) -> NDArray[np.bool_]:
        """Tell of each entity with coefficients whether its first one is the intercept."""
        return self.features[self.offsets[self._with_coefficients]] == INTERCEPT_INDEX

    @cached_property
    def _fault(self) -> str | None:
        """Say what is wrong with entities, indices or means, if anything is."""
        if self.entities.null_count:
            return f"{self.entities.null_count} entities are null"
        if len(twice := repeated(self.entities)):
            return f"entity {twice[0]['values'].as_py()!r} has {twice[0]['counts']} models"
        inside = np.ones(len(self.features), bool)
        inside[self.offsets[self._with_coefficients]] = False
        wrong = np.zeros(len(self.features), bool)
        wrong[1:] = inside[1:] & (self.features[1:] <= self.features[:-1])
        wrong |= self.features < INTERCEPT_INDEX
        if wrong.any():
            return f"the feature indices of entity {self._entity_of(int(np.argmax(wrong)))!r} do not ascend from -1"
        if not np.isfinite(np.sum(self.means)) and not np.isfinite(self.means).all():
            entry = int(np.argmin(np.isfinite(self.means)))
            return f"a coefficient of entity {self._entity_of(entry)!r} is {self.means[entry]}"
        return None

    def _entity_of(self, entry: int) -> object:
        return self.entities[int(np.searchsorted(self.offsets, entry, side="right")) - 1].as_py()

    def __len__(self) -> int:
        """Number of entities."""
        return len(self.entities)

    def take(self, rows: NDArray[np.int64]) -> CoefficientTable:
        """Return the entities at the given positions, int64, in that order."""
        lengths = np.diff(self.offsets)[rows]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
        entries = np.repeat(self.offsets[rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return CoefficientTable(
            self.entities.take(pa.array(rows, pa.int64())),
            offsets,
            self.features[entries],
            self.means[entries],
            None if self.variances is None else self.variances[entries],
        )

    def between(self, first: int, last: int) -> CoefficientTable:
        """Return the entities first … last − 1; the coefficients are views."""
        entries = slice(int(self.offsets[first]), int(self.offsets[last]))
        return CoefficientTable(
            self.entities[first:last],
            self.offsets[first : last + 1] - self.offsets[first],
            self.features[entries],
            self.means[entries],
            None if self.variances is None else self.variances[entries],
        )
