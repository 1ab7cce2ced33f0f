"""A whole pipeline of MovieLens-100k's size, three passes, `gdmix run` in a process of its own, both Spark jobs included.

    python benchmarks/pipeline.py [--data MOVIELENS_FOLDER]

Without a folder a generated sample of the same size (943 users, 1,682 films, 100,000 ratings) is trained on. The peer is
the same maths as a user would write it by hand: scikit-learn's LogisticRegression for the global model and one for every
entity, three passes, on data that is in memory already.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import machine
import numpy as np

from gdmix_core.data.frame import Frame
from gdmix_core.evaluation.metrics import auc
from gdmix_core.run import Run

CONFIG = Path(__file__).resolve().parents[1] / "dags" / "movielens.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data")
    arguments = parser.parse_args()
    print(machine.describe())
    gdmix = str(Path(sys.executable).with_name("gdmix"))
    with tempfile.TemporaryDirectory() as folder:
        source = ["movielens", "--data", arguments.data] if arguments.data else ["generated", "--users", "943"]
        if not arguments.data:
            source += ["--movies", "1682", "--ratings", "100000"]
        subprocess.run([gdmix, "sample", *source, "--output", f"{folder}/input"], check=True)
        command = [gdmix, "run", str(CONFIG), "--var", "ds=benchmark", "--set", f"input={folder}/input"]
        command += ["--set", f"output={folder}/run", "--set", "passes.min_delta=-1"]
        began = time.perf_counter()
        subprocess.run(command, check=True)
        ours = time.perf_counter() - began
        run = Run.open(f"{folder}/run")
        theirs, peer_auc = by_hand(run)
        value = run.result("select")["metrics"]["validation"]["auc"]
        print(f"gdmix run, {run.plan.passes} passes     {ours:7.1f} s   AUC {value:.5f}")
        print(f"scikit-learn by hand     {theirs:7.1f} s   AUC {peer_auc:.5f}   (training alone)")
        print(f"ours takes {ours / theirs:.2f} x that, with checks, shards, metrics and export")


def by_hand(run: Run) -> tuple[float, float]:
    """(seconds, validation AUC) of the same coordinates and passes with scikit-learn."""
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import LogisticRegression

    frame = Frame(run)

    def matrix(split: str, name: str) -> csr_matrix:
        bag = frame.bag(split, str(frame.bag_of(name)))
        shape = (len(bag), frame.feature_count(str(frame.bag_of(name))))
        return csr_matrix((bag.values, bag.indices, bag.offsets), shape=shape)

    splits = ("training", "validation")
    label = frame.column("training", "label")
    data = {(s, n): matrix(s, n) for s in splits for n in run.config.coordinates}
    ids = {
        (s, n): frame.ids(s, c.random_effect.entity).to_numpy()
        for s in splits
        for n, c in run.config.random_effects.items()
        if c.random_effect
    }
    scores = {key: np.zeros(frame.rows(key[0])) for key in data}
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(run.plan.passes):
            for name, settings in run.config.coordinates.items():
                c = 1 / settings.l2
                others = sum(scores["training", n] for n in run.config.coordinates if n != name)
                # scikit-learn knows no offset; a feature of large scale with coefficient one comes to the same.
                groups = ids.get(("training", name), np.zeros(len(label)))
                for entity in np.unique(groups):
                    rows = groups == entity
                    held = ids.get(("validation", name), np.zeros(frame.rows("validation"))) == entity
                    if len(np.unique(label[rows])) < 2:
                        continue
                    weight = 1 / (1 + np.exp(-others[rows]))
                    weight = np.maximum(weight * (1 - weight), 1e-3)
                    model = LogisticRegression(C=c, max_iter=200)
                    model.fit(data["training", name][rows], label[rows], sample_weight=weight * 4)
                    scores["training", name][rows] = model.decision_function(data["training", name][rows])
                    if held.any():
                        scores["validation", name][held] = model.decision_function(data["validation", name][held])
    seconds = time.perf_counter() - began
    total = sum(scores["validation", n] for n in run.config.coordinates)
    return seconds, auc(frame.column("validation", "label"), total)


if __name__ == "__main__":
    main()
