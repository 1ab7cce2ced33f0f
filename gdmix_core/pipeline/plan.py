"""The plan of a pipeline: the ordered steps that a configuration asks for, as plain data.

`gdmix run` and the Airflow DAG factory both walk this list, so both do the same. A step's key is a fingerprint of
everything its result depends on: its own settings and the keys of the steps it reads. A result on disk that carries
the step's key is current and is not computed again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gdmix_core.config.coordinate import Coordinate
from gdmix_core.config.pipeline import Config
from gdmix_core.config.search_space import round_count, round_id
from gdmix_core.pipeline import step_settings

if TYPE_CHECKING:
    from gdmix_core.pipeline.fingerprints import Fingerprints

_AFTER_PASSES = ("trials", "select", "export")

# Raise when a change of the code changes results: older results are then computed again.
FORMAT_VERSION = 4


@dataclass(frozen=True)
class Step:
    """One unit of work.

    id: unique, dotted: `pass_01.global.train`
    kind: validate, partition, summarize, initialize, gate, accelerate, trials, evaluate, select, export, or of a
    training what its effect's settings say
    reads: ids of the steps whose results it reads
    settings: the part of the configuration that its result depends on (plain data)
    """

    id: str
    kind: str
    reads: tuple[str, ...] = ()
    pass_number: int | None = None
    coordinate: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CoordinateStep(Step):
    """A step of one coordinate in one pass: its training, or the evaluation after it."""

    pass_number: int = 0
    coordinate: str = ""

    @property
    def trains(self) -> bool:
        return self.kind != "evaluate"


@dataclass(frozen=True)
class Plan:
    steps: tuple[Step, ...]

    def __getitem__(self, step_id: str) -> Step:
        for step in self.steps:
            if step.id == step_id:
                return step
        raise KeyError(step_id)

    def of_coordinate(self, step_id: str) -> CoordinateStep:
        """Return the training or evaluation with this id. Raises KeyError for any other."""
        step = self[step_id]
        if not isinstance(step, CoordinateStep):
            raise KeyError(step_id)
        return step

    @property
    def before_passes(self) -> list[Step]:
        """Steps whose results all passes, and all trials of a search, share."""
        return [step for step in self.steps if step.pass_number is None and step.kind not in _AFTER_PASSES]

    @property
    def rounds(self) -> list[Step]:
        """Steps of a search, each of which makes some trials; empty without a search."""
        return [step for step in self.steps if step.kind == "trials"]

    def of_pass(self, number: int) -> list[Step]:
        return [step for step in self.steps if step.pass_number == number]

    @property
    def passes(self) -> int:
        return max((step.pass_number or 0 for step in self.steps), default=0)

    def keys(self, of: Fingerprints) -> dict[str, str]:
        """Return the key of every step. of: fingerprints of what lies outside of the configuration"""
        keys: dict[str, str] = {}
        digests = sorted(of.digests.items())
        for step in self.steps:
            upstream: list[Any] = [keys[self._depended_on(step, read)] for read in step.reads] or [of.input]
            if step.kind == "initialize":
                upstream.append(str(of.initial))
                # An earlier network is laid out in the vocabulary of this run.
                upstream += [files for name, files in digests if name in step.settings["coordinates"]]
            if step.kind == "trials" or (isinstance(step, CoordinateStep) and step.trains):
                upstream += [files for name, files in digests if step.coordinate in (name, None)]
            content = json.dumps([FORMAT_VERSION, step.kind, dict(step.settings), upstream], sort_keys=True)
            keys[step.id] = hashlib.sha256(content.encode()).hexdigest()[:24]
        return keys

    def _depended_on(self, step: Step, read: str) -> str:
        """Return the step whose key counts: the training, where only the scores of an evaluation are read.

        That brings the training's scores together, whatever it measures of them.
        """
        earlier = self[read]
        scores_alone = step.coordinate is not None or step.kind == "accelerate"
        if scores_alone and isinstance(earlier, CoordinateStep) and not earlier.trains:
            return train_id(earlier.pass_number, earlier.coordinate)
        return read


def train_id(pass_number: int, coordinate: str) -> str:
    return f"pass_{pass_number:02d}.{coordinate}.train"


def evaluate_id(pass_number: int, coordinate: str) -> str:
    return f"pass_{pass_number:02d}.{coordinate}.evaluate"


def gate_id(pass_number: int) -> str:
    return f"pass_{pass_number:02d}.gate"


def accelerate_id(pass_number: int) -> str:
    return f"pass_{pass_number:02d}.accelerate"


def build_plan(config: Config) -> Plan:
    """Return the steps in an order in which they can run one after another."""
    data = config.model_dump(mode="json")
    steps = [
        Step("validate", "validate", settings=step_settings.of_validate(config, data)),
        Step("partition", "partition", ("validate",), settings=step_settings.of_partition(data)),
    ]
    if scaled := normalized(config):
        sources = {name: {"data": c.data, "bag": c.bag} for name, c in scaled.items()}
        steps.append(Step("summarize", "summarize", ("validate",), settings=sources))
    if config.initial_model is not None:
        initial = step_settings.of_initialize(config, data)
        steps.append(Step("initialize", "initialize", ("partition",), settings=initial))
    if rounds := round_count(config):
        return Plan((*steps, *_search_steps(config, data, steps, rounds)))
    # With a single coordinate a second pass would train the same model on the same offsets again, unless the first one
    # has improved λ: a random effect's is found on a sample of entities before it, and on all of them in it.
    estimated = any(config.coordinates[n].automatic and config.coordinates[n].random_effect for n in trained(config))
    passes = config.passes.max if len(trained(config)) > 1 or estimated else 1
    final = trained(config)[-1]
    for number in range(1, passes + 1):
        if number > 1:
            steps.append(Step(gate_id(number), "gate", (evaluate_id(number - 1, final),), number))
        if names := accelerated(config, number):
            reads = [evaluate_id(number - 1, name) for name in names]
            reads += [accelerate_id(number - 1)] if accelerated(config, number - 1) else []
            steps.append(Step(accelerate_id(number), "accelerate", tuple(reads), number))
        for name in order_of_pass(config, number):
            steps += _coordinate_steps(config, data, number, name)
    last = tuple(evaluate_id(number, final) for number in range(1, passes + 1))
    steps.append(Step("select", "select", last, settings={"passes": data["passes"], "metrics": data["metrics"]}))
    steps.append(Step("export", "export", ("select",), settings=step_settings.of_export(data)))
    return Plan(tuple(steps))


def normalized(config: Config) -> dict[str, Coordinate]:
    """Return the coordinates whose features are scaled for training."""
    return {
        name: coordinate
        for name, coordinate in config.coordinates.items()
        if coordinate.normalization != "none" and coordinate.bag is not None and not coordinate.locked
    }


def trained(config: Config) -> list[str]:
    """Return the coordinates that are neither locked nor external, in order; the last one ends a pass."""
    return [name for name, coordinate in config.coordinates.items() if not coordinate.trained_once]


def order_of_pass(config: Config, pass_number: int) -> list[str]:
    """Return the coordinates that a pass goes through.

    Coordinates with a given model (locked, external) are in the first pass alone, and before all others, so that
    each of these trains on their scores.
    """
    given = [name for name, coordinate in config.coordinates.items() if coordinate.trained_once]
    return [*given, *trained(config)] if pass_number == 1 else trained(config)


def pass_of_model(config: Config, pass_number: int, coordinate: str) -> int:
    """Return the pass that made the coordinate's model which holds at the end of a pass."""
    return 1 if config.coordinates[coordinate].trained_once else pass_number


