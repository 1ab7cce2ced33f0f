"""The common part of effects whose models are coefficients of features."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gdmix_core.effects.effect import Effect

if TYPE_CHECKING:
    from gdmix_core.config.pipeline import Config
    from gdmix_core.data.ingest.source import Layout
    from gdmix_core.effects.scorer import Format, Scorer
    from gdmix_core.models.exported import Export
    from gdmix_core.training_context import TrainingContext


class CoefficientEffect(Effect):
    def export(self, context: TrainingContext, directory: str) -> int:
        from gdmix_core.effects.model_files import export_coefficients

        return export_coefficients(context, directory)

    def _scorer(self, export: Export, name: str, config: Config, layout: Layout, kind: Format) -> Scorer:
        from gdmix_core.effects.coefficient_scorer import coefficient_scorer

        return coefficient_scorer(export, name, config, layout, kind)
