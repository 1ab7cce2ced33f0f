"""Metric names of the configuration: `auc`, `auc@user_id`, `ndcg@5:query_id`, … and what they mean.

This file is read whenever a pipeline's YAML is, so it imports neither numba nor numpy. The arithmetic is in
all_rows.py, grouped.py, ranking.py and classes.py, which are imported when a metric is evaluated.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from gdmix_core.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from gdmix_core.metrics.all_rows import MetricValue

# What a task gives a row: one margin, one for each class of which one is right, or for each of which any may apply.
Shape = Literal["margin", "multiclass", "multilabel"]

DEFAULT_METRIC: Mapping[str, str] = MappingProxyType(
    {
        "logistic_regression": "auc",
        "linear_regression": "rmse",
        "poisson_regression": "poisson_loss",
        "smoothed_hinge": "auc",
        "multiclass_classification": "accuracy",
        # It needs no threshold: while a network predicts no class yet, its micro F1 says nothing.
        "multilabel_classification": "auc",
    }
)


@dataclass(frozen=True)
class Kind:
    """A sort of metric.

    higher_is_better: None for a matrix, which is neither
    shapes: what it can be computed of; alone: whether over all rows, without a group column
    tasks: those whose margins it is meant for, where it can be computed of others and means little there
    """

    higher_is_better: bool | None
    shapes: tuple[Shape, ...] = ("margin",)
    alone: bool = True
    grouped: Literal["", "COLUMN", "K:COLUMN"] = ""
    tasks: tuple[str, ...] = ()

    def form(self, name: str) -> str:
        return f"{name}@{self.grouped}" if self.grouped else name


_BINARY = ("logistic_regression", "smoothed_hinge", "multiclass_classification", "multilabel_classification")
KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "auc": Kind(True, ("margin", "multilabel"), grouped="COLUMN"),
        "logloss": Kind(False, ("margin", "multilabel"), tasks=("logistic_regression", "multilabel_classification")),
        "rmse": Kind(False, tasks=("linear_regression",)),
        "mse": Kind(False, tasks=("linear_regression",)),
        "poisson_loss": Kind(False, tasks=("poisson_regression",)),
        "smoothed_hinge": Kind(False, tasks=("smoothed_hinge",)),
        "accuracy": Kind(True, ("margin", "multiclass", "multilabel"), tasks=_BINARY),
        "confusion_matrix": Kind(None, ("margin", "multiclass"), tasks=_BINARY),
        "cross_entropy": Kind(False, ("multiclass",)),
        "micro_precision": Kind(True, ("multilabel",)),
        "micro_recall": Kind(True, ("multilabel",)),
        "micro_f1": Kind(True, ("multilabel",)),
        "precision": Kind(True, alone=False, grouped="K:COLUMN"),
        "ndcg": Kind(True, alone=False, grouped="K:COLUMN"),
        "mrr": Kind(True, alone=False, grouped="K:COLUMN"),
    }
)
_DEPTH_AND_COLUMN = re.compile(r"(?P<k>[1-9][0-9]{0,8})\s*:\s*(?P<column>.+)")
_ALLOWED = (
    f"{', '.join(name for name, kind in KINDS.items() if kind.alone)}; "
    f"per group: {', '.join(kind.form(name) for name, kind in KINDS.items() if kind.grouped)}"
)


@dataclass(frozen=True)
class Metric:
    """A parsed metric.

    Parameters
    ----------
    kind
        "auc", "logloss", …
    column
        The group column, if any.
    k
        Depth of precision@k and its like.
    """

    kind: str
    column: str | None = None
    k: int | None = None

    @property
    def name(self) -> str:
        """The canonical spelling; parse_metric(name) gives the same metric back."""
        depth = "" if self.k is None else f"{self.k}:"
        return self.kind if self.column is None else f"{self.kind}@{depth}{self.column}"

    @property
    def is_matrix(self) -> bool:
        """True where its value is not a number, so that it can neither be compared nor be in a table."""
        return KINDS[self.kind].higher_is_better is None

    @property
    def higher_is_better(self) -> bool:
        return bool(KINDS[self.kind].higher_is_better)

    @property
    def arrow(self) -> str:
        """The direction that is better."""
        return "↑" if self.higher_is_better else "↓"

    def better(self, a: float | None, b: float | None) -> bool:
        """True where a is strictly better than b. An undefined value (None, nan) is worse than any other."""
        if a is None or math.isnan(a):
            return False
        if b is None or math.isnan(b):
            return True
        return a > b if self.higher_is_better else a < b

    def fits(self, task: str) -> bool:
        """True where it can be computed of what the task gives."""
        shape = shape_of(task)
        return shape in KINDS[self.kind].shapes and (self.column is None or shape == "margin")

    def foreign_to(self, task: str) -> str | None:
        """Name the task whose metric it is, where that is another one: on this one's margins it means little."""
        tasks = KINDS[self.kind].tasks
        return tasks[0] if tasks and task not in tasks else None

    def evaluate(
        self,
        label: ArrayLike,
        score: ArrayLike,
        weight: ArrayLike | None = None,
        groups: Mapping[str, ArrayLike] | None = None,
    ) -> MetricValue:
        """Return the metric of these rows.

        Parameters
        ----------
        label
            float64 [n]; in the tasks of classes the class, or bool [n, K], which classes apply.
        score
            float64 [n], margins with offsets, without link function; in the tasks of classes float64 [n, K].
        weight
            float64 [n]; None for 1.
        groups
            Column → int64 [n], codes of the groups, 0 … G − 1.

        Returns
        -------
        MetricValue
            Its value is None where the metric is undefined or exceeds float64.

        Raises
        ------
        DataError
            For columns that cannot be used.
        ConfigError
            When the group column is not among `groups`, or the metric is not for such scores.
        """
        from gdmix_core.metrics import all_rows, grouped, ranking

        if self.column is None:
            return _of_all_rows(self.kind, label, score, weight)
        if groups is None or self.column not in groups:
            known = ", ".join(groups or ()) or "none"
            raise ConfigError(
                f"metric {self.name}: the data have no group column {self.column!r} (there are: {known}); "
                "use the entity column of a random effect, or list the column among the group columns"
            )
        codes = groups[self.column]
        if self.k is None:
            return grouped.auc_per_group(label, score, weight, codes)
        to_depth = {
            "precision": grouped.precision_per_group, "ndcg": ranking.ndcg_per_group, "mrr": ranking.mrr_per_group,
        }  # fmt: skip
        found: all_rows.MetricValue = to_depth[self.kind](label, score, weight, codes, self.k)
        return found


