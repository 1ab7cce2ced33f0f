"""One small linear model for each entity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gdmix_core.effects.coefficient_effect import CoefficientEffect
from gdmix_core.effects.outcome import Outcome, iterations, whole

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gdmix_core.training_context import TrainingContext


class RandomEffect(CoefficientEffect):
    def train(self, context: TrainingContext, *, group: int | None = None) -> dict[str, Any]:
        from gdmix_core.effects.random.training import train

        return train(context, group=group)

    def use_initial(self, context: TrainingContext, *, group: int | None = None) -> dict[str, Any]:
        from gdmix_core.effects.random.locked import use_initial

        return use_initial(context, group=group)

    def initial_scores(self, context: TrainingContext, split: str) -> NDArray[np.float32] | None:
        from gdmix_core.effects.random.locked import initial_scores

        return initial_scores(context, split)

    def outcome(self, marker: Mapping[str, Any]) -> Outcome:
        trained = marker["entities"] - marker["no_data"]
        converged = marker["converged"]
        left = [
            f"{marker[name]:,} {word}"
            for name, word in (
                ("iteration_limit", "at the iteration limit"),
                ("unbounded", "without a finite optimum"),
                ("no_data", "without training rows"),
            )
            if marker[name]
        ]
        return Outcome(
            kind="random effect",
            models=whole(marker["entities"]),
            coefficients=whole(marker["coefficients"]),
            converged=f"{converged:,} of {trained:,}",
            details=", ".join([*left, f"at most {iterations(marker)}"]),
            doubtful=converged < trained,
        )


EFFECT = RandomEffect()
