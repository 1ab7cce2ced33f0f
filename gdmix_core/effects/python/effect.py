"""A model that a function of the user's own trains: its scores, and the files that it leaves."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from gdmix_core.effects.effect import Effect
from gdmix_core.effects.outcome import Outcome, other_values
from gdmix_core.effects.python.trainer_function import settings_of, trainer_function

if TYPE_CHECKING:
    from gdmix_core.config.coordinate import Coordinate
    from gdmix_core.config.pipeline import Config
    from gdmix_core.data.ingest.source import Layout
    from gdmix_core.effects.scorer import Format, Scorer
    from gdmix_core.models.exported import Export
    from gdmix_core.training_context import TrainingContext


class PythonEffect(Effect):
    def preflight(
        self, name: str, coordinate: Coordinate, config: Config, *, data_here: bool
    ) -> Iterator[tuple[str, Callable[[], object]]]:
        # Imported, as the step itself will do: only so it shows that what it imports is there, too.
        yield "function", partial(trainer_function, name, settings_of(coordinate).function)

    def files(self, name: str, coordinate: Coordinate) -> dict[str, str]:
        """Return the source of the module that is named, and of the one that the function comes from; not of what these
        import."""
        path = settings_of(coordinate).function
        function = inspect.unwrap(trainer_function(name, path))
        modules = [path.partition(":")[0]]
        if inspect.isfunction(function) or inspect.isclass(function):
            modules.append(function.__module__)
        files = {module: getattr(sys.modules.get(module), "__file__", None) for module in modules}
        return {f"module: {module}": file for module, file in files.items() if file and os.path.exists(file)}

    def train(self, context: TrainingContext, *, group: int | None = None) -> dict[str, Any]:
        from gdmix_core.effects.python.training import train

        return train(context)

    def export(self, context: TrainingContext, directory: str) -> int:
        from gdmix_core.effects.model_files import export_files
        from gdmix_core.effects.python.training import FILES

        export_files(context, directory, FILES)
        return 1

    def scorer(
        self, export: Export, name: str, config: Config, layout: Layout, kind: Format, given: Sequence[str] | None
    ) -> Scorer:
        from gdmix_core.effects.external.given_scores import given_scores

        return given_scores(name, config, layout, given)

    def outcome(self, marker: Mapping[str, Any]) -> Outcome:
        return Outcome("own trainer", details=other_values(marker))


EFFECT = PythonEffect()
