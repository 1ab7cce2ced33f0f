"""A guard against getting slower: how often files are read, rows are passed over and models are stepped.

Counts do not depend on the machine or on what else it does. Each limit is what the code needs today, or a little more
where rounding may cost a step. Whoever has a good reason for more work raises a limit, and says why; whoever needs less
lowers it.
"""

from __future__ import annotations

import builtins
import sys
from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pytest
from numba.core.registry import CPUDispatcher
from synthetic_input import make_config, make_rows, write_directory

from benchmarks.fixed_effect_problem import ill_conditioned, sparse
from gdmix_core.config.coordinate import Coordinate
from gdmix_core.data.entity_rows import EntityRows
from gdmix_core.data.ragged import Bag
from gdmix_core.effects.random.entity_models import fit_entity_models
from gdmix_core.execution import dispatch
from gdmix_core.execution.local_run import carry_out_data_step
from gdmix_core.pipeline.run import Run
from gdmix_core.solvers.large import lbfgs, newton_cg, projected_newton
from gdmix_core.solvers.large.nonsmooth import Constraints
from gdmix_core.solvers.large.objective import GlobalObjective
from gdmix_core.solvers.large.scaling import Penalty, ScaledObjective
from gdmix_core.solvers.losses import LOSS_OF_TASK
from gdmix_core.workers.all_reduce import SharedObjective, SingleWorker


# Evaluations of loss and gradient + further derivatives, each a pass over all rows.
@pytest.mark.parametrize(
    ("problem", "solver", "most"),
    [
        ("sparse", "newton_cg", 24),
        ("sparse", "lbfgs", 98),
        ("sparse", "l1", 20),
        ("ill-conditioned", "newton_cg", 13),
        ("ill-conditioned", "l1", 180),
    ],
)
def test_passes_over_the_rows_of_a_fixed_effect(problem: str, solver: str, most: int) -> None:
    features = 1000 if problem == "sparse" else 40
    bag, label = sparse(5000, features, 10) if problem == "sparse" else ill_conditioned(2000, features)
    rows = len(label)
    own = GlobalObjective(
        LOSS_OF_TASK["logistic_regression"], bag, features, label, np.ones(rows), np.zeros(rows),
        intercept=True, threads=2,
    )  # fmt: skip
    data = SharedObjective(own, SingleWorker())
    slopes = np.append(0.0, np.ones(features))
    objective = ScaledObjective(data, Penalty.ridge(0.0 * slopes if solver == "l1" else slopes))
    unbounded = np.full(features + 1, np.inf)
    constraints = Constraints(3.0 * slopes if solver == "l1" else 0.0 * slopes, -unbounded, unbounded)
    start, limits = np.zeros(features + 1), {"gtol": 1e-6 * rows, "max_iterations": 500}
    if solver == "newton_cg":
        found = newton_cg.minimize(objective, start, **limits)
    elif solver == "lbfgs":
        found = lbfgs.minimize(objective.value_and_gradient, start, constraints=constraints, **limits)
    else:
        found = projected_newton.minimize(objective, start, constraints=constraints, **limits)
    assert found.converged
    assert data.evaluations + data.hessian_products <= most


