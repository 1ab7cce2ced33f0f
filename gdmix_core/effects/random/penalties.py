"""The penalties and bounds of a random effect's coefficients, feature by feature."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gdmix_core.config.coordinate import Coordinate
from gdmix_core.data.checked_arrays import integers, reals, refuse
from gdmix_core.errors import DataError
from gdmix_core.solvers.empirical_bayes.fixed_point import START_VARIANCE, group_count, group_of


@dataclass(frozen=True)
class Penalties:
    """Penalties and bounds by feature, the intercept first: position j + 1 is feature j's. All in the features' units.

    Parameters
    ----------
    l2
        float64 [features + 1], the precisions λ.
    l1
        float64 [features + 1], or None where there is none.
    lower, upper
        float64 [features + 1], infinite without a bound; None if nothing is bounded.
    variance
        float64 [groups], prior variances σ² that l2 was made from; empty where λ is given.
    group
        int32 [features + 1], which of them; empty likewise.

    Raises
    ------
    DataError
        For arrays that do not fit together, weights below 0, and bounds that leave nothing between them.
    """

    l2: NDArray[np.float64]
    l1: NDArray[np.float64] | None
    lower: NDArray[np.float64] | None
    upper: NDArray[np.float64] | None
    variance: NDArray[np.float64]
    group: NDArray[np.int32]

    def __post_init__(self) -> None:
        """Check all: kernels index by groups, and take every number as it is."""
        entries = len(self.l2)
        arrays: dict[str, NDArray | None] = {
            name: None if values is None else reals(values, f"penalties.{name}", entries)
            for name, values in (("l2", self.l2), ("l1", self.l1))
        }
        for name, array in arrays.items():
            if array is not None:
                refuse(array < 0.0, array, f"penalties.{name}", "0 or more")
        if self.lower is not None or self.upper is not None:
            lower, upper = (
                np.full(entries, end) if values is None else _ends(values, f"penalties.{name}", entries)
                for name, values, end in (("lower", self.lower, -np.inf), ("upper", self.upper, np.inf))
            )
            refuse(lower > upper, lower, "penalties.lower", "at most penalties.upper")
            arrays |= {"lower": lower, "upper": upper}
        variance = reals(self.variance, "penalties.variance")
        refuse(variance <= 0.0, variance, "penalties.variance", "above 0")
        group = integers(self.group, "penalties.group", entries if len(variance) else 0)
        refuse((group < 0) | (group >= len(variance)), group, "penalties.group", f"from 0 to {len(variance) - 1}")
        for name, array in (arrays | {"variance": variance, "group": group.astype(np.int32)}).items():
            object.__setattr__(self, name, array)

    def with_variance(self, variance: NDArray[np.float64]) -> Penalties:
        """Return the same under other prior variances of l2: auto, float64 [groups]."""
        return replace(self, l2=self.l2 * (self.variance / variance)[self.group], variance=variance)

    @property
    def is_smooth(self) -> bool:
        return self.l1 is None and self.lower is None


def penalties_of(
    settings: Coordinate,
    features: int,
    *,
    variance: NDArray[np.float64] | None = None,
    factor: NDArray[np.float64] | None = None,
    limits: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
) -> Penalties:
    """Return the penalties of a random effect's coefficients.

    Parameters
    ----------
    settings
        The random effect's.
    features
        Length of the feature list.
    variance
        float64 [groups], prior variances under `l2: auto`; None for 1.
    factor
        float64 [features], by which normalisation multiplies each feature. A penalty is one of the normalised feature's
        coefficient w / factor, so it becomes l2 / factor² and l1 / factor.
    limits
        (lower, upper), float64 [features + 1] each, infinite where there is no bound.

    Returns
    -------
    Penalties
        In the features' units.
    """
    scale = np.ones(features + 1)
    if factor is not None:
        scale[1:] = factor
    own: NDArray[np.float64] = np.empty(0)
    group: NDArray[np.int32] = np.empty(0, np.int32)
    if settings.automatic is not None:
        mode = settings.automatic.auto
        own = np.full(group_count(mode, features), START_VARIANCE) if variance is None else variance
        group = group_of(mode, np.arange(-1, features, dtype=np.int32))
        l2 = 1.0 / own[group]
    else:
        l2 = np.full(features + 1, settings.l2_weight)
    l1 = np.full(features + 1, settings.l1_weight) if settings.l1_weight else None
    if settings.automatic is None and not settings.regularize_intercept:
        l2[0] = 0.0
        if l1 is not None:
            l1[0] = 0.0
    bounded = limits is not None and bool(np.isfinite(limits[0]).any() or np.isfinite(limits[1]).any())
    lower, upper = limits if limits is not None and bounded else (None, None)
    return Penalties(l2 / scale**2, None if l1 is None else l1 / scale, lower, upper, own, group)


def _ends(values: NDArray[np.float64], what: str, length: int) -> NDArray[np.float64]:
    """Check bounds, which may be infinite."""
    array = np.ascontiguousarray(values, np.float64)
    if array.shape != (length,):
        raise DataError(f"{what}: must be of shape [{length}], not {list(array.shape)}")
    refuse(np.isnan(array), array, what, "a number, or infinite where there is no bound")
    return array
