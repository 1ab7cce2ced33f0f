"""The contents of a report, gathered from the run's directory: plain values, nothing of how they are shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from gdmix_core import storage
from gdmix_core.config.pipeline import TASKS_OF_CLASSES
from gdmix_core.config.search_space import searched, shown_name, shown_values
from gdmix_core.data.frame import Frame
from gdmix_core.data.ingest.validation import report_path
from gdmix_core.effects.effect import effect_of
from gdmix_core.effects.outcome import Outcome, of_locked
from gdmix_core.evaluation.selection import deciding_split, evaluated
from gdmix_core.metrics.registry import shown_value
from gdmix_core.pipeline.plan import train_id
from gdmix_core.pipeline.run import SPLITS, Run, read_recorded
from gdmix_core.search.selection import selected_run
from gdmix_core.search.trials import finished_trials


@dataclass(frozen=True)
class Evaluation:
    """The whole model after a coordinate was trained.

    metrics: {split: {metric: value or None}}; matrices: {split: {metric: rows}}
    l2: λ by l2: auto, {used, next}, or None; training: the marker of the coordinate's training; outcome: how it ended
    moved: share of the margins' spread by which the pass moved the coordinate's scores; None in the first
    best: whether it ends the pass that was selected
    """

    pass_number: int
    coordinate: str
    outcome: Outcome
    metrics: Mapping[str, Mapping[str, float | None]]
    matrices: Mapping[str, Mapping[str, list[list[float]]]]
    l2: Mapping[str, Any] | None
    moved: float | None
    training: Mapping[str, Any]
    ends_pass: bool
    best: bool


@dataclass(frozen=True)
class Trial:
    """A trial of a search; parameters by the names that tables show."""

    number: int
    parameters: Mapping[str, float]
    pass_number: int
    value: float | None
    metrics: Mapping[str, float | None]
    best: bool


@dataclass(frozen=True)
class Report:
    """split: the one that decides, validation where there is one; rows: of both. validation: validate's report.

    class_names: of the classes that a matrix's rows and columns stand for
    """

    run: Run
    split: str
    rows: Mapping[str, int]
    validation: Mapping[str, Any] | None
    best: Mapping[str, Any] | None = None
    evaluations: Sequence[Evaluation] = ()
    trials: Sequence[Trial] = ()
    class_names: Sequence[str] = ()

    @property
    def verdict(self) -> str:
        """The chosen model in a sentence."""
        if not _is_validated(self.run):
            checks = (self.validation or {}).get("checks", {})
            broken = [f"{name} ({check['broken']:,})" for name, check in checks.items() if check["broken"]]
            what = f"it breaks {len(broken)} rules: {', '.join(broken)}" if broken else "it cannot be trained on"
            return f"The input was refused by validate: {what}. Nothing was trained."
        if self.best is None:
            return "No model is selected yet."
        value = "undefined" if self.best["value"] is None else shown_value(self.best["value"])
        where = f"pass {self.best['pass']}"
        if self.trials:
            where = f"trial {self.best['trial']} ({shown_values(self.best['parameters'])}), {where}"
        return f"Best by {self.best['metric']}: {where}, with {value}."

    @property
    def learning_curves(self) -> list[Evaluation]:
        return [one for one in self.evaluations if one.training.get("curve")]

    @property
    def versions(self) -> Mapping[str, str]:
        """The versions of the libraries that the run was made with."""
        return read_recorded(self.run.path("config.yaml")).get("versions", {})

    @property
    def configuration(self) -> str:
        content = self.run.config.model_dump(mode="json", exclude_defaults=True)
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)


def read_report(run: Run) -> Report:
    """Read everything that is there of a run, which need not be finished. Raises StepError before validate is done."""
    validation = storage.read_json(path) if storage.exists(path := report_path(run)) else None
    if validation is not None and not _is_validated(run):
        # There is no frame, but what is wrong with the input is known.
        return Report(run, "training", _rows(validation), validation)
    manifest = run.result("validate")
    split = deciding_split(run)
    best = run.result("select") if run.is_done(run.plan["select"]) else None
    evaluated_run: Run | None = run
    if run.plan.rounds:
        evaluated_run = None if best is None else selected_run(run)
    return Report(
        run,
        split,
        _rows(manifest),
        validation,
        best,
        evaluations=list(_evaluations(evaluated_run)) if evaluated_run else [],
        trials=_trials(run, split, best) if run.plan.rounds else [],
        class_names=_class_names(run),
    )


def _is_validated(run: Run) -> bool:
    return storage.exists(run.marker(run.plan["validate"]))


def _rows(counted: Mapping[str, Any]) -> dict[str, int]:
    return {name: int(counted["splits"][name]["rows"]) for name in SPLITS}


def _evaluations(run: Run) -> Iterator[Evaluation]:
    best = run.result("select")["pass"] if run.is_done(run.plan["select"]) else None
    for number, name, last, result in evaluated(run):
        coordinate, training = run.config.coordinates[name], run.result(train_id(number, name))
        yield Evaluation(
            pass_number=number,
            coordinate=name,
            outcome=of_locked(training) if coordinate.locked else effect_of(coordinate.kind).outcome(training),
            metrics=result["metrics"],
            matrices=result.get("matrices", {}),
            l2=result.get("l2"),
            moved=result["moved"]["share"] if "moved" in result else None,
            training=training,
            ends_pass=last,
            best=last and number == best,
        )


def _trials(run: Run, split: str, best: Mapping[str, Any] | None) -> list[Trial]:
    paths = list(searched(run.config))
    return [
        Trial(
            number=result["trial"],
            parameters={shown_name(path): result["parameters"][path] for path in paths},
            pass_number=result["pass"],
            value=result["value"],
            metrics=result["metrics"][split],
            best=best is not None and result["trial"] == best["trial"],
        )
        for result in finished_trials(run)
    ]


def _class_names(run: Run) -> list[str]:
    if run.config.task not in TASKS_OF_CLASSES:
        return ["0", "1"]
    frame = Frame(run)
    key = frame.manifest.get("label_bag")
    if key is None:
        return [str(number) for number in range(run.config.classes or 0)]
    return [f"{name} {term}".strip() for name, term in frame.feature_list(key).names]
