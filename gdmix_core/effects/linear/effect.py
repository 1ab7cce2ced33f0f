"""One linear model of all rows as the fixed effect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from gdmix_core.effects.coefficient_effect import CoefficientEffect
from gdmix_core.effects.outcome import Outcome, iterations, whole

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gdmix_core.config.coordinate import Coordinate
    from gdmix_core.training_context import TrainingContext


class LinearEffect(CoefficientEffect):
    def packages(self, name: str, coordinate: Coordinate) -> Iterator[tuple[str, str, str]]:
        workers = coordinate.linear.workers
        if workers > 1 and not coordinate.locked:
            yield "tensorflow", "distributed", f"coordinates.{name}.fixed_effect.workers: {workers}"

    def train(self, context: TrainingContext, *, group: int | None = None) -> dict[str, Any]:
        from gdmix_core.effects.linear.training import train

        return train(context)

    def use_initial(self, context: TrainingContext, *, group: int | None = None) -> dict[str, Any]:
        from gdmix_core.effects.linear.locked import use_initial

        return use_initial(context)

    def initial_scores(self, context: TrainingContext, split: str) -> NDArray[np.float32] | None:
        from gdmix_core.effects.linear.locked import initial_scores

        return initial_scores(context, split)

    def outcome(self, marker: Mapping[str, Any]) -> Outcome:
        unbounded = marker.get("unbounded", False)
        return Outcome(
            kind="fixed effect",
            models="1",
            coefficients=whole(marker["coefficients"]),
            converged="yes" if marker["converged"] else "no",
            details=f"{iterations(marker)}, gradient {marker['gradient']:.2g} (goal {marker['goal']:.2g})"
            + (", without a finite optimum" if unbounded else ""),
            doubtful=not marker["converged"] or unbounded,
        )


EFFECT = LinearEffect()
