"""Metric names of the configuration: `auc`, `auc@user_id`, `precision@10:user_id`, … and what they mean.

This file is read whenever a pipeline's YAML is, so it imports neither numba nor numpy. The arithmetic is in
metrics.py and grouped.py, which are imported when a metric is evaluated.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from gdmix_core.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from gdmix_core.evaluation.metrics import MetricValue

DEFAULT_METRIC: Mapping[str, str] = MappingProxyType(
    {
        "logistic_regression": "auc",
        "linear_regression": "rmse",
        "poisson_regression": "poisson_loss",
        "smoothed_hinge": "auc",
    }
)

_HIGHER_IS_BETTER = {
    "auc": True,
    "logloss": False,
    "rmse": False,
    "mse": False,
    "poisson_loss": False,
    "smoothed_hinge": False,
    "precision": True,
}
# A loss of one task measures nothing on the margins of another.
TASK_OF_METRIC: Mapping[str, str] = MappingProxyType(
    {
        "logloss": "logistic_regression",
        "rmse": "linear_regression",
        "mse": "linear_regression",
        "poisson_loss": "poisson_regression",
        "smoothed_hinge": "smoothed_hinge",
    }
)
_GROUPED_FORMS = {"auc": "auc@COLUMN", "precision": "precision@K:COLUMN"}
_DEPTH_AND_COLUMN = re.compile(r"(?P<k>[1-9][0-9]{0,8})\s*:\s*(?P<column>.+)")
_ALLOWED = "auc, logloss, rmse, mse, poisson_loss, smoothed_hinge; per group: auc@COLUMN, precision@K:COLUMN"


@dataclass(frozen=True)
class Metric:
    """A parsed metric. kind: "auc", "logloss", …; column: the group column; k: depth of precision@k."""

    kind: str
    column: str | None = None
    k: int | None = None

    @property
    def name(self) -> str:
        """The canonical spelling; parse_metric(name) gives the same metric back."""
        depth = "" if self.k is None else f"{self.k}:"
        return self.kind if self.column is None else f"{self.kind}@{depth}{self.column}"

    @property
    def higher_is_better(self) -> bool:
        return _HIGHER_IS_BETTER[self.kind]

    def better(self, a: float | None, b: float | None) -> bool:
        """Whether a is strictly better than b. An undefined value (None, nan) is worse than any other."""
        if a is None or math.isnan(a):
            return False
        if b is None or math.isnan(b):
            return True
        return a > b if self.higher_is_better else a < b

    def evaluate(
        self,
        label: ArrayLike,
        score: ArrayLike,
        weight: ArrayLike | None = None,
        groups: Mapping[str, ArrayLike] | None = None,
    ) -> MetricValue:
        """The metric of these rows.

        label, score (margin with offsets, no link function), weight: float64 [n]; groups: column -> int64 [n]
        codes of the groups, 0 … G-1. Value None where the metric is undefined or exceeds float64. Raises
        DataError for unusable columns, ConfigError when the group column is not among `groups`.
        """
        from gdmix_core.evaluation import grouped, metrics

        if self.column is None:
            value = metrics.GLOBAL_METRICS[self.kind](label, score, weight)
            return metrics.MetricValue(value if math.isfinite(value) else None)
        if groups is None or self.column not in groups:
            known = ", ".join(groups or ()) or "none"
            raise ConfigError(
                f"metric {self.name}: the data have no group column {self.column!r} (there are: {known}); "
                "use the entity column of a random effect, or list the column among the group columns"
            )
        codes = groups[self.column]
        if self.k is None:
            return grouped.auc_per_group(label, score, weight, codes)
        return grouped.precision_per_group(label, score, weight, codes, self.k)


def parse_metric(text: str) -> Metric:
    """Reads a metric's name; case matters in column names only. Raises ConfigError, with a suggestion."""
    written, at, rest = text.partition("@")
    kind, rest = written.strip().lower(), rest.strip()
    if kind not in _HIGHER_IS_BETTER:
        raise ConfigError(f"unknown metric {text!r}{_suggestion(kind)} Allowed: {_ALLOWED}")
    if at and kind not in _GROUPED_FORMS:
        raise ConfigError(f"metric {text!r}: {kind} has no form per group. Allowed: {_ALLOWED}")
    if kind == "precision":
        parts = _DEPTH_AND_COLUMN.fullmatch(rest)
        if parts is None:
            raise ConfigError(
                f"metric {text!r}: precision needs a depth of at least 1 and a group column, as in precision@10:user_id"
            )
        return Metric(kind, column=parts["column"], k=int(parts["k"]))
    if at and not rest:
        raise ConfigError(f"metric {text!r}: name the group column after @, as in {kind}@user_id")
    return Metric(kind, rest or None)


def _suggestion(kind: str) -> str:
    name, _, column = kind.partition(":")
    if name in _GROUPED_FORMS and column:  # Photon ML's spelling, AUC:user_id
        return f"; per group it is written {_GROUPED_FORMS[name]}."
    close = difflib.get_close_matches(kind, _HIGHER_IS_BETTER, n=1, cutoff=0.5)
    if not close:
        return "."
    return f"; did you mean {'precision@K:COLUMN' if close[0] == 'precision' else close[0]}?"
