"""λ of a random effect under l2: auto: found on a pilot sample before a training, corrected by all entities after it.

The fixed point of solvers/empirical_bayes/fixed_point.py needs models, and models need λ. Before each training it is
iterated to its end on some entities of one shard, with the offsets of this pass. The training then uses what came out,
and adds up the same sums over all its entities; what these say of λ corrects the next pass's pilot, and is reported.
"""

from __future__ import annotations

import io
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdmix_core import storage
from gdmix_core.config.coordinate import AutomaticL2
from gdmix_core.data.entity_rows import EntityRows
from gdmix_core.effects.random.entity_models import FittedModels
from gdmix_core.effects.random.entity_problem import coordinate_penalties, entity_problem
from gdmix_core.effects.random.l2_statistics import L2Statistics, settle
from gdmix_core.models.table import CoefficientTable
from gdmix_core.solvers.empirical_bayes.fixed_point import START_VARIANCE, Mode, Sums, group_count, group_of, named_l2
from gdmix_core.training_context import TrainingContext

log = logging.getLogger(__name__)

# The variance of a normal sample of 1,000 is known to 4.5 %; the sums of a training over all entities correct that.
PILOT_ENTITIES = 1_000
PILOT_ROWS = 200_000
# With a λ for each feature: of those entities, only some have it.
_MORE_OF_FEATURES = 20
# Of σ², relatively: with all entities as near as one wants, with a sample well below what chance leaves.
EXACT, SAMPLED = 1e-3, 1e-2
# Whatever the number of cores: sums of pieces are rounded by their number.
_PIECES = 32


@dataclass(frozen=True)
class _Estimate:
    """variance: float64 [groups] σ² to train with; sample: what the pilot sample alone says."""

    variance: NDArray[np.float64]
    sample: NDArray[np.float64]


def prior_variance(context: TrainingContext) -> NDArray[np.float64] | None:
    """Return float64 [groups] σ² to train with, None where λ is given.

    Whoever asks first runs the pilot; as everyone would find the same, it does not matter who.
    """
    settings = context.settings.automatic
    if settings is None:
        return None
    found = _read(context)
    if found is None:
        found = _find(context, settings.auto)
        with storage.open_for_write(context.l2_file("used.npz")) as file:
            np.savez(file, key=context.key, variance=found.variance, sample=found.sample)
    return found.variance


def _read(context: TrainingContext) -> _Estimate | None:
    path = context.l2_file("used.npz")
    if not storage.exists(path):
        return None
    with storage.open_for_read(path) as file, np.load(io.BytesIO(file.read())) as stored:
        if str(stored["key"]) != context.key:
            return None
        return _Estimate(stored["variance"], stored["sample"])


def write_l2_statistics(context: TrainingContext, number: int, statistics: L2Statistics) -> None:
    """Write the statistics of one shard."""
    storage.write_array(l2_statistics_path(context, number), statistics.to_array())


def l2_statistics_path(context: TrainingContext, number: int) -> str:
    return context.l2_file(f"evidence-{number:05d}.npy")


def update_l2(context: TrainingContext) -> dict[str, Any]:
    """Update λ from the sums of all shards, and write the update for the next pass.

    Returns {mode, used, next}: the λ trained with and its update; {} if λ is given.
    """
    settings = context.settings.automatic
    used = prior_variance(context)
    if settings is None or used is None:
        return {}
    statistics = L2Statistics(Sums.zero(len(used)))
    for number in range(context.partition["shards"]):
        statistics += L2Statistics.from_array(storage.read_array(l2_statistics_path(context, number)))
    updated = statistics.updated(used, settings.auto, context.config.task)
    count = statistics.sums.count
    storage.write_array(context.l2_file("next.npy"), updated)
    return {
        "l2": {
            "mode": settings.auto,
            "used": named_l2(settings.auto, used, count),
            "next": named_l2(settings.auto, updated, count),
        }
    }


def _find(context: TrainingContext, mode: Mode) -> _Estimate:
    features = context.features
    before, updated = None, None
    if (previous := context.previous) is not None:
        before = _read(previous)
        updated = storage.read_array(previous.whole(previous.l2_file("next.npy"))).astype(np.float64)
    # The sample's own answer of the pass before is nearer to its next one than that of all entities.
    if before is not None:
        start = before.sample
    elif mode == "feature":
        # All begin with what they have in common.
        both, _ = _pilot(context, "intercept_slopes", np.full(2, START_VARIANCE))
        start = both[group_of("intercept_slopes", np.arange(-1, features, dtype=np.int32))]
    else:
        start = np.full(group_count(mode, features), START_VARIANCE)
    sample, everyone = _pilot(context, mode, start)
    if everyone or before is None or updated is None:
        return _Estimate(sample, sample)
    # By how much all entities differed from the sample in the pass before, they will in this one.
    return _Estimate(sample * (updated / before.sample), sample)


def _pilot(context: TrainingContext, mode: Mode, start: NDArray[np.float64]) -> tuple[NDArray[np.float64], bool]:
    """Return (σ² at the fixed point of a sample of entities, whether that was all of them)."""
    settings = context.settings.model_copy(update={"l2": AutomaticL2(auto=mode)})
    number, stride, everyone = _sample(context, mode)
    problem = entity_problem(
        context, number, coordinate_penalties(context, start, settings=settings), settings=settings
    )
    threads = context.cores
    margin_variance, others = context.other_margin_variance(), context.other_scores("training")
    pieces = [
        piece
        for rows in context.entity_rows("training", number, others, margin_variance)
        for piece in rows.every(stride).cut(_PIECES)
    ]

    def fit(rows: EntityRows, models: CoefficientTable | None, variance: NDArray[np.float64]) -> FittedModels:
        return problem.with_variance(variance).fit_anew(rows, models)

    with ThreadPoolExecutor(threads) as pool:
        variance, rounds, statistics = settle(
            pieces, fit, start, mode, context.config.task, pool, EXACT if everyone else SAMPLED
        )
    log.info(
        "%s: l2 %s after %d rounds on %s",
        context.id, named_l2(mode, variance, statistics.sums.count), rounds,
        "all entities" if everyone else f"{sum(map(len, pieces))} entities of shard {number}",
    )  # fmt: skip
    return variance, everyone


def _sample(context: TrainingContext, mode: Mode) -> tuple[int, int, bool]:
    """Return (shard, every how many-th of its entities, whether these are all entities there are)."""
    manifest = context.partition
    rows = {int(number): count for number, count in manifest["rows"]["training"].items()}
    number = max(sorted(rows), key=lambda n: rows[n], default=0)
    share = rows.get(number, 0) / max(1, sum(rows.values()))
    entities = share * manifest["totals"]["training"]["entities"]
    more = _MORE_OF_FEATURES if mode == "feature" else 1
    stride = max(1, round(entities / (more * PILOT_ENTITIES)), round(rows.get(number, 0) / (more * PILOT_ROWS)))
    return number, stride, stride == 1 and share == 1.0