def accelerated(config: Config, pass_number: int) -> list[str]:
    """Return the coordinates whose scores a pass does not take over from the one before, but extrapolates.

    They are those that are trained after another one of the pass: of the first, no one needs the earlier scores. It
    takes two passes to know a direction, and coordinates whose result follows smoothly from their offsets.
    """
    names = trained(config)
    smooth = all(config.coordinates[name].effect.has_coefficients for name in names)
    return names[1:] if pass_number > 2 and smooth and config.passes.acceleration == "anderson" else []


def _search_steps(config: Config, data: dict[str, Any], shared: list[Step], rounds: int) -> list[Step]:
    """Return the steps of a search in place of passes: rounds of trials, which make the passes in runs of their own."""
    settings = {key: data[key] for key in ("task", "passes", "metrics", "tune", "initial_model")}
    settings["coordinates"] = {name: step_settings.of_coordinate(config, data, name) for name in data["coordinates"]}
    steps: list[Step] = []
    for number in range(1, rounds + 1):
        reads = tuple(step.id for step in [*shared, *steps])
        steps.append(Step(round_id(number), "trials", reads, settings={"round": number, **settings}))
    ids = tuple(step.id for step in steps)
    return [
        *steps,
        Step("select", "select", ids, settings={"metrics": data["metrics"]}),
        Step("export", "export", ("select",), settings=step_settings.of_export(data)),
    ]


def latest_scores(config: Config, pass_number: int, coordinate: str) -> dict[str, int]:
    """Return for every other coordinate the pass whose scores are part of this one's offset; none yet: left out."""
    names = order_of_pass(config, 1)
    at = names.index(coordinate)
    before = {name: pass_of_model(config, pass_number, name) for name in names[:at]}
    # Before the first pass the initial models, as far as there are any, say what the coordinates to come will add.
    known = pass_number > 1 or config.initial_model is not None
    after = dict.fromkeys(names[at + 1 :], pass_number - 1) if known else {}
    return before | after


def _coordinate_steps(config: Config, data: dict[str, Any], number: int, name: str) -> list[Step]:
    latest = {other: p for other, p in latest_scores(config, number, name).items() if p > 0}
    offsets = tuple(evaluate_id(p, other) for other, p in latest.items())
    moved = {other: accelerate_id(number) for other in accelerated(config, number) if latest.get(other) == number - 1}
    begun_with = dict.fromkeys(moved.get(other, evaluate_id(p, other)) for other, p in latest.items())
    warm_start = (train_id(number - 1, name),) if number > 1 else ()
    statistics = ("summarize",) if name in normalized(config) else ()
    initial = ("initialize",) if number == 1 and config.initial_model is not None else ()
    effect = config.coordinates[name].effect
    own = {"task": data["task"], "coordinate": name, "effect": step_settings.of_coordinate(config, data, name)}
    own |= step_settings.of_initial_model(config)
    if effect.uses_metric:
        own |= {"metric": data["metrics"][0], "classes": data["classes"]}
    train = CoordinateStep(
        train_id(number, name),
        effect.training,
        ("partition" if effect.is_sharded else "validate", *statistics, *initial, *begun_with, *warm_start),
        number,
        name,
        own,
    )
    evaluate = CoordinateStep(
        evaluate_id(number, name), "evaluate", (train.id, *offsets), number, name, {"metrics": data["metrics"]}
    )
    return [train, evaluate]
