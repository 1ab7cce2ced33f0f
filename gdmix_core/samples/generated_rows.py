"""Large generated inputs for benchmarks, written file by file: memory does not grow with the rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gdmix_core.data.feature_list import FeatureList
from gdmix_core.data.ragged import Bag
from gdmix_core.errors import ConfigError
from gdmix_core.samples.generated import popularity
from gdmix_core.samples.layout import Columns, Format, Split, write_splits


@dataclass(frozen=True)
class RowShape:
    """The content of a row: nnz non-zeros out of `features`, for one of `entities` entities.

    entity_nnz, entity_features: the same of the bag that the entity's model weighs
    """

    nnz: int = 10
    features: int = 100_000
    entities: int = 100_000
    entity_nnz: int = 8
    entity_features: int = 20

    def __post_init__(self) -> None:
        if not 1 <= self.nnz <= self.features or not 1 <= self.entity_nnz <= self.entity_features or self.entities < 1:
            raise ConfigError(f"{self}: non-zeros must be between 1 and the number of features, entities at least 1")


def generate_rows(
    directory: str,
    *,
    rows: int,
    validation_rows: int = 0,
    shape: RowShape | None = None,
    seed: int = 0,
    rows_per_file: int = 250_000,
    format: Format = "tfrecord",
) -> None:
    """Write one directory for a fixed effect (bag `features`) and a random effect (bag `per_entity`).

    Columns: uid (long), response (int, 0 or 1, from a logistic model), entity_id (long; frequencies follow
    Zipf's law), features and per_entity (sparse, float). The validation rows have the uids after the training
    rows'.
    The same arguments give the same rows; another rows_per_file gives other ones.
    """
    shape = shape or RowShape()
    model = _Model(shape, np.random.default_rng([seed, 0]))
    bags = {
        "features": FeatureList([("f", str(j)) for j in range(shape.features)]),
        "per_entity": FeatureList([("g", str(j)) for j in range(shape.entity_features)]),
    }
    splits: dict[Split, range] = {"training": range(rows), "validation": range(rows, rows + validation_rows)}

    def columns(uids: range) -> Columns:
        return model.draw(np.random.default_rng([seed, 1, uids.start]), uids)

    write_splits(directory, bags, splits, columns, rows_per_file=rows_per_file, format=format)


class _Model:
    """True coefficients, float32: 4 bytes a feature, and 4 × (1 + entity_features) bytes an entity."""

    def __init__(self, shape: RowShape, rng: np.random.Generator) -> None:
        self.shape = shape
        self.fixed = rng.standard_normal(shape.features, np.float32) / np.float32(np.sqrt(shape.nnz))
        self.entity = rng.standard_normal((shape.entities, 1 + shape.entity_features), np.float32) * np.float32(0.5)
        self.cumulative = np.cumsum(popularity(rng, shape.entities))

    def draw(self, rng: np.random.Generator, uids: range) -> Columns:
        shape, rows = self.shape, len(uids)
        entity = np.searchsorted(self.cumulative, rng.random(rows) * self.cumulative[-1], side="right")
        entity = np.minimum(entity, shape.entities - 1)
        indices, values = _non_zeros(rng, rows, shape.nnz, shape.features)
        entity_indices, entity_values = _non_zeros(rng, rows, shape.entity_nnz, shape.entity_features)
        logit = np.sum(self.fixed[indices] * values, axis=1) + self.entity[entity, 0]
        logit += np.sum(self.entity[entity[:, None], entity_indices + 1] * entity_values, axis=1)
        return {
            "uid": np.arange(uids.start, uids.stop),
            "response": (rng.random(rows, np.float32) * (1 + np.exp(-logit)) < 1).astype(np.int32),
            "entity_id": entity.astype(np.int64),
            "features": _bag(indices, values),
            "per_entity": _bag(entity_indices, entity_values),
        }


def _non_zeros(
    rng: np.random.Generator, rows: int, nnz: int, features: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Draw indices and values, int32 and float32 [rows, nnz]: one index from each of nnz equal ranges, so ascending."""
    edges = np.arange(nnz + 1) * features // nnz
    indices = edges[:-1] + (rng.random((rows, nnz), np.float32) * np.diff(edges)).astype(np.int32)
    np.minimum(indices, edges[1:] - 1, out=indices)  # a float32 product may round up to the range's end
    return indices.astype(np.int32), rng.standard_normal((rows, nnz), np.float32)


def _bag(indices: NDArray[np.int32], values: NDArray[np.float32]) -> Bag:
    rows, nnz = indices.shape
    return Bag(np.arange(rows + 1) * nnz, indices.ravel(), values.ravel())
