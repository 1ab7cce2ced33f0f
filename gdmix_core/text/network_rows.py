"""Rows of the frame as a network reads them: texts tokenised, bags, labels, weights and offsets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gdmix_core.data import bags
from gdmix_core.data.frame import from_table
from gdmix_core.data.ragged import Bag
from gdmix_core.text.serving.scorer import dense_rows, sparse_entries
from gdmix_core.text.tokens.distinct_texts import DistinctTexts, distinct_texts, encode
from gdmix_core.training_context import TrainingContext

if TYPE_CHECKING:
    from gdmix_core.text.network.network import TextNetwork

# Rows read and scored at once. Beside the network itself, this is what bounds the memory of scoring.
ROWS_AT_A_TIME = 65_536

Batch = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class NetworkRows:
    """n rows in memory, compactly: 4 bytes a field, and the tokens of distinct texts once.

    texts: by field; bags: by their name in the input
    label, weight, offset: float32 [n], the offset with the scores of all other coordinates; of several labels, label
    counts them and `classes` says which
    group: int32 [n]; rows with the same number belong together
    """

    texts: Mapping[str, DistinctTexts]
    bags: Mapping[str, Bag]
    dense: Mapping[str, int]
    label: NDArray[np.float32]
    weight: NDArray[np.float32]
    offset: NDArray[np.float32]
    group: NDArray[np.int32]
    classes: Bag | None
    outputs: int

    def __len__(self) -> int:
        return len(self.label)

    def batch(self, rows: NDArray[np.int64]) -> Batch:
        """Return the network's part of a batch, as TextNetwork.batch_spec describes it."""
        batch: Batch = {}
        for field, texts in self.texts.items():
            batch[f"tokens/{field}"], batch[f"rows/{field}"] = texts.of_rows(rows)
        for name, whole in self.bags.items():
            bag = bags.take(whole, rows)
            if name in self.dense:
                batch[f"dense/{name}"] = dense_rows(bag, self.dense[name])
            else:
                batch |= sparse_entries(name, bag)
        return batch

    def targets(self, rows: NDArray[np.int64]) -> Batch:
        """Return the loss's part of a batch: label, weight, offset float32 [B] (label of several labels [B, classes]);
        group int32 [B], which rows belong together."""
        label = self.label[rows]
        if self.classes is not None:
            label = (dense_rows(bags.take(self.classes, rows), self.outputs) > 0).astype(np.float32)
        return {"label": label} | {name: getattr(self, name)[rows] for name in ("weight", "offset", "group")}

    def order_by_texts(self) -> NDArray[np.int64]:
        """Return int64 [n], an order in which rows with the same texts are neighbours: a batch then has few texts."""
        codes = sorted((texts.codes for texts in self.texts.values()), key=lambda codes: int(np.max(codes, initial=0)))
        return np.lexsort(codes) if codes else np.arange(len(self))


class RowReader:
    """A reader of the rows of a step's coordinate, with texts as the network tokenizes them."""

    def __init__(self, context: TrainingContext, network: TextNetwork) -> None:
        self.frame = context.frame
        self._context = context
        self._settings = context.settings.text
        self._keys = self.frame.bags_of(context.name)
        self._label_bag: str | None = self.frame.manifest.get("label_bag")
        self._network = network

    def read(self, split: str, rows: NDArray[np.int64], codes: NDArray[np.int64] | None = None) -> NetworkRows:
        """Read rows int64 [n], ascending, into memory. codes int64 [rows of the split]: the number of each group."""
        pieces = []
        for first, table in self.frame.stream(split, self._columns, ROWS_AT_A_TIME, *_bounds(rows)):
            low, high = np.searchsorted(rows, [first, first + table.num_rows])
            pieces.append(self._encoded(table.take(pa.array(rows[low:high] - first))))
        return self._rows(split, pieces, rows, codes)

    def stream(self, split: str, start: int, stop: int, size: int = ROWS_AT_A_TIME) -> Iterator[NetworkRows]:
        """Yield the rows start … stop − 1, in pieces of at most so many."""
        for first, table in self.frame.stream(split, self._columns, size, start, stop):
            rows = np.arange(first, first + table.num_rows)
            yield self._rows(split, [self._encoded(table)], rows, None)

    @property
    def _columns(self) -> list[str]:
        keys = [*self._keys.values(), *([self._label_bag] if self._label_bag else [])]
        of_bags = [f"{key}_{part}" for key in dict.fromkeys(keys) for part in ("indices", "values")]
        return list(dict.fromkeys(["label", "weight", "offset", *self._settings.fields, *of_bags]))

    def _encoded(self, table: pa.Table) -> pa.Table:
        """Give each text column a dictionary of its own: what is kept of a piece until all are read."""
        for field in self._settings.fields:
            table = table.set_column(table.schema.get_field_index(field), field, encode(table[field]))
        return table

    def _rows(
        self, split: str, pieces: Sequence[pa.Table], rows: NDArray[np.int64], codes: NDArray[np.int64] | None
    ) -> NetworkRows:
        def number(name: str) -> NDArray[np.float64]:
            return np.concatenate([np.empty(0), *(piece[name].to_numpy() for piece in pieces)])

        offset = number("offset")
        others = self._context.other_scores(split)
        start, stop = _bounds(rows)
        offset += others.span(start, stop) if stop - start == len(rows) else others.gather(rows)
        return NetworkRows(
            texts={field: self._texts(field, pieces) for field in self._settings.fields},
            bags={name: self._bag(key, pieces) for name, key in self._keys.items()},
            dense={name: self.frame.feature_count(self._keys[name]) for name in self._settings.dense},
            label=number("label").astype(np.float32),
            weight=number("weight").astype(np.float32),
            offset=offset.astype(np.float32),
            group=np.zeros(len(rows), np.int32) if codes is None else codes[rows].astype(np.int32),
            classes=self._bag(self._label_bag, pieces) if self._label_bag else None,
            outputs=self._network.inputs.outputs,
        )

    def _texts(self, field: str, pieces: Sequence[pa.Table]) -> DistinctTexts:
        chunks = [chunk for piece in pieces for chunk in piece[field].chunks]
        column = pa.chunked_array(chunks, pa.dictionary(pa.int32(), pa.string()))
        return distinct_texts(column, lambda texts: self._network.tokenize(field, texts))

    def _bag(self, key: str, pieces: Sequence[pa.Table]) -> Bag:
        parts = [from_table(piece, key) for piece in pieces]
        return bags.concatenate(parts, np.dtype(np.float32))


def _bounds(rows: NDArray[np.int64]) -> tuple[int, int]:
    return (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)
