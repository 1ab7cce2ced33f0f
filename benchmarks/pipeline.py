"""A whole pipeline of MovieLens-100k's size, three passes: `gdmix run` as a user would call it, Spark jobs included.

    python benchmarks/pipeline.py [--data MOVIELENS_FOLDER] [--rows 100000] [--json FILE]

Without a folder a generated sample of the same size (943 users, 1,682 films, 100,000 ratings) is trained on. The
peer is the same maths as a user would write it by hand, and as GDMix does it for each model: SciPy's fmin_l_bfgs_b
for the global model and for every entity, three passes, on data that is in memory already.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import machine
import numpy as np
from scipy.optimize import fmin_l_bfgs_b
from scipy.sparse import csr_matrix, hstack

from gdmix_core.data.frame import Frame
from gdmix_core.metrics.all_rows import auc
from gdmix_core.pipeline.run import Run

CONFIG = Path(__file__).resolve().parents[1] / "dags" / "movielens.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data")
    parser.add_argument("--rows", type=int, default=100_000, help="ratings of the generated sample")
    parser.add_argument("--json", type=Path, help="writes the rows of `make bench` there")
    arguments = parser.parse_args()
    print(machine.describe())
    gdmix = str(Path(sys.executable).with_name("gdmix"))
    with tempfile.TemporaryDirectory() as folder:
        source = ["movielens", "--data", arguments.data] if arguments.data else ["generated", "--users", "943"]
        if not arguments.data:
            source += ["--movies", "1682", "--ratings", str(arguments.rows)]
        subprocess.run([gdmix, "sample", *source, "--output", f"{folder}/input"], check=True)
        command = [gdmix, "run", str(CONFIG), "--var", "ds=benchmark", "--set", f"input={folder}/input"]
        command += ["--set", f"output={folder}/run", "--set", "passes.min_delta=-1"]
        # A number, which the peer can be given too; l2: auto adds a second to a run of this size.
        command += ["--set", "coordinates.per_user.l2=3", "--set", "coordinates.per_movie.l2=3"]
        subprocess.run([gdmix, "compile"], check=True)
        with machine.PeakMemory() as peak:
            ours = machine.once(lambda: subprocess.run(command, check=True))
        run = Run.open(f"{folder}/run")
        with machine.PeakMemory() as peers_peak:
            theirs, peer_auc = by_hand(run)
        value = run.result("select")["metrics"]["validation"]["auc"]
        print(f"gdmix run, {run.plan.passes} passes     {ours:7.1f} s   AUC {value:.5f}")
        print(f"SciPy by hand            {theirs:7.1f} s   AUC {peer_auc:.5f}   (training alone)")
        print(f"ours takes {ours / theirs:.2f} x that, with checks, shards, metrics and export")
        if arguments.json:
            common = {"comparison": "whole pipeline, 3 passes", "objective": "AUC of the validation rows", "runs": 1,
                      "sizes": {"rows": arguments.rows}}  # fmt: skip
            own = {"who": "ours", "seconds": ours, "note": "gdmix run, from prompt to export",
                   "peak_memory": peak.bytes, "result": f"AUC {value:.4f}"}  # fmt: skip
            peer = {"who": "peers.SciPy_by_hand", "seconds": theirs, "note": "training alone",
                    "peak_memory": peers_peak.bytes, "result": f"AUC {peer_auc:.4f}", "ratio": ours / theirs,
                    }  # fmt: skip
            arguments.json.write_text(json.dumps([common | row for row in (own, peer)]))


def by_hand(run: Run) -> tuple[float, float]:
    """(seconds, validation AUC) of the same coordinates and passes, one SciPy fit for every model, data in memory."""
    frame = Frame(run)
    splits = ("training", "validation")
    names = list(run.config.coordinates)
    data = {(split, name): _matrix(frame, split, name) for split in splits for name in names}
    rows = {(split, name): _rows_by_entity(run, frame, split, name) for split in splits for name in names}
    scores = {key: np.zeros(frame.rows(key[0])) for key in data}
    label = frame.column("training", "label")
    began = time.perf_counter()
    for _ in range(run.plan.passes):
        for name in names:
            settings = run.config.coordinates[name]
            offset = sum(scores["training", other] for other in names if other != name)
            for entity, mine in rows["training", name].items():
                x = data["training", name][mine]
                w = _fit(x, label[mine], offset[mine], settings.l2_weight, settings.regularize_intercept)
                scores["training", name][mine] = x @ w
                held = rows["validation", name].get(entity)
                if held is not None:
                    scores["validation", name][held] = data["validation", name][held] @ w
    seconds = time.perf_counter() - began
    total = sum(scores["validation", name] for name in names)
    return seconds, auc(frame.column("validation", "label"), total)


def _matrix(frame: Frame, split: str, name: str) -> csr_matrix:
    """The coordinate's features after a column of ones."""
    key = str(frame.bag_of(name))
    bag = frame.bag(split, key)
    features = csr_matrix((bag.values, bag.indices, bag.offsets), shape=(len(bag), frame.feature_count(key)))
    return csr_matrix(hstack([np.ones((len(bag), 1)), features]))


def _rows_by_entity(run: Run, frame: Frame, split: str, name: str) -> dict[object, np.ndarray]:
    effect = run.config.coordinates[name].random_effect
    if effect is None:
        return {0: np.arange(frame.rows(split))}
    ids = frame.ids(split, effect.entity).to_numpy()
    order = np.argsort(ids, kind="stable")
    entities, begins = np.unique(ids[order], return_index=True)
    return dict(zip(entities.tolist(), np.split(order, begins[1:]), strict=True))


def _fit(x: csr_matrix, y: np.ndarray, offset: np.ndarray, l2: float, regularize_intercept: bool) -> np.ndarray:
    penalty = np.full(x.shape[1], l2)
    penalty[0] = l2 if regularize_intercept else 0.0

    def objective(w: np.ndarray) -> tuple[float, np.ndarray]:
        z = x @ w + offset
        loss = np.sum(np.logaddexp(0.0, z) - y * z) + 0.5 * np.sum(penalty * w * w)
        return loss, x.T @ (1.0 / (1.0 + np.exp(-z)) - y) + penalty * w

    start = np.zeros(x.shape[1])
    return fmin_l_bfgs_b(objective, start, m=10, factr=1e-12 / np.finfo(float).eps, maxiter=100)[0]


if __name__ == "__main__":
    main()
