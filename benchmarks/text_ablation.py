"""What text, wide features, weights and random effects are each worth: NeMig news, and MovieLens with its titles.

    python benchmarks/text_ablation.py --nemig NEMIG_FOLDER [--movielens MOVIELENS_FOLDER]

Every line is a whole `gdmix run` of an example with something changed. Metrics are those of the validation rows under
the sums of all coordinates' scores, counted without weights and with the sample's, whatever the training used.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import machine
import numpy as np
import yaml

from gdmix_core.config_file import load_yaml, override
from gdmix_core.data.frame import Frame
from gdmix_core.data.scores import ScoreSum
from gdmix_core.evaluation.evaluate import group_codes
from gdmix_core.evaluation.registry import parse_metric
from gdmix_core.run import Run

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
GDMIX = str(Path(sys.executable).with_name("gdmix"))

_TEXT = "coordinates.global.fixed_effect"
Changes = dict[str, Any]
# Title → the example, and what of it is changed; None takes a coordinate out.
NEMIG: dict[str, tuple[str, Changes]] = {
    "wide features, linear": ("nemig_wide", {}),
    "text alone": ("nemig", {f"{_TEXT}.dense": []}),
    "text and wide features": ("nemig", {}),
    "the same, rows unweighted": ("nemig", {"columns.weight": None}),
    "the same, listwise within an impression": (
        "nemig", {f"{_TEXT}.loss": "listwise", f"{_TEXT}.group": "impression", "coordinates.per_user": None},
    ),
}  # fmt: skip
MOVIELENS: dict[str, tuple[str, Changes]] = {
    "logistic": ("movielens_text", {_TEXT: {}, "coordinates.global.bag": "global"}),
    "titles and wide features": ("movielens_text", {}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nemig", required=True, help="folder of news.tsv and rows.tsv")
    parser.add_argument("--movielens", help="folder as GroupLens publishes it")
    arguments = parser.parse_args()
    print(machine.describe())
    with tempfile.TemporaryDirectory() as folder:
        sample("nemig", arguments.nemig, f"{folder}/nemig")
        metrics = ["auc", "ndcg@5:impression", "mrr@5:impression"]
        for number, (title, (example, changes)) in enumerate(NEMIG.items()):
            run = train(example, f"{folder}/nemig", f"{folder}/run-{number}", {**changes, "passes.max": 1})
            weight = None if "columns.weight" in changes else Frame(run).column("validation", "weight")
            if weight is not None:
                sample_weight = weight  # all runs have the same rows in the same order
            show(run, title, metrics, sample_weight)
        if arguments.movielens:
            sample("movielens", arguments.movielens, f"{folder}/movielens")
            for number, (title, (example, changes)) in enumerate(MOVIELENS.items()):
                run = train(example, f"{folder}/movielens", f"{folder}/films-{number}", changes)
                show(run, title, ["auc", "auc@user_id"], None)


def sample(name: str, data: str, output: str) -> None:
    subprocess.run([GDMIX, "sample", name, "--data", data, "--output", output], check=True)


def train(example: str, source: str, output: str, changes: Changes) -> Run:
    content = load_yaml(EXAMPLES / f"{example}.yaml")
    content = override(content, {"input": source, "output": output, **changes})
    content["coordinates"] = {name: c for name, c in content["coordinates"].items() if c is not None}
    path = Path(f"{output}.yaml")
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    subprocess.run([GDMIX, "run", str(path)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return Run.open(output)


def show(run: Run, title: str, metrics: list[str], weight: np.ndarray | None) -> None:
    """A line after every coordinate of every pass."""
    frame = Frame(run)
    rows, label, offset = (frame.rows("validation"), *(frame.column("validation", n) for n in ("label", "offset")))
    latest: dict[str, int] = {}
    for step in run.plan.steps:
        if step.kind != "evaluate" or not run.is_done(step):
            continue
        assert step.coordinate is not None
        assert step.pass_number is not None
        latest[step.coordinate] = step.pass_number
        margin = offset + ScoreSum(run, latest, "validation").span(0, rows)
        shown = []
        for name in metrics:
            metric = parse_metric(name)
            groups = {metric.column: group_codes(frame, "validation", metric.column)} if metric.column else {}
            plain = metric.evaluate(label, margin, None, groups).value
            shown.append(f"{name} {plain:.4f}")
            if weight is not None:
                shown[-1] += f" ({metric.evaluate(label, margin, weight, groups).value:.4f} weighted)"
        print(f"{title:42s} pass {step.pass_number} {step.coordinate:10s} {'  '.join(shown)}", flush=True)


if __name__ == "__main__":
    main()
