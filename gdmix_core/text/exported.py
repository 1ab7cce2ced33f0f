"""The text network of an export, as new data are scored with it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gdmix_core.data.ragged import Bag
from gdmix_core.errors import DataError
from gdmix_core.text.scorer import SavedModelScorer
from gdmix_core.text_config import TextModel


class ExportedNetwork:
    def __init__(self, scorer: SavedModelScorer) -> None:
        self._scorer = scorer

    def score(self, columns: Mapping[str, pa.Array], bags: Mapping[str, Bag]) -> NDArray[np.float32]:
        """float32 [rows], or of classes their logits [rows, K].

        columns: string [rows] of every text and id field. bags: by their names in the configuration, with the indices
        of the features the network was trained on.
        """
        rows = len(next(iter(columns.values())))
        return self._scorer.score(dict(columns), dict(bags), rows)


def open_network(folder: str, settings: TextModel) -> ExportedNetwork:
    """The SavedModel in the folder, a path or URL. Raises DataError when it is none, or of other fields or bags."""
    scorer = SavedModelScorer(folder)
    of_model = {*scorer.columns.fields, *scorer.columns.features}
    of_settings = {*settings.fields, *settings.bags}
    if of_model != of_settings:
        name = sorted(of_model ^ of_settings)[0]
        where = "the model reads" if name in of_model else "the configuration names"
        raise DataError(f"{folder}: {where} {name}, which the other does not; export the model again")
    return ExportedNetwork(scorer)
