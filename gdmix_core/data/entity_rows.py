"""Rows of whole entities in memory: what a random effect is trained on, some entities at a time."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gdmix_core.data import bags
from gdmix_core.data.checked_arrays import integers, reals, refuse
from gdmix_core.data.id_types import plain_ids
from gdmix_core.data.ragged import Bag
from gdmix_core.data.scores import ScoreSum
from gdmix_core.data.shards import entity_runs, read_entities
from gdmix_core.pipeline.run import Run

# Rows held at a time: enough to keep every thread busy, little enough for memory to stay flat.
ROWS_AT_A_TIME = 500_000


@dataclass(frozen=True)
class EntityRows:
    """Rows of E entities, each entity's rows consecutive.

    Parameters
    ----------
    ids
        int64, uint64 or string [E].
    begin, end
        int64 [E]; entity e owns the rows begin[e] … end[e] − 1.
    row
        int64 [n], number of each row in the frame.
    label, weight, offset
        float64 [n]; offsets are in units of the margin.
    bag
        Features of the n rows; without entries for an intercept-only model.
    margin_variance
        float64 [n], posterior variance of each row's offset, for `l2: auto`; None for 0.
    """

    ids: pa.Array
    begin: NDArray[np.int64]
    end: NDArray[np.int64]
    row: NDArray[np.int64]
    label: NDArray[np.float64]
    weight: NDArray[np.float64]
    offset: NDArray[np.float64]
    bag: Bag
    margin_variance: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def leverage(self) -> NDArray[np.float64] | None:
        """Return `margin_variance`, under the name that it had."""
        warnings.warn("EntityRows.leverage is called margin_variance", DeprecationWarning, stacklevel=2)
        return self.margin_variance

    def checked(self, features: int | None, *, trains: bool) -> EntityRows:
        """Return the rows as kernels may take them; a notebook may give arrays of other types.

        Parameters
        ----------
        features
            How many features there are; None for any number.
        trains
            Whether labels, weights and offsets count, too.

        Raises
        ------
        DataError
            For arrays that do not fit together, rows of two entities, entities that come twice, indices beyond the
            features, labels, offsets or features that are not finite, and weights that are not above 0.
        """
        ids = plain_ids(self.ids)
        rows = len(self.bag)
        begin, end = (integers(getattr(self, name), name, len(ids)) for name in ("begin", "end"))

        def entity(e: int) -> str:
            return f", entity {ids[e].as_py()!r},"

        refuse((begin < 0) | (begin > end), begin, "begin", "0 or more and not above end", entity)
        refuse(end > rows, end, "end", f"at most {rows}, the rows of the bag", entity)
        _check_apart(begin, end, entity)
        row = integers(self.row, f"row (of {rows} rows of the bag)", rows)
        bag = self.bag.checked(features, ascending=trains)
        if not trains:
            return replace(self, ids=ids, begin=begin, end=end, row=row, bag=bag)
        label, weight, offset = (
            reals(getattr(self, name), f"{name} (of {rows} rows of the bag)", rows)
            for name in ("label", "weight", "offset")
        )
        if rows and weight.min() <= 0.0:
            refuse(weight <= 0.0, weight, "weight", "above 0")
        margin_variance = None if self.margin_variance is None else reals(self.margin_variance, "margin_variance", rows)
        return EntityRows(ids, begin, end, row, label, weight, offset, bag, margin_variance)

    def every(self, step: int) -> EntityRows:
        """Return every step-th entity, with its rows."""
        chosen = np.arange(0, len(self), step)
        begin, end = self.begin[chosen], self.end[chosen]
        lengths = end - begin
        new_end = np.cumsum(lengths)
        rows = np.arange(int(lengths.sum())) + np.repeat(begin - (new_end - lengths), lengths)
        return EntityRows(
            self.ids.take(pa.array(chosen)),
            new_end - lengths,
            new_end,
            self.row[rows],
            self.label[rows],
            self.weight[rows],
            self.offset[rows],
            bags.take(self.bag, rows),
            None if self.margin_variance is None else self.margin_variance[rows],
        )

    def cut(self, parts: int) -> list[EntityRows]:
        """Split into at most `parts` pieces of whole entities with about as many rows each, in order."""
        goals = np.arange(1, parts) * (len(self.row) / parts)
        cuts = np.unique(np.concatenate([[0], np.searchsorted(self.end, goals), [len(self)]]))
        return [self._between(int(low), int(high)) for low, high in pairwise(cuts)]

    def _between(self, low: int, high: int) -> EntityRows:
        first, last = int(self.begin[low]), int(self.end[high - 1])
        rows = slice(first, last)
        return EntityRows(
            self.ids[low:high],
            self.begin[low:high] - first,
            self.end[low:high] - first,
            self.row[rows],
            self.label[rows],
            self.weight[rows],
            self.offset[rows],
            self.bag.between(first, last),
            None if self.margin_variance is None else self.margin_variance[rows],
        )


def _check_apart(begin: NDArray[np.int64], end: NDArray[np.int64], entity: Callable[[int], str]) -> None:
    """Raise DataError where two entities have a row in common; the order of their rows does not matter."""
    if np.all(begin[1:] >= end[:-1]):
        return
    own = np.flatnonzero(end > begin)
    order = own[np.argsort(begin[own], kind="stable")]
    shared = np.zeros(len(begin), bool)
    shared[order[1:]] = begin[order[1:]] < end[order[:-1]]
    refuse(shared, begin, "begin", "after the rows of the entity before", entity)


def read_entity_rows(
    run: Run,
    coordinate: str,
    split: str,
    shard: int,
    scores: ScoreSum | None,
    target_rows: int,
    margin_variance: ScoreSum | None = None,
) -> Iterator[EntityRows]:
    """Read a shard's entities, about `target_rows` rows at a time.

    scores: what is added to the data's own offset; None where no offset matters
    margin_variance: that of the other coordinates
    """
    for table in read_entities(run, coordinate, split, shard, target_rows):
        entity = pa.concat_arrays(table["entity"].chunks)
        begin, lengths = entity_runs(entity)
        row = table["row"].to_numpy()
        offset = table["offset"].to_numpy()
        if scores is not None:
            offset = offset + scores.gather(row)
        if "indices" in table.column_names:
            bag = bags.from_arrow(table["indices"], table["values"])
        else:
            bag = Bag.empty(len(row))
        yield EntityRows(
            entity.take(pa.array(begin)),
            begin,
            begin + lengths,
            row,
            table["label"].to_numpy(),
            table["weight"].to_numpy(),
            offset,
            bag,
            None if margin_variance is None else margin_variance.gather(row),
        )
