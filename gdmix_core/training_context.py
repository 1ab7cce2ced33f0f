"""The data that the training of one coordinate in one pass works with, determined once in a process.

Whoever carries a step out makes the context; what trains takes it, and asks neither the run nor the plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

from gdmix_core import storage
from gdmix_core.config.coordinate import Coordinate
from gdmix_core.config.pipeline import Config
from gdmix_core.data.entity_rows import ROWS_AT_A_TIME, EntityRows, read_entity_rows
from gdmix_core.data.frame import Frame
from gdmix_core.data.scores import MARGIN_VARIANCE, ScoreSum, other_margin_variance, other_scores
from gdmix_core.models.initial.written import read_initial
from gdmix_core.models.native import read_model
from gdmix_core.models.table import CoefficientTable
from gdmix_core.pipeline.once import once
from gdmix_core.pipeline.plan import CoordinateStep, train_id
from gdmix_core.pipeline.run import SPLITS, Run
from gdmix_core.workers.checkpoint import StepCheckpoint
from gdmix_core.workers.cores import core_count


class TrainingContext:
    """run, step: for who commits the result

    id, key, name, pass_number: of the step; the name is the coordinate's
    config, settings: of the pipeline and of the coordinate
    """

    def __init__(self, run: Run, step: CoordinateStep) -> None:
        self.run, self.step = run, step
        self.id, self.name, self.pass_number = step.id, step.coordinate, step.pass_number
        self.config: Config = run.config
        self.settings: Coordinate = run.config.coordinates[step.coordinate]

    @classmethod
    def open(cls, root: str, step_id: str) -> TrainingContext:
        """Open the context in a worker process.

        Raises StepError without a run, KeyError for what is not a coordinate's step.
        """
        run = Run.open(root)
        return cls(run, run.plan.of_coordinate(step_id))

    @classmethod
    def of_first_pass(cls, run: Run, name: str) -> TrainingContext:
        """The context of a coordinate's first training, also in a search, whose plan leaves trainings to its trials."""
        kind = run.config.coordinates[name].effect.training
        return cls(run, CoordinateStep(train_id(1, name), kind, pass_number=1, coordinate=name))

    @property
    def key(self) -> str:
        return self.run.keys[self.id]

    @property
    def cores(self) -> int:
        return core_count(self.config)

    # What is read

    @cached_property
    def frame(self) -> Frame:
        return Frame(self.run)

    @property
    def features(self) -> int:
        """Length of the coordinate's feature list; 0 without a bag."""
        return self.frame.features_of(self.name)

    @cached_property
    def partition(self) -> dict[str, Any]:
        """The result of partition for the coordinate: {shards, rows, totals}."""
        found: dict[str, Any] = self.run.result("partition")["coordinates"][self.name]
        return found

    def other_scores(self, split: str) -> ScoreSum:
        """Return the latest scores of all other coordinates, which are added to the data's own offset."""
        return other_scores(self.run, self.step, split)

    def other_margin_variance(self) -> ScoreSum:
        """Posterior variance of what the other coordinates add to the training rows' offsets, where they know it."""
        return other_margin_variance(self.run, self.step)

    def entity_rows(
        self, split: str, shard: int, others: ScoreSum | None = None, margin_variance: ScoreSum | None = None
    ) -> Iterator[EntityRows]:
        """Read a random effect's shard, ROWS_AT_A_TIME rows at a time; see entity_rows.read_entity_rows."""
        return read_entity_rows(self.run, self.name, split, shard, others, ROWS_AT_A_TIME, margin_variance)

    @cached_property
    def previous(self) -> TrainingContext | None:
        """The context of the pass before; None in the first."""
        if self.pass_number == 1:
            return None
        return TrainingContext(self.run, self.run.plan.of_coordinate(train_id(self.pass_number - 1, self.name)))

    def start_model(self, shard: int) -> CoefficientTable | None:
        """The model that training of one shard (a fixed effect has shard 0 alone) starts from; None: from zeros.

        It is that of the pass before, or, in a trial's first pass, another trial's. It saves iterations; the result is
        the same to the solver's tolerance, so no step's key depends on it. It may have other entities and other
        features of each than the step will train.
        """
        if self.previous is not None:
            return read_model(self.previous.whole(self.previous.model(shard)))
        start = None if self.run.trial is None else self.run.trial["start"]
        if start is None:
            return None
        other = Run.open(self.run.trial_root(start["trial"]))
        path = other.model(start["pass"], self.name, shard)
        if not storage.exists(path):
            return None
        return read_model(other.whole(path, train_id(start["pass"], self.name)))

    def initial_model(self, shard: int) -> CoefficientTable | None:
        """The models of `initial_model` for one shard's entities, in this run's features; None without any."""
        return read_initial(self.run, self.name, shard)

    # What is written

    def folder(self, *parts: str) -> str:
        """Below the folder of the coordinate in this pass."""
        return self.run.coordinate(self.pass_number, self.name, *parts)

    def model(self, number: int) -> str:
        return self.run.model(self.pass_number, self.name, number)

    def model_file(self, name: str) -> str:
        """A file or folder beside the step's marker."""
        return self.folder("model", name)

    def l2_file(self, name: str) -> str:
        """Return the path of a file of l2: auto's results: used.npz, evidence-00000.npy, next.npy."""
        return self.folder("l2", name)

    def score_part(self, split: str, number: int) -> str:
        return self.run.score_part(self.pass_number, self.name, split, number)

    def remove_score_parts(self) -> None:
        """Remove the score parts of an earlier training of the step.

        A different number of workers may have left parts that nobody would overwrite.
        """
        for split in SPLITS:
            storage.remove(self.folder("scores", split))

    def remove_margin_variance(self) -> None:
        """Remove the variance of a model trained here before it was locked: a locked one has no known uncertainty."""
        storage.remove(self.run.scores(self.pass_number, self.name, MARGIN_VARIANCE))

    @property
    def is_done(self) -> bool:
        return self.run.is_done(self.step)

    @property
    def result(self) -> dict[str, Any]:
        """The content of the step's marker. Raises StepError when the step is not done."""
        return self.run.result(self.id)

    def drop(self) -> None:
        """Removes the marker of an older result: it goes before any of the result's files does."""
        self.run.drop(self.step)

    def commit(self, content: dict[str, Any]) -> dict[str, Any]:
        """Declares the step's result whole."""
        return self.run.commit(self.step, content)

    def once(
        self,
        work: Callable[[], dict[str, Any]],
        *,
        before: Callable[[], object] | None = None,
        after: Callable[[dict[str, Any]], object] | None = None,
    ) -> dict[str, Any]:
        """The step's result, made by `work` if it is not there: see pipeline.once."""
        return once(self.run, self.step, work, before=before, after=after)

    def whole(self, path: str) -> str:
        """The path of a file of this step's result, once its content is known to be what was written."""
        return self.run.whole(path, self.id)

    def checkpoint(self, name: str) -> StepCheckpoint:
        return StepCheckpoint(self.folder("checkpoint"), self.key, name)
