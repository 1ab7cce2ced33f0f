"""Random effect: entities solved per second, with variances, with `l2: auto`, and with files around it.

    python benchmarks/random_effect.py [--entities 20000] [--rows 400000] [--threshold]

Peers are in `make bench`. --threshold measures where conjugate gradients overtake the dense Hessian.
"""

from __future__ import annotations

import argparse
import tempfile
from concurrent.futures import ThreadPoolExecutor

import machine
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gdmix_core import storage
from gdmix_core.config.coordinate import Coordinate
from gdmix_core.data.bags import to_arrow
from gdmix_core.data.entity_rows import EntityRows
from gdmix_core.data.ragged import Bag
from gdmix_core.effects.random.automatic_l2 import PILOT_ENTITIES, SAMPLED
from gdmix_core.effects.random.entity_models import FittedModels, fit_entity_models
from gdmix_core.effects.random.l2_statistics import settle
from gdmix_core.effects.random.penalties import penalties_of
from gdmix_core.models.native import concatenate, write_model
from gdmix_core.models.table import CoefficientTable
from gdmix_core.solvers.entity import newton
from gdmix_core.solvers.entity.newton import STATUS_NAMES

SETTINGS = Coordinate.model_validate({"random_effect": {"entity": "id"}, "bag": "x", "l2": 1.0})


def problem(entities: int, rows: int, features: int = 20, nonzeros: int = 8, seed: int = 0) -> EntityRows:
    """Logistic rows of entities of random sizes, each with its own true model."""
    rng = np.random.default_rng(seed)
    sizes = np.maximum(rng.multinomial(rows - entities, np.ones(entities) / entities) + 1, 1)
    ends = np.cumsum(sizes)
    rows = int(ends[-1])
    indices = np.sort(np.argsort(rng.random((rows, features)), axis=1)[:, :nonzeros], axis=1).astype(np.int32)
    values = rng.standard_normal((rows, nonzeros)).astype(np.float32)
    truth = rng.standard_normal((entities, features + 1)) * 0.5
    entity = np.repeat(np.arange(entities), sizes)
    offset = rng.standard_normal(rows)
    margin = offset + truth[entity, 0] + np.sum(truth[entity[:, None], indices + 1] * values, axis=1)
    label = (rng.random(rows) < 1 / (1 + np.exp(-margin))).astype(np.float64)
    bag = Bag(np.arange(rows + 1) * nonzeros, indices.ravel(), values.ravel())
    ids = pa.array(np.arange(entities))
    return EntityRows(ids, ends - sizes, ends, np.arange(rows), label, np.ones(rows), offset, bag)


def solve(rows: EntityRows, threads: int, settings: Coordinate = SETTINGS) -> list[FittedModels]:
    features = int(rows.bag.indices.max()) + 1
    with ThreadPoolExecutor(threads) as pool:
        fit = lambda piece: fit_entity_models(piece, settings, "logistic_regression", features)  # noqa: E731
        return list(pool.map(fit, rows.cut(64)))


def solve_automatic(rows: EntityRows, threads: int) -> list[FittedModels]:
    """l2: auto as in a run: λ from a sample of entities, then all of them with it."""
    settings = Coordinate.model_validate({**SETTINGS.model_dump(), "l2": "auto"})
    features = int(rows.bag.indices.max()) + 1
    penalties = penalties_of(settings, features)

    def fit(piece: EntityRows, start: CoefficientTable | None, variance: NDArray[np.float64]) -> FittedModels:
        own = penalties.with_variance(variance)
        return fit_entity_models(piece, settings, "logistic_regression", features, start, penalties=own)

    with ThreadPoolExecutor(threads) as pool:
        sample = rows.every(max(1, len(rows) // PILOT_ENTITIES)).cut(32)
        task = "logistic_regression"
        variance, _, _ = settle(sample, fit, penalties.variance, "intercept_slopes", task, pool, SAMPLED)
        return list(pool.map(lambda piece: fit(piece, None, variance), rows.cut(64)))


def whole_path(rows: EntityRows, threads: int) -> float:
    """Seconds for reading a shard, solving, scoring and writing the models."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/shard.parquet"
        indices, values = to_arrow(rows.bag)
        entity = pa.array(np.repeat(rows.ids.to_numpy(), rows.end - rows.begin))
        columns = {"row": rows.row, "label": rows.label, "weight": rows.weight, "offset": rows.offset}
        table = pa.table({"entity": entity, **columns, "indices": indices, "values": values})
        pq.write_table(table, path, compression="lz4", use_dictionary=["label", "weight", "offset"])

        def work() -> None:
            from gdmix_core.data.bags import from_arrow
            from gdmix_core.data.shards import entity_runs

            found = pq.read_table(path)
            begin, lengths = entity_runs(found["entity"].combine_chunks())
            again = EntityRows(
                found["entity"].take(pa.array(begin)).combine_chunks(), begin, begin + lengths, found["row"].to_numpy(),
                found["label"].to_numpy(), found["weight"].to_numpy(), found["offset"].to_numpy(),
                from_arrow(found["indices"], found["values"]),
            )  # fmt: skip
            fitted = solve(again, threads)
            write_model(f"{folder}/model.parquet", concatenate([part.table for part in fitted], pa.int64()))
            storage.write_array(f"{folder}/scores.npy", np.concatenate([part.scores for part in fitted]))

        return machine.median_seconds(work)


def threshold() -> None:
    """Where conjugate gradients overtake the dense Hessian, by number of local features."""
    print("features   dense/s      cg/s   dense/cg")
    for features in (16, 32, 64, 96, 128, 192, 256, 512):
        rows = problem(
            max(40, 40_000 // features), max(40, 40_000 // features) * 2 * features, features, min(16, features)
        )
        speed = []
        for limit in (10_000, 0):
            newton.DENSE_LIMIT = limit
            speed.append(len(rows) / machine.median_seconds(lambda: solve(rows, 1), 3))  # noqa: B023
        print(f"{features:8d} {speed[0]:9.0f} {speed[1]:9.0f} {speed[0] / speed[1]:10.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entities", type=int, default=20_000)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--threshold", action="store_true")
    arguments = parser.parse_args()
    print(machine.describe())
    if arguments.threshold:
        threshold()
        return
    rows = problem(arguments.entities, arguments.rows)
    print(f"{len(rows)} entities, {len(rows.row)} rows, {len(rows.bag.indices)} non-zeros, d = 21, l2 = 1, logistic")
    fitted = solve(rows, machine.cores())
    counts = sum(np.bincount(part.status, minlength=len(STATUS_NAMES)) for part in fitted)
    print("outcome:", dict(zip(STATUS_NAMES, map(int, counts), strict=True)))
    ours = {
        "solve, one core": lambda: solve(rows, 1),
        f"solve, {machine.cores()} cores": lambda: solve(rows, machine.cores()),
    }
    for kind in ("simple", "full"):
        settings = Coordinate.model_validate({**SETTINGS.model_dump(), "variances": kind})
        ours[f"solve with {kind} variances"] = lambda s=settings: solve(rows, machine.cores(), s)
    ours["solve with l2: auto"] = lambda: solve_automatic(rows, machine.cores())
    rates = {name: len(rows) / machine.median_seconds(work) for name, work in ours.items()}
    rates["read + solve + score + write"] = len(rows) / whole_path(rows, machine.cores())
    plain = rates[f"solve, {machine.cores()} cores"]
    for name, rate in rates.items():
        print(f"{name:34s} {rate:10.0f} entities/s   {plain / rate:5.2f} x the time of the solve")


if __name__ == "__main__":
    main()
