"""Paths of the files of a run: every path of the run directory is spelled here and nowhere else."""

from __future__ import annotations

from gdmix_core import storage
from gdmix_core.pipeline.plan import CoordinateStep, Step


class RunPaths:
    """The paths of a run. root: its directory or URL; data_root: of what a trial shares with others, else the same"""

    def __init__(self, root: str, data_root: str) -> None:
        self.root = root
        self.data_root = data_root

    def path(self, *parts: str) -> str:
        return storage.join(self.root, *parts)

    def shared(self, *parts: str) -> str:
        """Return the path of what a trial has in common with the others of its search."""
        return storage.join(self.data_root, *parts)

    def frame(self, *parts: str) -> str:
        return self.shared("frame", *parts)

    def shard(self, coordinate: str, split: str, number: int) -> str:
        return self.shared("shards", coordinate, split, f"shard-{number:05d}.parquet")

    def summary(self, bag: str) -> str:
        return self.shared("summary", f"{bag}.parquet")

    def initial(self, coordinate: str, number: int) -> str:
        return self.shared("initial", coordinate, f"shard-{number:05d}.parquet")

    def trial_root(self, number: int) -> str:
        return self.shared("trials", f"{number:03d}")

    def initial_network(self, coordinate: str, *parts: str) -> str:
        return self.shared("initial", coordinate, "network", *parts)

    def earlier_run(self) -> str:
        """Return the path of the choice of the run that `initial_model` means, as it was made when this run began."""
        return self.shared("initial_model.json")

    def file_digests(self) -> str:
        """Return the path of the digests of the files beside the input that trainings read."""
        return self.shared("watched.json")

    def initial_features(self, coordinate: str) -> str:
        return self.shared("initial", coordinate, "features.csv")

    def coordinate(self, pass_number: int, coordinate: str, *parts: str) -> str:
        return self.path("passes", f"{pass_number:02d}", coordinate, *parts)

    def model(self, pass_number: int, coordinate: str, number: int) -> str:
        return self.coordinate(pass_number, coordinate, "model", f"shard-{number:05d}.parquet")

    def score_part(self, pass_number: int, coordinate: str, split: str, number: int) -> str:
        return self.coordinate(pass_number, coordinate, "scores", split, f"part-{number:05d}.npy")

    def scores(self, pass_number: int, coordinate: str, split: str) -> str:
        """Return the path of a coordinate's scores; of pass 0 its initial model's, before any training."""
        if pass_number == 0:
            return self.shared("initial", coordinate, "scores", f"{split}.npy")
        return self.coordinate(pass_number, coordinate, "scores", f"{split}.npy")

    def accelerated(self, pass_number: int, name: str) -> str:
        """Return the path of the scores of a coordinate that a pass begins with, where they are extrapolated."""
        return self.path("passes", f"{pass_number:02d}.accelerated", f"{name}.npy")

    def marker(self, step: Step) -> str:
        """Return the path of the marker: a file that says, with the step's key in it, that the result is whole."""
        if step.kind == "accelerate" and step.pass_number is not None:
            return self.path("passes", f"{step.pass_number:02d}.accelerated", "manifest.json")
        if not isinstance(step, CoordinateStep):
            return {
                "validate": self.frame("manifest.json"),
                "partition": self.shared("shards", "manifest.json"),
                "summarize": self.shared("summary", "manifest.json"),
                "initialize": self.shared("initial", "manifest.json"),
                "trials": self.path("trials", f"{step.id}.json"),
                "select": self.path("best.json"),
                "export": self.path("export", "manifest.json"),
            }[step.kind]
        name = "metrics.json" if step.kind == "evaluate" else "model/manifest.json"
        return self.coordinate(step.pass_number, step.coordinate, name)
