"""Scores of a model that is trained elsewhere, in the place of those of a trained one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from gdmix_core.config.external import ExternalModel
from gdmix_core.effects.effect import Effect
from gdmix_core.effects.outcome import Outcome

if TYPE_CHECKING:
    from gdmix_core.config.coordinate import Coordinate
    from gdmix_core.config.pipeline import Config
    from gdmix_core.data.ingest.source import Layout
    from gdmix_core.effects.scorer import Format, Scorer
    from gdmix_core.models.exported import Export
    from gdmix_core.training_context import TrainingContext


class ExternalEffect(Effect):
    def preflight(
        self, name: str, coordinate: Coordinate, config: Config, *, data_here: bool
    ) -> Iterator[tuple[str, Callable[[], object]]]:
        from gdmix_core.data.ingest.external_scores import score_files_at

        assert isinstance(coordinate.effect, ExternalModel)
        for path in coordinate.effect.scores if data_here else ():
            yield "scores", partial(score_files_at, name, path.rstrip("/"))

    def train(self, context: TrainingContext, *, group: int | None = None) -> dict[str, Any]:
        from gdmix_core.effects.external.training import copy_scores

        return context.once(lambda: copy_scores(context))

    def export(self, context: TrainingContext, directory: str) -> int:
        from gdmix_core.effects.model_files import export_files

        export_files(context, directory, "")
        return 0

    def scorer(
        self, export: Export, name: str, config: Config, layout: Layout, kind: Format, given: Sequence[str] | None
    ) -> Scorer:
        from gdmix_core.effects.external.given_scores import given_scores

        return given_scores(name, config, layout, given)

    def outcome(self, marker: Mapping[str, Any]) -> Outcome:
        return Outcome("external scores", details="scores taken over")


EFFECT = ExternalEffect()
