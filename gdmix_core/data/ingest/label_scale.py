"""The check whether scores, which are float32, can resolve the labels of a linear model."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

# Scores are rounded to steps of the float32 numbers around them. Up to this share of the labels' standard deviation
# the rounding, which every coordinate's scores have, is lost in what a model leaves unexplained.
_LARGEST_STEP = 1e-4


@dataclass
class LabelScale:
    """The size and spread of the target that scores have to reach, label − offset. squares: Σ (target − mean)²."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    largest: float = 0.0

    @classmethod
    def of(cls, label: NDArray[np.float64], offset: NDArray[np.float64]) -> LabelScale:
        if len(label) == 0:
            return cls()
        target = label - offset
        mean = float(np.mean(target))
        return cls(len(target), mean, float(np.sum((target - mean) ** 2)), float(np.max(np.abs(target))))

    @classmethod
    def together(cls, parts: Iterable[LabelScale]) -> LabelScale:
        """Join the parts without cancellation, by the formulas of Chan, Golub and LeVeque (1979)."""
        total = cls()
        for part in parts:
            count = total.count + part.count
            if part.count:
                gap = part.mean - total.mean
                total.squares += part.squares + gap * gap * total.count * part.count / count
                total.mean += gap * part.count / count
                total.count, total.largest = count, max(total.largest, part.largest)
        return total

    @property
    def spread(self) -> float:
        """The standard deviation."""
        return math.sqrt(self.squares / self.count) if self.count else 0.0

    @property
    def step(self) -> float:
        """The distance between float32 numbers at the largest target; infinite beyond their range."""
        if self.largest > float(np.finfo(np.float32).max):
            return math.inf
        return float(np.spacing(np.float32(self.largest)))

    def warning(self, label: str) -> str | None:
        """Return a warning with advice if scores are too coarse. Labels that are all the same need no resolution."""
        if self.spread == 0.0 or self.step <= _LARGEST_STEP * self.spread:
            return None
        coarse = f"in steps of {self.step:.4g}" if math.isfinite(self.step) else "not at all"
        return (
            f"scores are float32 and cannot resolve the labels: column {label} goes up to {self.largest:.6g} (less the "
            f"offset), where float32 holds numbers {coarse}, and its standard deviation is {self.spread:.4g}. Subtract "
            f"the mean ({self.mean:.15g}) from the label, and divide it by its standard deviation if it is large, then "
            "add them to the scores again; or give the mean as the offset"
        )

    as_json = asdict