def _of_all_rows(kind: str, label: ArrayLike, score: ArrayLike, weight: ArrayLike | None) -> MetricValue:
    import numpy as np

    from gdmix_core.metrics import all_rows, classes

    dimensions = np.ndim(label), np.ndim(score)
    shape: Shape = {(1, 2): "multiclass", (2, 2): "multilabel"}.get(dimensions, "margin")  # type: ignore[assignment]
    if shape not in KINDS[kind].shapes:
        raise ConfigError(f"metric {kind} cannot be computed of {shape} scores")
    if kind == "confusion_matrix":
        matrix = classes.multiclass_confusion if shape == "multiclass" else all_rows.confusion_matrix
        return all_rows.MetricValue(None, matrix=matrix(label, score, weight))
    functions = {
        "margin": all_rows.GLOBAL_METRICS,
        "multiclass": classes.MULTICLASS_METRICS,
        "multilabel": classes.MULTILABEL_METRICS,
    }
    value = functions[shape][kind](label, score, weight)
    return all_rows.MetricValue(value if math.isfinite(value) else None)


def shown_value(value: float | None) -> str:
    """Format a value as tables show it."""
    return "–" if value is None else f"{value:.5f}"


def shape_of(task: str) -> Shape:
    """Name the shape of what the task gives a row."""
    shapes: Mapping[str, Shape] = {
        "multiclass_classification": "multiclass",
        "multilabel_classification": "multilabel",
    }
    return shapes.get(task, "margin")


def metrics_of(task: str) -> str:
    """List the metrics that can be computed of the task, for messages."""
    shape = shape_of(task)
    fitting = {name: kind for name, kind in KINDS.items() if shape in kind.shapes}
    alone = [name for name, kind in fitting.items() if kind.alone]
    grouped = [kind.form(name) for name, kind in fitting.items() if kind.grouped and shape == "margin"]
    return ", ".join([*alone, *grouped])


def parse_metric(text: str) -> Metric:
    """Read a metric's name.

    Parameters
    ----------
    text
        Such as `auc` or `ndcg@5:query_id`; case matters in column names only.

    Returns
    -------
    Metric
        Its `evaluate` gives the metric's value.

    Raises
    ------
    ConfigError
        For an unknown name, with a suggestion.
    """
    written, at, rest = text.partition("@")
    name, rest = written.strip().lower(), rest.strip()
    kind = KINDS.get(name)
    if kind is None:
        raise ConfigError(f"unknown metric {text!r}{_suggestion(name)} Allowed: {_ALLOWED}")
    if at and not kind.grouped:
        raise ConfigError(f"metric {text!r}: {name} has no form per group. Allowed: {_ALLOWED}")
    if kind.grouped == "K:COLUMN":
        parts = _DEPTH_AND_COLUMN.fullmatch(rest)
        if parts is None:
            raise ConfigError(
                f"metric {text!r}: {name} needs a depth of at least 1 and a group column, as in {name}@10:user_id"
            )
        return Metric(name, column=parts["column"], k=int(parts["k"]))
    if at and not rest:
        raise ConfigError(f"metric {text!r}: name the group column after @, as in {name}@user_id")
    return Metric(name, rest or None)


def _suggestion(kind: str) -> str:
    name, _, column = kind.partition(":")
    if name in KINDS and KINDS[name].grouped and column:  # Photon ML's spelling, AUC:user_id
        return f"; per group it is written {KINDS[name].form(name)}."
    close = difflib.get_close_matches(kind, KINDS, n=1, cutoff=0.5)
    if not close:
        return "."
    return f"; did you mean {close[0] if KINDS[close[0]].alone else KINDS[close[0]].form(close[0])}?"
