"""A text network as the fixed effect."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from gdmix_core import storage
from gdmix_core.effects.effect import Effect
from gdmix_core.effects.outcome import Outcome, whole
from gdmix_core.errors import DataError
from gdmix_core.models.network_files import INPUTS, SAVED_MODEL, WEIGHTS

if TYPE_CHECKING:
    from gdmix_core.config.coordinate import Coordinate
    from gdmix_core.config.pipeline import Config
    from gdmix_core.config.text import TextModel
    from gdmix_core.data.ingest.source import Layout
    from gdmix_core.effects.scorer import Format, Scorer
    from gdmix_core.models.exported import Export
    from gdmix_core.training_context import TrainingContext


class TextEffect(Effect):
    def packages(self, name: str, coordinate: Coordinate) -> Iterator[tuple[str, str, str]]:
        yield "tensorflow", "text", f"coordinates.{name}.fixed_effect.model: text"

    def preflight(
        self, name: str, coordinate: Coordinate, config: Config, *, data_here: bool
    ) -> Iterator[tuple[str, Callable[[], object]]]:
        from gdmix_core.config.text_files import faults_of_text_files

        for part, fault in faults_of_text_files(coordinate.text):
            yield part, partial(_raise, fault)
        yield "mode", partial(_check_parameter_servers, coordinate.text, config.output)

    def files(self, name: str, coordinate: Coordinate) -> dict[str, str]:
        """Return the vocabulary, and those files of an encoder's folder that are read."""
        from gdmix_core.config.text_files import encoder_files, encoder_folder, vocabulary_path

        vocabulary, folder = vocabulary_path(coordinate.text), encoder_folder(coordinate.text)
        files = {} if vocabulary is None else {"vocabulary": vocabulary}
        read = [path for path in encoder_files(folder) if os.path.exists(path)] if folder is not None else []
        return files | {f"encoder: {os.path.basename(path)}": path for path in read}

    def train(self, context: TrainingContext, *, group: int | None = None) -> dict[str, Any]:
        from gdmix_core.effects.text.training import train

        return train(context)

    def use_initial(self, context: TrainingContext, *, group: int | None = None) -> dict[str, Any]:
        from gdmix_core.effects.text.training import copy_initial

        return context.once(lambda: copy_initial(context))

    def export(self, context: TrainingContext, directory: str) -> int:
        from gdmix_core.effects.model_files import export_files

        # What a later run starts from; a locked network may come from an export that has none.
        export_files(context, directory, SAVED_MODEL, beside=(WEIGHTS, INPUTS))
        return 1

    def _scorer(self, export: Export, name: str, config: Config, layout: Layout, kind: Format) -> Scorer:
        from gdmix_core.effects.text.scorer import network_scorer

        export.coordinate_files(name)  # known to be whole before TensorFlow reads them by itself
        return network_scorer(export.directory, name, config, layout)

    def outcome(self, marker: Mapping[str, Any]) -> Outcome:
        best = marker.get("best_value")
        details = [
            f"{marker.get('epochs', 0):g} epochs, {marker.get('steps', 0):,} steps",
            f"best {marker.get('metric')} {best:.5f} at step {marker['best_step']:,}" if best is not None else "",
            f"{marker['rows_per_second']:,.0f} rows/s" if "rows_per_second" in marker else "",
        ]
        return Outcome(
            kind="text network",
            models="1",
            coefficients=whole(marker.get("weights")),
            converged="stopped early" if marker.get("stopped_early") else "all epochs",
            details=", ".join(filter(None, details)),
        )


def _raise(fault: str) -> None:
    raise DataError(fault)


def _check_parameter_servers(effect: TextModel, output: str) -> None:
    if effect.mode == "parameter_server" and storage.local_path(output) is None:
        raise DataError(
            "parameter_server trains from files that TensorFlow reads by itself, so output must be a folder that every "
            f"worker sees, not the URL {output}; or use mode: synchronous"
        )


EFFECT = TextEffect()
