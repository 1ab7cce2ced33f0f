"""What text, wide features, weights and random effects are each worth: NeMig news, and MovieLens with its titles.

    python benchmarks/text_ablation.py --nemig NEMIG_FOLDER [--movielens MOVIELENS_FOLDER]

Every block is a whole `gdmix run` of an example with something changed, and shows the metrics of the validation rows
after each coordinate. Validation rows are the same in all, and weigh 1. `predicted` is Σ sigmoid(margin) / Σ label.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import machine
import yaml
from scipy.special import expit

from gdmix_core.data.frame import Frame
from gdmix_core.data.scores import ScoreSum
from gdmix_core.pipeline.loading import load_yaml, override
from gdmix_core.pipeline.run import Run

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
GDMIX = str(Path(sys.executable).with_name("gdmix"))

_TEXT = "coordinates.global.fixed_effect"
Changes = dict[str, Any]
# Title → the input, the example, and what of it is changed; None takes a coordinate out.
VARIANTS: dict[str, tuple[str, str, Changes]] = {
    "NeMig: wide features, linear": ("nemig", "nemig_wide", {}),
    "NeMig: text alone": ("nemig", "nemig", {f"{_TEXT}.dense": []}),
    "NeMig: text and wide features": ("nemig", "nemig", {}),
    "NeMig: the same, a third of the negatives, weighted": ("nemig-third", "nemig", {}),
    "NeMig: the same, a third of the negatives, unweighted": ("nemig-third", "nemig", {"columns.weight": None}),
    "NeMig: text and wide features, listwise within an impression": (
        "nemig", "nemig",
        {f"{_TEXT}.loss": "listwise", f"{_TEXT}.group": "impression", "coordinates.per_user": None, "passes.max": 1},
    ),
    "MovieLens: linear": ("movielens", "movielens_text", {_TEXT: {}, "coordinates.global.bag": "global"}),
    "MovieLens: titles and wide features": ("movielens", "movielens_text", {}),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nemig", required=True, help="folder of news.tsv and rows.tsv")
    parser.add_argument("--movielens", help="folder as GroupLens publishes it")
    parser.add_argument("--only", default="", help="variants whose title holds this")
    arguments = parser.parse_args()
    print(machine.describe())
    with tempfile.TemporaryDirectory() as folder:
        sample("nemig", arguments.nemig, f"{folder}/nemig")
        sample("nemig", arguments.nemig, f"{folder}/nemig-third", "--negatives", "0.333")
        if arguments.movielens:
            sample("movielens", arguments.movielens, f"{folder}/movielens")
        for number, (title, (source, example, changes)) in enumerate(VARIANTS.items()):
            if (source != "movielens" or arguments.movielens) and arguments.only in title:
                print(title, flush=True)
                show(train(example, f"{folder}/{source}", f"{folder}/run-{number}", changes))


def sample(name: str, data: str, output: str, *options: str) -> None:
    subprocess.run([GDMIX, "sample", name, "--data", data, "--output", output, *options], check=True)


def train(example: str, source: str, output: str, changes: Changes) -> Run:
    content = load_yaml(EXAMPLES / f"{example}.yaml")
    content = override(content, {"input": source, "output": output, **changes})
    content["coordinates"] = {name: c for name, c in content["coordinates"].items() if c is not None}
    path = Path(f"{output}.yaml")
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    subprocess.run([GDMIX, "run", str(path)], check=True, stdout=subprocess.DEVNULL)
    return Run.open(output)


def show(run: Run) -> None:
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
        metrics = run.result(step.id)["metrics"]["validation"]
        shown = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        predicted = expit(margin).sum() / label.sum()
        print(f"  pass {step.pass_number} {step.coordinate:10s} {shown}  predicted {predicted:.2f}", flush=True)


if __name__ == "__main__":
    main()
