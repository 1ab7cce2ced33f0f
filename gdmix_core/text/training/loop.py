"""The training loop: where it starts or resumes, how it is evaluated on the way, and when it ends."""

from __future__ import annotations

import logging
import math
import time
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdmix_core.errors import StepError
from gdmix_core.text.network.network import TextNetwork
from gdmix_core.text.starting_point import start_weights
from gdmix_core.text.training.group import TrainingGroup
from gdmix_core.text.training.monitored_metric import MonitoredMetric
from gdmix_core.text.training.optimizer import Update
from gdmix_core.text.training.state import TrainingState
from gdmix_core.text.training.summaries import Summaries
from gdmix_core.training_context import TrainingContext
from gdmix_core.workers import processes

log = logging.getLogger(__name__)


_SECONDS_BETWEEN_REPORTS = 1.0

# Scores this worker's part of the rows of the monitored metric: (scores, which rows of the split they are of).
MonitoredScores = Callable[[], tuple[NDArray[np.float32], NDArray[np.int64]]]


class TrainingLoop:
    """The loop that all workers go through alike; the first one writes checkpoints and reports to the parent.

    steps: batches of an epoch; metric: judges the scores that monitored_scores gives
    """

    def __init__(
        self,
        context: TrainingContext,
        network: TextNetwork,
        update: Update,
        group: TrainingGroup,
        steps: int,
        metric: MonitoredMetric,
        monitored_scores: MonitoredScores,
    ) -> None:
        self._context, self._network, self._update, self._group = context, network, update, group
        self._settings = context.settings.text
        self._steps, self._metric, self._monitored_scores = steps, metric, monitored_scores
        self._first = group.rank == 0
        self._checkpoint = context.checkpoint("training.npz")
        self.best = network.weights.arrays()  # by name: those that were the best when evaluated
        self.state = TrainingState()
        self._warm = False  # whether the weights to begin with are trained ones
        self._restore()
        # Evaluated after so many batches of an epoch.
        wanted = self._settings.evaluations
        self._evaluated_after = {max(1, round(steps * k / wanted)) for k in range(1, wanted + 1)}
        self._summaries: Summaries | None = None
        if self._first and self._settings.tensorboard:
            self._summaries = Summaries(context.model_file("tensorboard"), self._metric.name, self.state.curve)
        self._since: float | None = None
        self._next_report = 0.0

    @property
    def total_steps(self) -> int:
        return self._steps * self._settings.epochs

    def begin(self) -> None:
        """Evaluate the weights of the previous pass or initial model, if it starts from them: so it ends no worse."""
        if self._warm:
            state = self.state
            state.best_value, state.best_step = self._metric.of(*self._monitored_scores()), 0
            if self._first:
                log.info("%s: starts at %s %s", self._context.id, self._metric.name, _shown(state.best_value))

    def taken(self, rows: int, sums: Callable[[], tuple[float, float]]) -> bool:
        """Count a batch; call it after each. rows: of the batch; sums: (Σ w · loss, Σ w) since the last evaluation.

        Returns whether there was an evaluation, after which sums begin anew. Raises StepError, WorkerLostError.
        """
        evaluated = self.state.step + 1 in self._evaluated_after
        self.advance(1, rows)
        if evaluated:
            self.evaluate(sums())
        elif self._first and time.monotonic() >= self._next_report:
            self._clock()
            self._set_sums(sums())
            self._checkpoint.offer_arrays(self._arrays)
            self._report()
        return evaluated

    def advance(self, steps: int, rows: int) -> None:
        """Count batches that have been taken, none of which ends an epoch but the last."""
        # The first call of a process is not timed: TensorFlow traces the step.
        self.state.advance(self._steps, steps, 0 if self._since is None else rows)
        if self._since is None:
            self.start_clock()

    def start_clock(self) -> None:
        """Time what comes now."""
        self._since = time.monotonic()
        self._next_report = self._since + _SECONDS_BETWEEN_REPORTS

    def evaluate(self, sums: tuple[float, float]) -> None:
        """Evaluate the weights as they are, keep them if they are the best, and write a checkpoint."""
        self._clock()
        self._set_sums(sums)
        self._check_same_weights()
        state = self.state
        value = self._metric.of(*self._monitored_scores())
        undefined = value is None and state.best_value is None
        if undefined or self._metric.better(value, state.best_value):
            self.best = self._network.weights.arrays()
            state.best_value, state.best_step, state.worse = value, state.steps, 0
        else:
            state.worse += 1
        state.over = state.epoch >= self._settings.epochs or state.worse >= self._settings.patience
        self._add_point(value)
        state.loss = state.weight = 0.0
        if self._first:
            self._log(undefined)
            self._checkpoint.write_arrays(self._arrays())
            self._report()
        self.start_clock()

    def finish(self) -> dict[str, Any]:
        """Give the network its best weights; return what the step's marker tells of the training."""
        self._network.weights.assign(self.best)
        if self._summaries:
            self._summaries.close()
        state = self.state
        return {
            "steps": state.steps,
            "epochs": round(state.steps / self._steps, 3),
            "stopped_early": state.steps < self.total_steps,
            "metric": self._metric.name,
            "best_value": state.best_value,
            "best_step": state.best_step,
            "weights": int(sum(weights.size for weights in self.best.values())),
            "rows_per_second": round(state.rows / max(state.seconds, 1e-9), 1),
            "curve": state.curve,
        }

    def _restore(self) -> None:
        stored = self._checkpoint.read_arrays()
        if stored is not None:
            self.state = TrainingState.from_array(stored["state"])
            names = self._network.weights.variables
            weights = dict(zip(names, _numbered(stored, "weights"), strict=True))
            self._network.weights.assign(weights, self._checkpoint.path)
            self.best = dict(zip(names, _numbered(stored, "best"), strict=True))
            for variable, value in zip(self._update.variables, _numbered(stored, "optimizer"), strict=True):
                variable.assign(value)
            if self._first:
                log.info("%s goes on from its checkpoint, after %d steps", self._context.id, self.state.steps)
        elif (trained := start_weights(self._context)) is not None:
            self._network.weights.load(trained)
            self.best = self._network.weights.arrays()
            self._warm = True

    def _arrays(self) -> dict[str, NDArray[Any]]:
        optimizer = [variable.numpy() for variable in self._update.variables]
        return {
            "state": self.state.to_array(),
            **{f"weights/{number}": value for number, value in enumerate(self._network.weights.arrays().values())},
            **{f"best/{number}": value for number, value in enumerate(self.best.values())},
            **{f"optimizer/{number}": value for number, value in enumerate(optimizer)},
        }

    def _clock(self) -> None:
        before = self._since
        self.start_clock()
        assert self._since is not None
        self.state.seconds += self._since - (before or self._since)

    def _set_sums(self, sums: tuple[float, float]) -> None:
        self.state.loss, self.state.weight = sums
        if not math.isfinite(self.state.mean_loss):
            raise StepError(
                f"{self._context.id}: the training loss is {self.state.mean_loss} after {self.state.steps} steps; "
                "lower optimizer.learning_rate, clip harder (optimizer.gradient_norm), or look for extreme "
                "feature values"
            )

    def _check_same_weights(self) -> None:
        """Refuse weights that differ: with other processors or libraries, the copies could drift apart unnoticed."""
        if self._group.workers == 1:
            return
        own = 0
        for weights in self._network.weights.arrays().values():
            own = zlib.crc32(weights.tobytes(), own)
        # A sum of 32-bit integers is exact in float64.
        if self._group.sum(np.array([float(own)]))[0] != float(own) * self._group.workers:
            raise StepError(
                f"{self._context.id}: worker {self._group.rank} has other weights than the rest after "
                f"{self.state.steps} steps; all workers need the same TensorFlow and the same kind of processor or GPU"
            )

    def _add_point(self, value: float | None) -> None:
        state = self.state
        rows, seconds = state.rows - state.rows_before, state.seconds - state.seconds_before
        state.rows_before, state.seconds_before = state.rows, state.seconds
        point = {
            "step": state.steps,
            "epoch": round(state.steps / self._steps, 3),
            "loss": state.mean_loss,
            "metric": value,
            "learning_rate": float(self._update.learning_rate()),
            # None: the first batch is not timed, and may be all there was.
            "rows_per_second": round(rows / max(seconds, 1e-9), 1) if rows else None,
        }
        state.curve.append(point)
        if self._summaries:
            self._summaries.add(point)

    def _log(self, undefined: bool) -> None:
        state, point = self.state, self.state.curve[-1]
        speed = point["rows_per_second"]
        best = "the best so far" if state.worse == 0 else f"best {state.best_value:.5f} at step {state.best_step}"
        log.info(
            "%s: step %d of %d, epoch %.2f of %d: loss %.5f, %s %s %s (%s), learning rate %.3g%s",
            self._context.id, state.steps, self.total_steps, point["epoch"], self._settings.epochs, point["loss"],
            self._metric.split, self._metric.name, "undefined" if undefined else _shown(point["metric"]),
            "so far the last weights count" if undefined else best, point["learning_rate"],
            "" if speed is None else f", {speed:.0f} rows/s",
        )  # fmt: skip
        if state.over and state.epoch < self._settings.epochs:
            log.info("%s: no better %s for %d evaluations: stops", self._context.id, self._metric.name, state.worse)

    def _report(self) -> None:
        state = self.state
        last = state.curve[-1] if state.curve else {"loss": 0.0, "metric": None}
        # Since an evaluation, or of groups in which nothing ranks above anything, there may be no weight yet.
        loss, value = state.mean_loss if state.weight else last["loss"], last["metric"]
        told = f"loss {loss:.4g}" + ("" if value is None else f", {self._metric.name} {value:.4g}")
        processes.send({"steps": state.steps, "total": self.total_steps, "told": told})


def _numbered(stored: dict[str, NDArray[Any]], name: str) -> list[NDArray[Any]]:
    count = sum(key.startswith(f"{name}/") for key in stored)
    return [stored[f"{name}/{number}"] for number in range(count)]


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.5f}"
