"""Scores of new data that another system, or the user's own code, gave them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gdmix_core.config.external import ExternalModel
from gdmix_core.config.pipeline import Config
from gdmix_core.data.id_index import IdIndex
from gdmix_core.data.id_types import arrow_type, repeated
from gdmix_core.data.ingest.external_scores import open_scores_of, read_part
from gdmix_core.data.ingest.source import Layout
from gdmix_core.effects.scorer import Batch
from gdmix_core.errors import DataError


@dataclass(frozen=True)
class GivenScores:
    """Scores that another system, or the user's own code, gave the new data. zero: what a uid without one gets is 0."""

    name: str
    uids: IdIndex
    values: NDArray[np.float32]
    zero: bool
    entity: None = None

    def score(self, batch: Batch) -> tuple[NDArray[np.float32], int]:
        at = self.uids.positions(batch.uid)
        absent = np.flatnonzero(at < 0)
        if len(absent) and not self.zero:
            missing = batch.uid[int(absent[0])].as_py()
            raise DataError(f"coordinate {self.name}: uid {missing} has no score ({len(absent)} of a batch have none)")
        scores = np.zeros(len(at), np.float32)
        scores[at >= 0] = self.values[at[at >= 0]]
        return scores, 0


def given_scores(name: str, config: Config, layout: Layout, paths: Sequence[str] | None) -> GivenScores:
    if not paths:
        raise DataError(
            f"coordinate {name}: its model is not in the export, so the scores it gives the new data have to be given: "
            f"--external {name}=FILE (a uid and a score a row; Parquet, CSV or Avro)"
        )
    settings = config.coordinates[name].fixed_effect
    model = settings if isinstance(settings, ExternalModel) else ExternalModel(model="external", scores=list(paths))
    files = open_scores_of(name, model, config, paths)
    where = f"{', '.join(paths)}: scores of coordinate {name}"
    uid_type = arrow_type(layout.uid_type)
    parts = [batch for part in files.parts for batch in read_part(part, layout.uid_type)]
    uid = pa.concat_arrays([pa.array([], uid_type), *(uids for uids, _ in parts)])
    values = np.concatenate([np.empty(0), *(scores.to_numpy(zero_copy_only=False) for _, scores in parts)])
    if len(twice := repeated(uid)):
        raise DataError(f"{where}: uid {twice[0]['values'].as_py()} has several ({len(twice)} uids have)")
    with np.errstate(over="ignore"):
        scores = values.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        raise DataError(f"{where}: uid {uid[int(bad[0])].as_py()} has {values[bad[0]]}, which is no finite float32")
    known = uid.is_valid()
    scores = scores[known.to_numpy(zero_copy_only=False)]
    return GivenScores(name, IdIndex(uid.filter(known)), scores, zero=model.missing == "zero")
