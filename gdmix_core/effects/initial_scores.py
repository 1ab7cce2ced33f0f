"""Scores of the models a run starts from: of locked coordinates, and of all others before their first training."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from gdmix_core import storage
from gdmix_core.data.entity_rows import ROWS_AT_A_TIME, read_entity_rows
from gdmix_core.data.frame import Frame
from gdmix_core.data.ragged import Bag
from gdmix_core.data.scores import shard_rows
from gdmix_core.effects.random.entity_models import score_entity_rows
from gdmix_core.models.initial.written import read_initial
from gdmix_core.models.table import CoefficientTable
from gdmix_core.pipeline.run import SPLITS, Run
from gdmix_core.solvers.large.objective import score_bag
from gdmix_core.workers.cores import core_count

_PIECES = 8  # of the rows held at a time, spread over the threads


def write_initial_scores(run: Run, name: str) -> None:
    """What the initial model of a coordinate gives every row: it is part of the others' offsets until it is trained."""
    frame = Frame(run)
    fixed = run.config.coordinates[name].fixed_effect is not None
    shards = 1 if fixed else int(run.result("partition")["coordinates"][name]["shards"])
    with ThreadPoolExecutor(core_count(run.config)) as pool:
        for split in SPLITS:
            scores = np.zeros(frame.rows(split), np.float32)
            for number in range(shards):
                model = read_initial(run, name, number)
                if model is None:
                    continue
                if fixed:
                    scores[:] = score_fixed(run, frame, name, model, split)
                    continue
                found = score_shard(run, name, model, split, number, pool)
                if not len(found):
                    continue
                scores[shard_rows(run, name, split, number)] = found
            if len(scores):
                storage.write_array(run.scores(0, name, split), scores)


def score_fixed(run: Run, frame: Frame, name: str, model: CoefficientTable, split: str) -> NDArray[np.float32]:
    """float32 [rows]: the one model's scores of a split; features beyond the frame's list meet no row."""
    key = frame.bag_of(name)
    features = max(frame.features_of(name), int(model.features.max(initial=-1)) + 1)
    w = np.zeros(features + 1)
    w[model.features + 1] = model.means
    parts = [np.empty(0, np.float32)]
    for _, first, rows in frame.blocks(split):
        bag = frame.bag(split, key, first, first + rows) if key else Bag.empty(rows)
        parts.append(score_bag(bag, w, run.config.coordinates[name].intercept))
    return np.concatenate(parts)


def score_shard(
    run: Run, name: str, model: CoefficientTable, split: str, number: int, pool: ThreadPoolExecutor
) -> NDArray[np.float32]:
    """float32: the scores of a shard's rows, in its order; 0 where the entity has no model."""
    settings = run.config.coordinates[name]
    scores = [np.empty(0, np.float32)]
    for rows in read_entity_rows(run, name, split, number, None, ROWS_AT_A_TIME):
        scores += pool.map(lambda piece: score_entity_rows(piece, model, settings), rows.cut(_PIECES))
    return np.concatenate(scores)