@pytest.mark.parametrize(
    ("task", "most"), [("logistic_regression", 1610), ("poisson_regression", 2030), ("linear_regression", 600)]
)
def test_newton_iterations_of_entities(task: str, most: int) -> None:
    """Of 300 entities together, most with fewer rows than features."""
    random, entities, rows, features = np.random.default_rng(0), 300, 3000, 12
    begin = np.arange(entities) * (rows // entities)
    X = random.standard_normal((rows, features)).astype(np.float32)
    margin = 0.5 * X[:, 0] + np.repeat(random.standard_normal(entities), rows // entities)
    label = {
        "logistic_regression": (random.random(rows) < 1 / (1 + np.exp(-margin))).astype(np.float64),
        "poisson_regression": random.poisson(np.exp(margin)).astype(np.float64),
        "linear_regression": margin + random.standard_normal(rows),
    }[task]
    bag = Bag(np.arange(rows + 1) * features, np.tile(np.arange(features, dtype=np.int32), rows), X.ravel())
    settings = Coordinate.model_validate(
        {"random_effect": {"entity": "id"}, "bag": "x", "l2": 1.0, "regularize_intercept": True}
    )
    fitted = fit_entity_models(
        EntityRows(
            pa.array(np.arange(entities)), begin, begin + rows // entities, np.arange(rows), label, np.ones(rows),
            np.zeros(rows), bag,
        ),
        settings, task, features,
    )  # fmt: skip
    assert int(fitted.iterations.sum()) <= most


@dataclass
class Work:
    """What a run's steps did, by their ids: files opened to be read, by their place in input or run; bytes read.

    compiled: by kernel, how many signatures two such runs have made anew
    """

    opened: dict[str, Counter[str]]
    bytes_read: dict[str, int]
    run: Run
    compiled: Counter[str]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    """Of a run of two passes, validate to export, in this process; the second of two, when all has been imported."""
    root = tmp_path_factory.mktemp("work")
    rows, more = make_rows(20_000, 1000), make_rows(2000, 1000, seed=1, first_uid=10**6)
    source = write_directory(root / "input", rows, more, files=3)
    before = _signatures()
    for name in ("first", "second"):
        config = make_config(source, root / name, frame={"rows_per_block": 5000}, passes={"max": 2, "min_delta": -1})
        done = _watched(Run.create(config), root)
    done.compiled = _signatures() - before
    return done


def _signatures() -> Counter[str]:
    """Of every kernel of the library that is loaded."""
    modules = [module for name, module in sys.modules.items() if name.startswith("gdmix_core")]
    kernels = {value for module in modules for value in vars(module).values() if isinstance(value, CPUDispatcher)}
    return Counter({f"{k.py_func.__module__}.{k.py_func.__qualname__}": len(k.signatures) for k in kernels})


def _watched(run: Run, root: Path) -> Work:
    done, really_open = Work({}, {}, run, Counter()), builtins.open

    def counting(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if "r" in mode and str(file).startswith(str(root)):
            opened[Path(file).relative_to(root).as_posix()] += 1
        return really_open(file, mode, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builtins, "open", counting)
        for step in run.plan.steps:
            opened = done.opened[step.id] = Counter()
            before = psutil.Process().io_counters().read_chars if hasattr(psutil.Process, "io_counters") else 0
            if step.kind in ("validate", "partition"):
                carry_out_data_step(run, step)
            else:
                dispatch.execute(run, step)
            if before:
                done.bytes_read[step.id] = psutil.Process().io_counters().read_chars - before
    return done


# Most times that a step opens any one file of a kind. One is to read it; another, before, for its digest.
READS = {
    "validate": {"input/*Data/*": 1},
    "partition": {"second/frame/*/*.parquet": 2},
    "pass_01.global.train": {"second/frame/*/*.parquet": 2},
    "pass_01.per_user.train": {"second/frame/*/*.parquet": 0, "second/shards/*/*/*.parquet": 2},
    "pass_01.global.evaluate": {"second/frame/*/*.parquet": 4},
    "pass_02.global.train": {"second/frame/*/*.parquet": 2, "second/shards/*/*/*.parquet": 0},
    "pass_02.per_user.train": {"second/frame/*/*.parquet": 0, "second/shards/*/*/*.parquet": 1},
    "pass_02.per_user.evaluate": {"second/frame/*/*.parquet": 4, "second/shards/*/*/*.parquet": 1},
}


@pytest.mark.parametrize("step", READS)
def test_how_often_a_step_opens_a_file(work: Work, step: str) -> None:
    for pattern, most in READS[step].items():
        opened = {path: count for path, count in work.opened[step].items() if fnmatch(path, pattern)}
        assert max(opened.values(), default=0) <= most, opened
        assert bool(opened) == (most > 0), f"no file {pattern}: the paths have changed, and this test guards nothing"


# Bytes that a step reads, by those of all blocks of the frame.
@pytest.mark.parametrize(
    ("step", "most"),
    [
        ("partition", 3.0),
        ("pass_02.global.train", 2.0),
        ("pass_02.per_user.train", 1.3),
        ("pass_02.per_user.evaluate", 2.5),
    ],
)
def test_bytes_that_a_step_reads(work: Work, step: str, most: float) -> None:
    if not work.bytes_read:
        pytest.skip("this system does not count what a process reads")
    frame = sum(path.stat().st_size for path in Path(work.run.frame()).rglob("*.parquet"))
    assert work.bytes_read[step] / frame <= most


def test_calls_of_storage_for_a_shard(work: Work) -> None:
    """Files of its own that training a shard opens: its rows, its model before, its model, its outcome."""
    opened = work.opened["pass_02.per_user.train"]
    assert sum(count for path, count in opened.items() if "shard-00001" in path) <= 9


def test_signatures_that_kernels_are_compiled_for(work: Work) -> None:
    """A run compiles a kernel once, and one that the frame and the shards call with their own types twice; each costs
    whoever runs it a second or more. What earlier tests of this process have compiled does not count again."""
    assert max(work.compiled.values(), default=0) <= 2, work.compiled
    assert sum(work.compiled.values()) <= 17, work.compiled
